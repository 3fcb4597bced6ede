package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// tokenLimit bounds a token server's answer; registries issue up to some 10 KiB.
const tokenLimit = 1 << 20

// token asks a token server (distribution's token specification): GET with the
// login, or POST as OAuth2 when there is an identity token.
func (c *Client) token(ctx context.Context, e *endpoint, ch challenge, more []string, l login, wanted string) (*grant, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" {
		return nil, &problem{message: fmt.Sprintf("the token server %q is not a URL", oneLine(ch.params["realm"])), class: errUnusable}
	}
	if e.scheme == "https" && !e.fallback && realm.Scheme != "https" && !isLoopback(realm.Host) && !l.empty() {
		return nil, &problem{message: "the token server " + realm.Host + " is asked in plain HTTP by a registry that speaks HTTPS: the login is not sent", class: errdefs.ErrUnauthenticated}
	}
	ask := &call{method: http.MethodGet, query: url.Values{}, header: http.Header{}, thing: "token server"}
	scopes := tokenScopes(ch.params["scope"], wanted, more)
	if l.identityToken != "" {
		ask.post(url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {l.identityToken},
			"service": {ch.params["service"]}, "client_id": {c.opts.UserAgent}, "scope": {strings.Join(scopes, " ")},
		})
	} else {
		ask.query["scope"] = scopes
		if s := ch.params["service"]; s != "" {
			ask.query.Set("service", s)
		}
		if l.username != "" {
			ask.query.Set("account", l.username)
			ask.header.Set("Authorization", basic(l.username, l.password))
		}
	}
	ask.url = realm.String()
	return c.askToken(ctx, e, ask, l)
}

// post makes the call an OAuth2 form.
func (call *call) post(form url.Values) {
	body := form.Encode()
	call.method = http.MethodPost
	call.header.Set("Content-Type", "application/x-www-form-urlencoded")
	call.size = int64(len(body))
	call.body = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
}

func (c *Client) askToken(ctx context.Context, e *endpoint, ask *call, l login) (*grant, error) {
	resp, err := c.send(ctx, e, ask, nil)
	host := mustParse(ask.url).Host
	if err != nil {
		return nil, fmt.Errorf("token server %s: %w", host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, tokenRefusal(answerError(resp, "token server", time.Now()), host, e, l)
	}
	defer resp.Body.Close()
	data, err := readAll(resp.Body, tokenLimit, "token")
	if err != nil {
		return nil, fmt.Errorf("token server %s: %w", host, connectionError(err, e))
	}
	header, expires, err := parseToken(data, time.Now())
	if err != nil {
		return nil, fmt.Errorf("token server %s: %w", host, err)
	}
	return &grant{header: header, expires: expires, who: l.describe()}, nil
}

// tokenRefusal explains a token server's no. It often says 400 or 403 where a
// login is wrong.
func tokenRefusal(refusal *statusError, host string, e *endpoint, l login) error {
	if refusal.status < 500 && refusal.status != http.StatusTooManyRequests && refusal.status != http.StatusRequestTimeout {
		refusal.class = errdefs.ErrUnauthenticated
		refusal.advice = howToLogIn(e)
		if !l.empty() {
			refusal.advice = fmt.Sprintf("the login of %s was refused; %s", l.describe(), refusal.advice)
		}
	}
	return fmt.Errorf("token server %s: %w", host, refusal)
}

// tokenScopes are the scopes to ask for: the registry's own words where it
// gave some (a mirror may call the repository otherwise), with the actions that
// the next requests need; else what is wanted.
func tokenScopes(challenged, wanted string, more []string) []string {
	scopes := strings.Fields(challenged)
	if len(scopes) == 0 && wanted != "" {
		scopes = []string{wanted}
	}
	for i, s := range scopes {
		scopes[i] = widen(s, wanted)
	}
	for _, s := range more {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// widen adds the actions of the wanted scope to a scope of the same resource:
// repository:x:pull and repository:x:pull,push.
func widen(scope, wanted string) string {
	i, j := strings.LastIndex(scope, ":"), strings.LastIndex(wanted, ":")
	if i < 0 || j < 0 || scope[:i] != wanted[:j] {
		return scope
	}
	actions := strings.Split(scope[i+1:], ",")
	for _, a := range strings.Split(wanted[j+1:], ",") {
		if !slices.Contains(actions, a) {
			actions = append(actions, a)
		}
	}
	return scope[:i+1] + strings.Join(actions, ",")
}

// parseToken reads a token server's answer. A token lives 60 s unless it is
// said otherwise, and is renewed when nine tenths of its life are over.
func parseToken(data []byte, now time.Time) (header string, expires time.Time, err error) {
	var doc struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", time.Time{}, &problem{message: "the answer is not a token: " + err.Error(), class: errUnusable}
	}
	if doc.Token == "" {
		doc.Token = doc.AccessToken
	}
	if doc.Token == "" || strings.ContainsAny(doc.Token, "\r\n\x00") {
		return "", time.Time{}, &problem{message: "the answer has no usable token", class: errUnusable}
	}
	seconds := doc.ExpiresIn
	if seconds <= 0 || seconds > 1e6 {
		seconds = 60
	}
	return "Bearer " + doc.Token, now.Add(time.Duration(seconds*0.9) * time.Second), nil
}

package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// grant is an Authorization header and what it was given for.
type grant struct {
	header  string
	expires time.Time // zero: does not
	who     string    // whose login it is, for messages
}

// kind says how a request identifies itself, for the trace.
func (g *grant) kind(req *http.Request) string {
	scheme, _, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if scheme == "" {
		return "none"
	}
	if g == nil {
		return strings.ToLower(scheme) + " from hosts.toml"
	}
	return strings.ToLower(scheme) + " as " + g.who
}

// authorizer remembers grants per host and scope, so that only the first
// request of each pays for the way to the token server.
type authorizer struct {
	mu     sync.Mutex
	grants map[string]*grant
	asking map[string]*asking
}

// asking makes concurrent requests for one scope wait for one token.
type asking struct {
	mu    sync.Mutex
	users int
}

func grantKey(e *endpoint, call *call) string {
	return strings.Join(append([]string{e.url(), call.scope}, call.more...), " ")
}

// known returns a grant that is still valid, or nil. Requests to another host
// (a redirected upload) get none.
func (a *authorizer) known(e *endpoint, call *call) *grant {
	if !sameHost(mustParse(call.url), mustParse(e.url())) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.grants[grantKey(e, call)]
	if g == nil || !g.expires.IsZero() && time.Now().After(g.expires) {
		return nil
	}
	return g
}

func (a *authorizer) remember(key string, g *grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.grants == nil {
		a.grants = map[string]*grant{}
	}
	a.grants[key] = g
}

// exclusive waits until nobody else asks for the same grant.
func (a *authorizer) exclusive(key string) (release func()) {
	a.mu.Lock()
	if a.asking == nil {
		a.asking = map[string]*asking{}
	}
	turn := a.asking[key]
	if turn == nil {
		turn = &asking{}
		a.asking[key] = turn
	}
	turn.users++
	a.mu.Unlock()
	turn.mu.Lock()
	return func() {
		turn.mu.Unlock()
		a.mu.Lock()
		defer a.mu.Unlock()
		if turn.users--; turn.users == 0 {
			delete(a.asking, key)
		}
	}
}

// renew answers a 401. refused is the grant that was not enough, nil if none
// was shown; the second refusal of a fresh grant is final.
func (c *Client) renew(ctx context.Context, e *endpoint, call *call, refused *grant, challenges []challenge, refusal *statusError, renewed int) (*grant, error) {
	if len(e.header.Values("Authorization")) > 0 {
		refusal.advice = "the Authorization header in " + e.source + " was refused"
		return nil, refusal
	}
	if !sameHost(mustParse(call.url), mustParse(e.url())) {
		refusal.advice = "another host asks for a login, which it is not given"
		return nil, refusal
	}
	if renewed > 0 && refused != nil {
		return nil, c.refusedLogin(e, refused, refusal)
	}
	key := grantKey(e, call)
	release := c.auth.exclusive(key)
	defer release()
	if g := c.auth.known(e, call); g != nil && g != refused {
		return g, nil
	}
	g, err := c.obtain(ctx, e, call, challenges, refusal)
	if err != nil {
		return nil, err
	}
	if refused != nil && g.header == refused.header {
		return nil, c.refusedLogin(e, refused, refusal)
	}
	c.auth.remember(key, g)
	return g, nil
}

// refusedLogin says whose login was not enough, and how to log in.
func (c *Client) refusedLogin(e *endpoint, g *grant, refusal *statusError) error {
	if g.who == anonymous {
		refusal.advice = "it is not public, or does not exist; " + howToLogIn(e)
	} else {
		refusal.advice = fmt.Sprintf("the login of %s was refused, or has no access; %s", g.who, howToLogIn(e))
	}
	return refusal
}

func howToLogIn(e *endpoint) string {
	host := e.host
	if host == dockerHost {
		host = dockerDomain
	}
	return fmt.Sprintf("log in with \"mininerd login %s\" or \"docker login %s\", or pass --user", host, host)
}

// obtain gets a grant for the first challenge that can be met; Bearer before
// Basic.
func (c *Client) obtain(ctx context.Context, e *endpoint, call *call, challenges []challenge, refusal *statusError) (*grant, error) {
	login, loginErr := c.login(ctx, e)
	if loginErr != nil {
		c.log.WarnContext(ctx, "credentials cannot be read, continuing without", "host", e.host, "error", loginErr)
	}
	if login.registryToken != "" {
		return &grant{header: "Bearer " + login.registryToken, who: login.describe()}, nil
	}
	for _, ch := range challenges {
		if ch.scheme == "bearer" && ch.params["realm"] != "" {
			g, err := c.token(ctx, e, ch, append([]string{}, call.more...), login, call.scope)
			if err != nil && loginErr != nil {
				err = fmt.Errorf("%w (%w)", err, loginErr)
			}
			return g, err
		}
	}
	for _, ch := range challenges {
		if ch.scheme != "basic" {
			continue
		}
		if login.username == "" && login.password == "" {
			refusal.advice = howToLogIn(e)
			if loginErr != nil {
				refusal.advice += "; " + loginErr.Error()
			}
			return nil, refusal
		}
		return &grant{header: basic(login.username, login.password), who: login.describe()}, nil
	}
	refusal.advice = "the registry names no way to log in that is known here (Bearer, Basic)"
	return nil, refusal
}

// challenge is one of the ways to log in that a host offers.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads WWW-Authenticate (RFC 9110 section 11.6.1): several
// challenges may share a header, separated by the commas that also separate
// their parameters.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers {
		for rest := h; rest != ""; {
			var word string
			rest = strings.TrimLeft(rest, " \t,")
			word, rest = cutToken(rest)
			if word == "" {
				break
			}
			after := strings.TrimLeft(rest, " \t")
			if !strings.HasPrefix(after, "=") {
				out = append(out, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
				continue
			}
			var value string
			value, rest = cutValue(strings.TrimLeft(after[1:], " \t"))
			if len(out) > 0 {
				out[len(out)-1].params[strings.ToLower(word)] = value
			}
		}
	}
	return out
}

func cutToken(s string) (token, rest string) {
	i := strings.IndexAny(s, " \t,=\"")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue reads a token or a quoted string.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, " \t,"); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i == len(s) {
				return b.String(), ""
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

func basic(user, password string) string {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(user, password)
	return req.Header.Get("Authorization")
}

// errUnusable is the class of answers that no registry gives.
var errUnusable = errdefs.ErrUnavailable

package registry

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
)

func given(user, password string) Options {
	return Options{Override: &HostOverride{Username: user, Password: password}}
}

func TestLogins(t *testing.T) {
	for name, c := range map[string]struct {
		registry registrytest.Options
		options  Options
		class    error
		parts    []string
	}{
		"basic":                    {registry: registrytest.Options{Auth: "basic", Username: "u", Password: "p:w"}, options: given("u", "p:w")},
		"basic, wrong":             {registry: registrytest.Options{Auth: "basic", Username: "u", Password: "p"}, options: given("u", "x"), class: errdefs.ErrUnauthenticated, parts: []string{"401", `the login of "u" (given) was refused`, "mininerd login"}},
		"basic, none":              {registry: registrytest.Options{Auth: "basic", Username: "u", Password: "p"}, class: errdefs.ErrUnauthenticated, parts: []string{"401", "log in with", "--user"}},
		"token":                    {registry: registrytest.Options{Auth: "token", Username: "u", Password: "p"}, options: given("u", "p")},
		"token, wrong":             {registry: registrytest.Options{Auth: "token", Username: "u", Password: "p"}, options: given("u", "x"), class: errdefs.ErrUnauthenticated, parts: []string{"token server", "401", `the login of "u" (given) was refused`}},
		"token, anonymous":         {registry: registrytest.Options{Auth: "token", PublicPull: true}},
		"token, anonymous refused": {registry: registrytest.Options{Auth: "token"}, class: errdefs.ErrUnauthenticated, parts: []string{"401", "not public", "log in with"}},
		"identity token":           {registry: registrytest.Options{Auth: "token", IdentityToken: "idt"}, options: Options{Override: &HostOverride{IdentityToken: "idt"}}},
		"identity token, wrong":    {registry: registrytest.Options{Auth: "token", IdentityToken: "idt"}, options: Options{Override: &HostOverride{IdentityToken: "x"}}, class: errdefs.ErrUnauthenticated, parts: []string{"a token (given) was refused"}},
		"for another host":         {registry: registrytest.Options{Auth: "basic", Username: "u", Password: "p"}, options: Options{Override: &HostOverride{Username: "u", Password: "p", Host: "other"}}, class: errdefs.ErrUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, c.registry)
			want, _ := r.PutImage("a", "1", nil)
			got, err := client(t, c.options, nil).Resolve(t.Context(), ref(t, r, "a:1"))
			if c.class == nil {
				if err != nil || got.Digest != want.Digest {
					t.Fatalf("got %+v, %v", got, err)
				}
				return
			}
			fails(t, err, c.class, c.parts...)
			if strings.Contains(err.Error(), "p:w") {
				t.Error("the password is shown")
			}
		})
	}
}

func TestTokensAreKept(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: "token", Username: "u", Password: "p"})
	image, m := r.PutImage("a", "1", nil, content(10), content(20), content(30))
	c := client(t, given("u", "p"), nil)
	fetchAll := func() {
		if _, err := c.Manifest(t.Context(), ref(t, r, "a"), image); err != nil {
			t.Error(err)
		}
		var wg sync.WaitGroup
		for _, l := range m.Layers {
			wg.Go(func() {
				blob, err := c.Fetch(t.Context(), ref(t, r, "a"), l, 0)
				if err != nil {
					t.Error(err)
					return
				}
				blob.Close()
			})
		}
		wg.Wait()
	}
	fetchAll()
	if n := r.Count("", "/token"); n != 1 {
		t.Errorf("%d tokens were asked for, want 1", n)
	}
	r.ForgetTokens()
	fetchAll()
	if n := r.Count("", "/token"); n != 2 {
		t.Errorf("%d tokens were asked for after they were forgotten, want 2", n)
	}
	if _, err := c.Tags(t.Context(), ref(t, r, "a")); err != nil {
		t.Error(err)
	}
	if n := r.Count("", "/token"); n != 2 {
		t.Errorf("another token was asked for the same scope")
	}
}

func TestMirrorIsNotShownTheLogin(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{Auth: "basic", Username: "u", Password: "p"})
	origin := registrytest.New(t, registrytest.Options{Auth: "basic", Username: "u", Password: "p"})
	origin.PutImage("a", "1", nil)
	hosts := map[string]string{"reg.example": `server = "` + origin.URL() + "\"\n[host.\"" + mirror.URL() + "\"]"}
	if _, err := client(t, given("u", "p"), hosts).Resolve(t.Context(), parseRef(t, "reg.example/a:1")); err != nil {
		t.Fatal(err)
	}
	for _, q := range mirror.Requests() {
		if q.Header.Get("Authorization") != "" {
			t.Error("the mirror was shown the registry's login")
		}
	}
	mirror.PutImage("a", "1", nil)
	config := filepath.Join(t.TempDir(), "config.json")
	write(t, config, fmt.Sprintf(`{"auths": {"http://%s/v1/": {"auth": %q}}}`, mirror.Host(), base64.StdEncoding.EncodeToString([]byte("u:p"))))
	before := len(origin.Requests())
	if _, err := client(t, Options{DockerConfig: config}, hosts).Resolve(t.Context(), parseRef(t, "reg.example/a:1")); err != nil || len(origin.Requests()) != before {
		t.Errorf("the mirror's own login was not used: %v", err)
	}
}

func TestHeaderOfHostsFileIsTheLogin(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: "basic", Username: "u", Password: "p"})
	r.PutImage("a", "1", nil)
	toml := "server = \"" + r.URL() + "\"\nheader = {Authorization = \"%s\"}"
	if _, err := client(t, Options{}, map[string]string{"reg.example": fmt.Sprintf(toml, basic("u", "p"))}).Resolve(t.Context(), parseRef(t, "reg.example/a:1")); err != nil {
		t.Error(err)
	}
	_, err := client(t, given("u", "p"), map[string]string{"reg.example": fmt.Sprintf(toml, "Basic eDp5")}).Resolve(t.Context(), parseRef(t, "reg.example/a:1"))
	fails(t, err, errdefs.ErrUnauthenticated, "Authorization header", "hosts.toml was refused")
}

func TestForbidden(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.Fail(registrytest.Fault{Status: 403, Code: "DENIED"})
	_, err := client(t, Options{}, nil).Resolve(t.Context(), ref(t, r, "a:1"))
	fails(t, err, errdefs.ErrPermissionDenied, "403", "no access")
}

func TestTokenServerTrouble(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: "token", PublicPull: true})
	r.PutImage("a", "1", nil)
	r.Fail(registrytest.Fault{Path: "/token", Status: 503, Times: 2})
	if _, err := client(t, Options{}, nil).Resolve(t.Context(), ref(t, r, "a:1")); err != nil {
		t.Errorf("not asked again: %v", err)
	}
	r.Fail(registrytest.Fault{Path: "/token", Status: 400})
	_, err := client(t, Options{}, nil).Resolve(t.Context(), ref(t, r, "a:1"))
	fails(t, err, errdefs.ErrUnauthenticated, "token server "+r.Host(), "400")
}

func TestParseChallenges(t *testing.T) {
	got := parseChallenges([]string{
		`Bearer realm="https://auth/t?x=1,2",service="s", scope="repository:a:pull,push" , error=invalid_token`,
		`Negotiate, Basic realm="a \"b\""`, `Digest`, ``, `=x`, `Broken realm="`,
	})
	want := []challenge{
		{"bearer", map[string]string{"realm": "https://auth/t?x=1,2", "service": "s", "scope": "repository:a:pull,push", "error": "invalid_token"}},
		{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": `a "b"`}}, {"digest", map[string]string{}},
		{"broken", map[string]string{"realm": ""}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://auth/t?x=1,2",service="s", scope="a"`)
	f.Add(`Basic realm="a \"b\"", Negotiate`)
	f.Add(`a="\`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s}) {
			if c.scheme == "" || strings.ContainsAny(c.scheme, " ,=\"") {
				t.Errorf("%q: scheme %q", s, c.scheme)
			}
		}
	})
}

func TestTokenScopes(t *testing.T) {
	for _, c := range []struct{ challenged, wanted, more, want string }{
		{"", "repository:a:pull", "", "repository:a:pull"},
		{"repository:proxy/a:pull", "repository:a:pull", "", "repository:proxy/a:pull"},
		{"repository:a:pull", "repository:a:pull,push", "", "repository:a:pull,push"},
		{"repository:a:pull,push", "repository:a:pull", "repository:b:pull", "repository:a:pull,push repository:b:pull"},
		{"repository:a:push repository:b:pull", "repository:a:pull,push", "repository:b:pull", "repository:a:push,pull repository:b:pull"},
	} {
		if got := strings.Join(tokenScopes(c.challenged, c.wanted, strings.Fields(c.more)), " "); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestParseToken(t *testing.T) {
	now := time.Unix(1000, 0)
	for body, want := range map[string]string{
		`{"token":"t","expires_in":100}`: "Bearer t 1090",
		`{"access_token":"a"}`:           "Bearer a 1054",
		`{"token":"t","expires_in":-1}`:  "Bearer t 1054",
		`{}`:                             "error",
		`{"token":"a\r\nX: y"}`:          "error",
		`<html>`:                         "error",
	} {
		header, expires, err := parseToken([]byte(body), now)
		got := fmt.Sprint(header, " ", expires.Unix())
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add([]byte(`{"token":"t","expires_in":100}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Unix(1000, 0)
		header, expires, err := parseToken(data, now)
		if err == nil && (!expires.After(now.Add(-time.Second)) || strings.ContainsAny(header, "\r\n")) {
			t.Errorf("%q: %q, %v", data, header, expires)
		}
	})
}

func TestPlainTokenServerIsNotShownALogin(t *testing.T) {
	c := client(t, Options{}, nil)
	e := &endpoint{hostConfig: hostConfig{scheme: "https", host: "reg"}, domain: "reg", client: http.DefaultClient}
	_, err := c.token(t.Context(), e, challenge{params: map[string]string{"realm": "http://auth.example/t"}}, nil, login{username: "u", password: "p"}, "")
	fails(t, err, errdefs.ErrUnauthenticated, "plain HTTP", "not sent")
}

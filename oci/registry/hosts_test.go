package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// render prints a plan, one host a line.
func render(endpoints []*endpoint) string {
	var lines []string
	for _, e := range endpoints {
		line := e.url() + " " + e.capabilities.String()
		for _, f := range []struct {
			name string
			set  bool
		}{{"origin", e.origin}, {"own", e.own}, {"fallback", e.fallback}, {"insecure", e.skipVerify != nil && *e.skipVerify}} {
			if f.set {
				line += " " + f.name
			}
		}
		if e.ns() != "" {
			line += " ns=" + e.ns()
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestPlan(t *testing.T) {
	const all = "pull,resolve,push,referrers"
	for _, c := range []struct {
		name, domain, toml, dir string
		override                HostOverride
		want                    string
	}{
		{name: "docker hub", domain: "docker.io", want: "https://registry-1.docker.io/v2 " + all + " origin own"},
		{name: "another registry", domain: "ghcr.io", want: "https://ghcr.io/v2 " + all + " origin own"},
		{name: "loopback", domain: "localhost:5000", want: "https://localhost:5000/v2 " + all + " origin own fallback insecure"},
		{name: "loopback on 443", domain: "127.0.0.1:443", want: "https://127.0.0.1:443/v2 " + all + " origin own"},
		{name: "loopback on 80", domain: "127.0.0.1:80", want: "http://127.0.0.1:80/v2 " + all + " origin own"},
		{name: "loopback with ca", domain: "localhost:5000", override: HostOverride{CA: "x"}, want: "https://localhost:5000/v2 " + all + " origin own fallback"},
		{name: "plain http", domain: "reg:5000", override: HostOverride{PlainHTTP: true}, want: "http://reg:5000/v2 " + all + " origin own"},
		{name: "plain http and skip verify", domain: "reg:5000", override: HostOverride{PlainHTTP: true, SkipVerify: true}, want: "http://reg:5000/v2 " + all + " origin own insecure"},
		{name: "skip verify", domain: "reg", override: HostOverride{SkipVerify: true}, want: "https://reg/v2 " + all + " origin own insecure"},
		{
			name: "mirrors and the registry", domain: "docker.io", dir: "docker.io",
			toml: "[host.\"https://m1\"]\ncapabilities=[\"pull\"]\n[host.\"http://m2:5000\"]\nskip_verify=true\n[host.\"https://registry-1.docker.io\"]\n",
			want: "https://m1/v2 pull ns=docker.io\nhttps://m2:5000/v2 " + all + " fallback insecure ns=docker.io\nhttps://registry-1.docker.io/v2 " + all + " own\nhttps://registry-1.docker.io/v2 " + all + " origin own",
		},
		{
			name: "server replaces", domain: "reg", dir: "reg", toml: "server = \"https://backend:5000\"\ncapabilities=[\"pull\"]",
			want: "https://backend:5000/v2 pull origin own ns=reg",
		},
		{
			name: "the default's server is not the registry", domain: "reg", dir: "_default", toml: "server = \"https://proxy\"",
			want: "https://proxy/v2 " + all + " origin ns=reg",
		},
		{
			name: "capabilities without server are the registry's own", domain: "reg", dir: "reg", toml: "capabilities=[\"pull\"]\noverride_path=true",
			want: "https://reg/v2 " + all + " origin own",
		},
	} {
		var file *hostsFile
		source := ""
		if c.toml != "" {
			f, err := parseHostsFile("/x", []byte(c.toml))
			if err != nil {
				t.Fatal(err)
			}
			file, source = &f, filepath.Join("/certs.d", c.dir, "hosts.toml")
		}
		if got := render(plan(c.domain, file, source, c.override)); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestFindHostDir(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	mkdir := func(parts ...string) {
		if err := os.MkdirAll(filepath.Join(parts...), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	find := func(domain string) string {
		dir, err := findHostDir([]string{filepath.Join(one, "absent"), one, two}, domain)
		if err != nil {
			t.Fatal(err)
		}
		rel := strings.NewReplacer(one, "one", two, "two").Replace(dir)
		return rel
	}
	for i, step := range []struct {
		root, make, domain, want string
	}{
		{"", "", "reg:5000", ""},
		{two, "_default", "reg:5000", "two/_default"},
		{two, "reg:5000", "reg:5000", "two/reg:5000"},
		{two, "reg_5000_", "reg:5000", "two/reg_5000_"},
		{one, "docker.io", "reg:5000", "two/reg_5000_"},
		{one, "_default", "reg:5000", "one/_default"}, // the first directory decides
		{one, "", "docker.io", "one/docker.io"},
	} {
		if step.make != "" {
			mkdir(step.root, step.make)
		}
		if got := find(step.domain); got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
}

func TestCertificateDirectory(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"ca.crt", "a.cert", "a.key", "b.cert", "stray.key", "note.txt"} {
		write(t, filepath.Join(root, "reg", f), "x")
	}
	file, source, err := loadHosts([]string{root}, "reg")
	if err != nil {
		t.Fatal(err)
	}
	h := plan("reg", file, source, HostOverride{})[0]
	got := strings.ReplaceAll(fmt.Sprint(h.ca, h.clients), root, "")
	if want := "[/reg/ca.crt] [{/reg/a.cert /reg/a.key} {/reg/b.cert }]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if h.url() != "https://reg/v2" || !h.own {
		t.Errorf("got %s", render([]*endpoint{h}))
	}
}

func TestBrokenConfigurationIsToldBeforeAnyRequest(t *testing.T) {
	c := client(t, Options{}, map[string]string{"reg.example": "[host.\"https://a\"]\ncapabilites=[]"})
	_, err := c.Resolve(t.Context(), parseRef(t, "reg.example/x:1"))
	fails(t, err, errdefs.ErrInvalidArgument, "resolve reg.example/x:1: ", "hosts.toml: line 2: unknown key", `did you mean "capabilities"?`)
	plans := c.Explain(parseRef(t, "reg.example/x:1"))
	if len(plans) != 1 || !strings.Contains(plans[0].Problem, "line 2") {
		t.Errorf("got %+v", plans)
	}
}

func TestExplain(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.json")
	write(t, config, `{"auths": {"m1": {"auth": "YTpzZWNyZXQ="}}, "credHelpers": {"reg.example": "pass"}}`)
	c := client(t, Options{DockerConfig: config}, map[string]string{"reg.example": "[host.\"https://m1\"]\n[host.\"https://m2\"]\nca=\"absent.pem\""})
	plans := c.Explain(parseRef(t, "reg.example/x"))
	if len(plans) != 3 {
		t.Fatalf("got %+v", plans)
	}
	if p := plans[0]; !p.Mirror || p.Credentials != `"a" (config.json)` || !strings.Contains(p.Why, "mirror of reg.example") || p.Problem != "" {
		t.Errorf("got %+v", p)
	}
	if p := plans[1]; p.Credentials != "nobody" || !strings.Contains(p.Problem, "absent.pem") {
		t.Errorf("got %+v", p)
	}
	if p := plans[2]; p.Mirror || p.Credentials != "docker-credential-pass" || p.URL != "https://reg.example/v2" {
		t.Errorf("got %+v", p)
	}
	if strings.Contains(fmt.Sprint(plans), "secret") {
		t.Error("a secret is shown")
	}
}

func TestNoHostHasTheCapability(t *testing.T) {
	c := client(t, Options{}, map[string]string{"reg.example": "server=\"https://reg\"\ncapabilities=[\"pull\"]"})
	_, err := c.Resolve(t.Context(), parseRef(t, "reg.example/x:1"))
	fails(t, err, errdefs.ErrFailedPrecondition, `capability "resolve"`, "hosts.toml")
}

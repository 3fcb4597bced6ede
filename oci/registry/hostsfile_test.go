package registry

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestParseHostsFile(t *testing.T) {
	f, err := parseHostsFile("/dir", []byte(`
server = "https://registry.example.com/v2"
ca = "root.pem"

[host."https://b.example.com/proxy"]
  capabilities = ["pull", "RESOLVE"]
  ca = ["one.pem", "/abs/two.pem"]
  client = [["c.cert", "c.key"], ["both.pem", ""]]
  skip_verify = false
  dial_timeout = "1500ms"
  proxy = "socks5://127.0.0.1:1080"
  [host."https://b.example.com/proxy".header]
    x-one = "1"
    X-Two = ["a", "b"]

[host."http://a.example.com:5000"]
  override_path = true
  client = ["x.pem", "y.pem"]

[host."c.example.com"]
  client = "z.pem"
[host."https://d.example.com/api/"]
  override_path = true
  capabilities = ["push", "referrers"]
`))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	b := hostConfig{
		scheme: "https", host: "b.example.com", path: "/proxy/v2", capabilities: CapPull | CapResolve,
		ca: []string{"/dir/one.pem", "/abs/two.pem"}, clients: []keyPair{{"/dir/c.cert", "/dir/c.key"}, {"/dir/both.pem", ""}},
		skipVerify: &no, dialTimeout: 1500 * time.Millisecond, header: http.Header{"X-One": {"1"}, "X-Two": {"a", "b"}},
		proxy: mustParse("socks5://127.0.0.1:1080"),
	}
	want := hostsFile{
		hosts: []hostConfig{
			b,
			{scheme: "http", host: "a.example.com:5000", path: "", capabilities: capAll, clients: []keyPair{{"/dir/x.pem", ""}, {"/dir/y.pem", ""}}},
			{scheme: "https", host: "c.example.com", path: "/v2", capabilities: capAll, clients: []keyPair{{"/dir/z.pem", ""}}},
			{scheme: "https", host: "d.example.com", path: "/api", capabilities: CapPush | CapReferrers},
		},
		server: hostConfig{scheme: "https", host: "registry.example.com", path: "/v2", capabilities: capAll, ca: []string{"/dir/root.pem"}},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got\n%+v\nwant\n%+v", f, want)
	}
}

func TestHostOrder(t *testing.T) {
	for text, want := range map[string]string{
		"[host.\"https://z\"]\n[host.\"https://a\"]":                                             "https://z https://a",
		"[host.\"https://z\".header]\nx=\"1\"\n[host.\"https://a\"]\n[host.\"https://z\".other]": "https://z https://a",
		"[host]\n\"https://z\" = {}\n\"https://a\".skip_verify = true":                           "https://z https://a",
		"host.\"https://z\".skip_verify = true\nhost.\"https://a\".ca = \"x\"":                   "https://z https://a",
		"host = {\"https://z\" = {}, \"https://a\" = {}}":                                        "https://z https://a",
		"server = \"x\"": "",
	} {
		if got := strings.Join(hostOrder([]byte(text)), " "); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestParseHostsFileExplains(t *testing.T) {
	for text, hint := range map[string]string{
		"\n[host.\"https://a\"]\ncapabilites = [\"pull\"]": `line 3: unknown key "host.https://a.capabilites": did you mean "capabilities"?`,
		"skip-verify = true":         `did you mean "skip_verify"?`,
		"endpoint = [\"https://a\"]": "the keys are server, host,",
		"server = ":                  "line 1, column",
		"[host.\"https://a\"]\ncapabilities = [\"pul\"]": `capability "pul"`,
		"server = \"ftp://a\"":                           "http[s]://host",
		"server = \"https://user:secret@a\"":             "http[s]://host",
		"ca = 1":                                         "ca: a string or a list",
		"client = [[\"a\"]]":                             "a pair is",
		"client = [[\"a\", \"b\", \"c\"]]":               "a pair is",
		"dial_timeout = \"soon\"":                        "duration",
		"[header]\n\"a b\" = \"x\"":                      "not a header name",
		"[header]\na = \"x\\ny\"":                        "line breaks",
		"proxy = \"http://a/path\"":                      "proxy",
		"[host.\"\"]\nskip_verify = true":                "a URL such as",
		"server = \"https://%zz\"":                       "server",
	} {
		_, err := parseHostsFile("/dir", []byte(text))
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: got %v, want %q", text, err, hint)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q has several lines", text, err)
		}
	}
}

func FuzzParseHostsFile(f *testing.F) {
	f.Add("server = \"https://a\"\n[host.\"https://b\"]\ncapabilities = [\"pull\"]\nclient = [[\"a\", \"b\"]]\n[host.\"https://b\".header]\nx = [\"1\"]")
	f.Add("host = {\"https://z\" = {}, a = {ca = [\"x\"]}}")
	f.Add("[[host]]\n[host.a.b]\nhost.x.y = 1\n\"host\".z = 1")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseHostsFile("/dir", []byte(text))
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%q: class of %v", text, err)
			}
			return
		}
		for _, h := range file.hosts {
			if h.host == "" || h.scheme != "http" && h.scheme != "https" || h.capabilities == 0 {
				t.Fatalf("%q: %+v", text, h)
			}
		}
	})
}

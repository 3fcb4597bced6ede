package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"k8s.io/client-go/util/exec"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func ptr[T any](v T) *T { return &v }

func TestMerge(t *testing.T) {
	file := fileValues{RuntimeEndpoint: "unix:///file", ImageEndpoint: "unix:///file-image", Timeout: 7 * time.Second, Debug: true, PullImageOnCreate: true}
	for name, c := range map[string]struct {
		given given
		file  fileValues
		want  string
	}{
		"nothing":        {given{retries: 3}, fileValues{}, "   2s 1m0s false false 3"},
		"file":           {given{}, file, "unix:///file unix:///file-image 7s 7s true true 0"},
		"flags win":      {given{runtime: ptr("unix:///flag"), image: ptr("unix:///i"), timeout: ptr(time.Second), debug: ptr(false)}, file, "unix:///flag unix:///i 1s 1s false true 0"},
		"timeout 0":      {given{timeout: ptr(time.Duration(0))}, file, "unix:///file unix:///file-image 2s 1m0s true true 0"},
		"negative":       {given{timeout: ptr(-time.Second), retries: -4}, fileValues{}, "   2s 1m0s false false 0"},
		"only the image": {given{image: ptr("/x")}, fileValues{}, "  /x 2s 1m0s false false 0"},
	} {
		s, err := merge(c.given, c.file)
		got := fmt.Sprintf("%s %s %s %s %v %v %d", s.RuntimeEndpoint, s.ImageEndpoint, s.Timeout, s.AnswerTime, s.Debug, s.PullOnCreate, s.MaxRetries)
		if strings.TrimSpace(got) != strings.TrimSpace(c.want) || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	if _, err := merge(given{runtime: ptr("")}, file); err == nil || !strings.Contains(err.Error(), "--runtime-endpoint is empty") {
		t.Errorf("empty endpoint: %v", err)
	}
}

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"unix:///run/x.sock": "unix:///run/x.sock", "/run/x.sock": "unix:///run/x.sock", "unix:/run/x": "unix:///run/x",
		"tcp://127.0.0.1:1": "tcp://127.0.0.1:1", "": "", "npipe://./x": "", "localhost": "", "tcp://host": "", "unix://": "",
	} {
		a, err := parseEndpoint(text)
		if (err != nil) != (want == "") || err == nil && a.String() != want {
			t.Errorf("%q: %s, %v; want %q", text, a, err, want)
		}
	}
}

func TestDiscover(t *testing.T) {
	for name, c := range map[string]struct {
		sockets     string // ! before one that does not exist, - before one that does not answer
		want, error string
	}{
		"first":            {"a b", "a; others b", ""},
		"second exists":    {"!a b", "b; others ", ""},
		"second answers":   {"-a b !c", "b; others a", ""},
		"none exists":      {"!a !b", "", "no CRI runtime found: tried a, b, and none of them exists"},
		"none answers":     {"-a !b -c", "", "no CRI runtime answers: tried a is mute; c is mute: start one"},
		"order, not votes": {"!a -b c d", "c; others b,d", ""},
	} {
		var sockets []string
		gone, mute := map[string]bool{}, map[string]bool{}
		for _, s := range strings.Fields(c.sockets) {
			name := strings.TrimLeft(s, "!-")
			gone[name], mute[name] = s[0] == '!', s[0] == '-'
			sockets = append(sockets, name)
		}
		asked := 0
		f, err := discover(t.Context(), sockets, func(s string) bool { return !gone[s] }, func(_ context.Context, a address) error {
			asked++
			if gone[a.path] {
				t.Errorf("%s: %s does not exist, and was asked", name, a.path)
			}
			if mute[a.path] {
				return fmt.Errorf("%s is mute: %w", a.path, errdefs.ErrUnavailable)
			}
			return nil
		})
		if c.error != "" {
			if err == nil || !strings.Contains(err.Error(), c.error) || !strings.Contains(err.Error(), "--runtime-endpoint") {
				t.Errorf("%s: error %v, want %q", name, err, c.error)
			}
			continue
		}
		if got := f.Address.path + "; others " + strings.Join(f.Others, ","); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	n := found{Address: address{"unix", "/a"}, Others: []string{"/b"}}.notice()
	if !strings.Contains(n, "unix:///a") || !strings.Contains(n, "/b too") || strings.Contains(n, "\n") {
		t.Errorf("notice %q", n)
	}
}

func TestDocumentKeepsComments(t *testing.T) {
	const before = "# ours\nruntime-endpoint: unix:///a # why\n\ndebug: true\n"
	d, err := parseDocument([]byte(before))
	if err != nil {
		t.Fatal(err)
	}
	d.set(keyRuntimeEndpoint, "unix:///b")
	name := filepath.Join(t.TempDir(), "sub/crictl.yaml")
	if err := d.write(name); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# ours", "runtime-endpoint: unix:///b # why", "debug: true", "timeout: 0", "pull-image-on-create: false", `image-endpoint: ""`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	again, err := readDocument(name)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := again.values(); err != nil || v.RuntimeEndpoint != "unix:///b" || !v.Debug {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestDocumentValues(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "  0s false false false",
		"# nothing":                "  0s false false false",
		"timeout: 10\ntimeout: 20": "  20s false false false",
		"runtime-endpoint: a\nimage-endpoint: b\ntimeout: 1m\ndebug: true\npull-image-on-create: true\ndisable-pull-on-run: true": "a b 1m0s true true true",
		"runtime-endpint: a":     `there is no option "runtime-endpint"`,
		"timeout: soon":          "whole seconds",
		"timeout: 1500ms":        "whole seconds",
		"debug: perhaps":         "write true or false",
		"just text":              "not a list",
		"runtime-endpoint: [a: ": "",
	} {
		d, err := parseDocument([]byte(text))
		var v fileValues
		if err == nil {
			v, err = d.values()
		}
		got := fmt.Sprint(v.RuntimeEndpoint, " ", v.ImageEndpoint, " ", v.Timeout, " ", v.Debug, " ", v.PullImageOnCreate, " ", v.DisablePullOnRun)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %s; want %s", text, got, want)
		}
	}
}

// FuzzDocument: a configuration that is read can be changed and read again.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{"", "debug: true", "a: [1, 2]", "- x", "runtime-endpoint: a # c\n", "&a [*a]", "? :"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDocument([]byte(text))
		if err != nil {
			return
		}
		if _, err := d.values(); err != nil {
			return
		}
		d.set(keyDebug, "true")
		if v, err := d.values(); err != nil || !v.Debug {
			t.Errorf("%q: %+v, %v", text, v, err)
		}
	})
}

func TestConfigPairs(t *testing.T) {
	for args, want := range map[string]string{
		"--set a=b,c=d": "[[a b] [c d]]", "--set a=b=c": "[[a b=c]]", "k v": "[[k v]]", "": "[]", "--set a": "KEY=VALUE", "k": "--get KEY", "--set a=b k v": "--get KEY",
	} {
		var sets, rest []string
		fields := strings.Fields(args)
		if len(fields) > 1 && fields[0] == "--set" {
			sets, fields = fields[1:2], fields[2:]
		}
		rest = append(rest, fields...)
		pairs, err := configPairs(sets, rest)
		got := fmt.Sprint(pairs)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "42m": now.Add(-42 * time.Minute), "2013-01-02T13:23:37Z": time.Date(2013, 1, 2, 13, 23, 37, 0, time.UTC),
		"2013-01-02T13:23:37.5+01:00": time.Date(2013, 1, 2, 12, 23, 37, 5e8, time.UTC),
		"2013-01-02T13:23:37":         time.Date(2013, 1, 2, 13, 23, 37, 0, time.Local), "2013-01-02": time.Date(2013, 1, 2, 0, 0, 0, 0, time.Local),
		"1136073845": time.Unix(1136073845, 0), "1136073845.000000001": time.Unix(1136073845, 1), "1136073845.5": time.Unix(1136073845, 5e8),
	} {
		if got, err := icli.ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "12.x", "2013-13-01"} {
		if got, err := icli.ParseTime(bad, now); err == nil {
			t.Errorf("%q: %s, want an error", bad, got)
		}
	}
}

func TestImageNames(t *testing.T) {
	for name, c := range map[string]struct {
		image *cri.Image
		want  string
	}{
		"tag":       {&cri.Image{RepoTags: []string{"r:5000/a:1"}, RepoDigests: []string{"r:5000/a@sha256:x"}}, "r:5000/a sha256:x [[r:5000/a 1]]"},
		"two tags":  {&cri.Image{RepoTags: []string{"a:1", "b:2"}}, "<none> <none> [[a 1] [b 2]]"},
		"by digest": {&cri.Image{RepoDigests: []string{"a@sha256:x"}}, "a sha256:x [[a <none>]]"},
		"dangling":  {&cri.Image{RepoTags: []string{"<none>:<none>"}, RepoDigests: []string{"a@sha256:x"}}, "a sha256:x [[a <none>]]"},
		"bare":      {&cri.Image{}, "<none> <none> [[<none> <none>]]"},
		"odd":       {&cri.Image{RepoTags: []string{"untagged"}, RepoDigests: []string{"odd"}}, "odd <none> [[untagged <none>]]"},
	} {
		r, d := repositoryOf(c.image)
		if got := fmt.Sprint(r, " ", d, " ", namesOf(c.image, r)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestFilterImages(t *testing.T) {
	image := func(id string, tags ...string) *cri.Image {
		i := &cri.Image{Id: "sha256:" + id, RepoTags: tags, RepoDigests: []string{"reg/" + id + "@sha256:" + id}}
		return i
	}
	all := []*cri.Image{image("d1"), image("c3", "c:1", "x:9"), image("a1", "a:1"), image("b2", "b:1")}
	sortImages(all)
	for conditions, want := range map[string]string{
		"": "a1 b2 c3 d1", "dangling=true": "d1", "dangling=false": "a1 b2 c3", "reference=^reg/[ab]": "a1 b2", "reference=reg/c3": "c3",
		"before=b:1": "c3 d1", "since=b:1": "a1", "since=b2": "a1", "since=sha256:b2": "a1", "before=reg/b2@sha256:b2": "c3 d1", "since=x:9": "a1 b2",
		"before=nosuch:1": "a1 b2 c3 d1", "since=c:1 reference=b": "b2",
		"color=red": "use dangling=", "dangling=perhaps": "true or false", "reference=(": "missing closing",
	} {
		kept, err := filterImages(all, strings.Fields(conditions))
		var got []string
		for _, i := range kept {
			got = append(got, strings.TrimPrefix(i.Id, "sha256:"))
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if err == nil && text != want || !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", conditions, text, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for info, want := range map[string]string{
		`{"config":{"port_mappings":[{"container_port":80,"host_port":8080},{"protocol":1,"container_port":53}]}}`: "[8080->80/tcp 53/udp]",
		`{"config":{"portMappings":[{"protocol":"SCTP","containerPort":7,"hostPort":8}]}}`:                         "[8->7/sctp]",
		`{}`: "[]", `nonsense`: "[]", ``: "[]",
	} {
		if got := fmt.Sprint(mappedPorts(map[string]string{"info": info})); got != want {
			t.Errorf("%s: %s, want %s", info, got, want)
		}
	}
	c := &cri.Container{Annotations: map[string]string{annotationPorts: `[{"name":"http","hostPort":1,"containerPort":80,"protocol":"TCP"}]`}}
	if got := fmt.Sprint(portsOf(pod{ports: []string{"x"}}, c)); got != "[1->80/tcp]" {
		t.Errorf("the kubelet's ports: %s", got)
	}
}

func TestPercent(t *testing.T) {
	usage := func(at int64, used uint64) *cri.CpuUsage {
		return &cri.CpuUsage{Timestamp: at, UsageCoreNanoSeconds: &cri.UInt64Value{Value: used}}
	}
	for _, c := range []struct {
		old, now *cri.CpuUsage
		want     string
	}{
		{usage(0, 0), usage(1e9, 5e8), "50.00"}, {usage(0, 1), usage(1e9, 2e9+1), "200.00"}, {usage(5, 1), usage(5, 2), "0.00"},
		{usage(0, 9), usage(5, 2), "0.00"}, {nil, nil, "0.00"},
	} {
		if got := percent(c.old, c.now); got != c.want {
			t.Errorf("%v %v: %s, want %s", c.old, c.now, got, c.want)
		}
	}
}

func TestStreamError(t *testing.T) {
	var code icli.ExitError
	if err := streamError(exec.CodeExitError{Err: errors.New("x"), Code: 7}); !errors.As(err, &code) || code.Code != 7 {
		t.Errorf("an exit code became %v", err)
	}
	if err := streamError(nil); err != nil {
		t.Error(err)
	}
	if err := execError("c", errors.New("no")); err == nil || err.Error() != "exec in container c: no" {
		t.Errorf("%v", err)
	}
}

// TestExecJoin: of several containers, the first code counts, and other errors are not lost behind it.
func TestExecJoin(t *testing.T) {
	var errs strings.Builder
	x := execution{errs: &errs}
	err := x.join([]error{nil, fmt.Errorf("c2: %w", errdefs.ErrNotFound), icli.ExitError{Code: 3}, icli.ExitError{Code: 4}})
	if err != error(icli.ExitError{Code: 3}) || errs.String() != "minicrictl: c2\n" {
		t.Errorf("%v, %q", err, errs.String())
	}
	if err := x.join([]error{nil, errors.New("a"), errors.New("b")}); err == nil || err.Error() != "a\nb" {
		t.Error(err)
	}
	if err := x.join([]error{nil, nil}); err != nil {
		t.Error(err)
	}
}

func TestStreamURL(t *testing.T) {
	for text, want := range map[string]string{"http://h:1/exec/x": "http://h:1/exec/x", "/exec/x": "http://127.0.0.1:10250/exec/x", "https://h/e": "https://h/e", "://": ""} {
		u, err := parseStreamURL(text)
		if (err != nil) != (want == "") || err == nil && u.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, u, err, want)
		}
	}
	for _, c := range []struct {
		ca, cert, key string
		insecure      bool
		error         string
	}{{"", "", "", true, ""}, {"ca", "", "", false, ""}, {"ca", "c", "k", false, ""}, {"", "c", "k", true, ""}, {"", "c", "", false, "belong together"}} {
		got, err := streamTLS("n", c.ca, c.cert, c.key)
		if c.error != "" && (err == nil || !strings.Contains(err.Error(), c.error)) || c.error == "" && (err != nil || got.Insecure != c.insecure) {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

func TestParseAuth(t *testing.T) {
	for text, want := range map[string]string{"u:p": "u p ", "u": "u  ", "u:p:q": "u p:q ", ":p": "name is missing", "": ""} {
		a, err := parseAuth(text, "")
		got := ""
		if a != nil {
			got = a.Username + " " + a.Password + " " + a.Auth
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || want == "" && a != nil {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if _, err := parseAuth("a", "b"); err == nil {
		t.Error("both --creds and --auth")
	}
	shown := text(&cri.PullImageRequest{Image: &cri.ImageSpec{Image: "i"}, Auth: &cri.AuthConfig{Username: "u", Password: "secret", Auth: "c2VjcmV0", IdentityToken: "secret"}})
	if strings.Contains(shown, "secret") || strings.Contains(shown, "c2Vj") || !strings.Contains(shown, "***") {
		t.Errorf("--debug shows %s", shown)
	}
}

func TestKindOf(t *testing.T) {
	for method, want := range map[string]kind{
		"/runtime.v1.RuntimeService/ListContainers": {true, true}, "/runtime.v1.RuntimeService/PodSandboxStatus": {true, true},
		"/runtime.v1.ImageService/ImageFsInfo": {true, true}, "/runtime.v1.RuntimeService/StopContainer": {true, false},
		"/runtime.v1.ImageService/PullImage": {true, false}, "/runtime.v1.RuntimeService/RunPodSandbox": {}, "/runtime.v1.RuntimeService/CreateContainer": {},
		"/runtime.v1.RuntimeService/StartContainer": {}, "/runtime.v1.RuntimeService/ExecSync": {}, "/runtime.v1.RuntimeService/CheckpointContainer": {},
	} {
		if got := kindOf(method); got != want {
			t.Errorf("%s: %+v, want %+v", method, got, want)
		}
	}
}

func TestLogPath(t *testing.T) {
	status := func(path string, attempt uint32) *cri.ContainerStatus {
		return &cri.ContainerStatus{Id: "c", LogPath: path, Metadata: &cri.ContainerMetadata{Attempt: attempt}}
	}
	for _, c := range []struct {
		s        *cri.ContainerStatus
		previous bool
		want     string
	}{
		{status("/l/c/2.log", 2), false, "/l/c/2.log"}, {status("/l/c/2.log", 2), true, "/l/c/1.log"}, {status("/l.d/c", 1), true, "/l.d/0"},
		{status("/l/c/0.log", 0), true, "no previous log"}, {status("", 0), false, "has no log"},
	} {
		got, err := logPath(c.s, c.previous)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v %v: %s, want %s", c.s, c.previous, got, c.want)
		}
	}
}

func TestDebugRequest(t *testing.T) {
	root := spec.Mount{Type: "bind", Source: "/b/rootfs", Target: targetDir}
	r := debugRequest(&api.Container{Id: "c1", State: "running"}, root, []string{"ps"}, true)
	if r.Namespaces["pid"] != "container:c1" || len(r.Namespaces) != 4 || !r.Terminal || r.Args[0] != "ps" || r.Mounts[0].Source != root.Source {
		t.Errorf("%+v", r)
	}
	if r := debugRequest(&api.Container{Id: "c1", State: "exited"}, root, nil, false); r.Namespaces != nil {
		t.Errorf("a stopped container has no namespaces: %v", r.Namespaces)
	}
}

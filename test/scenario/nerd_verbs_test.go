package scenario_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestNerdRegistry searches, pulls and pushes all tags, and puts a manifest list together.
func TestNerdRegistry(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	t.Setenv("XDG_STATE_HOME", testenv.Dir(t))
	image := r.Ref("busybox")
	n.do("pull", "-q", image)
	if out := n.do("search", "--format", "{{.Name}}", r.Address+"/busybo"); !strings.Contains(out, r.Address+"/busybox\n") {
		t.Errorf("search printed %q", out)
	}
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"results":[{"name":"web","description":"serves","star_count":7,"is_official":true},{"name":"team/web","star_count":9}]}`))
	}))
	defer hub.Close()
	if out := n.do("search", "--filter", "is-official=true", strings.TrimPrefix(hub.URL, "http://")+"/web"); !regexp.MustCompile(`(?m)^NAME +DESCRIPTION +STARS +OFFICIAL\n\S+/web +serves +7 +\[OK\]\n$`).MatchString(out) {
		t.Errorf("search printed %q", out)
	}
	tags := r.Address + "/tags"
	for _, tag := range []string{"1", "2"} {
		n.do("tag", image, tags+":"+tag)
	}
	if out := n.do("push", "-q", "-a", tags); out != tags+":1\n"+tags+":2\n" {
		t.Errorf("push -a printed %q", out)
	}
	n.do("rmi", tags+":1", tags+":2")
	if out := n.do("pull", "-q", "-a", tags); out != tags+":1\n"+tags+":2\n" {
		t.Errorf("pull -a printed %q", out)
	}
	refused(t, n.try(nil, "pull", "-a", tags+":1"), "tag can't be used with --all-tags")
	list := r.Address + "/list:1"
	if out := n.do("manifest", "create", list, image); out != "Created manifest list "+list+"\n" {
		t.Errorf("manifest create printed %q", out)
	}
	refused(t, n.try(nil, "manifest", "create", list, image), "no --amend flag")
	n.do("manifest", "annotate", "--arch", "arm", "--variant", "v7", list, image)
	digest := strings.TrimSpace(n.do("manifest", "push", "-p", list))
	refused(t, n.try(nil, "manifest", "rm", list), "No such manifest: "+list)
	got := decode[struct {
		Manifests []struct {
			Digest   string
			Platform struct{ Architecture, OS, Variant string }
		}
	}](t, n.do("manifest", "inspect", list))
	if len(got.Manifests) != 1 || got.Manifests[0].Digest != i.Digest || got.Manifests[0].Platform.Variant != "v7" || !strings.HasPrefix(digest, "sha256:") {
		t.Errorf("%s: %+v", digest, got)
	}
	refused(t, n.try(nil, "manifest", "inspect", r.Address+"/nosuch:1"), "no such manifest: "+r.Address+"/nosuch:1")
	n.do("pull", "-q", "--platform", "linux/arm/v7", list)
	if out := n.do("images", "--tree", list); !strings.Contains(out, "\n└─ linux/arm/v7") {
		t.Errorf("images --tree printed %q", out)
	}
	refused(t, n.try(nil, "image", "inspect", "--platform", "linux/s390x", list), "does not provide the specified platform (linux/s390x)")
}

// TestNerdDisk prunes by filters, and looks at what takes the disk.
func TestNerdDisk(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	image := r.Ref("busybox")
	n.do("pull", "-q", image)
	n.do("tag", image, "one:1")
	n.do("run", "--name=old", "--network=none", "--label", "keep=no", "one:1", "sh", "-c", "head -c 1000000 /dev/zero > /big")
	n.do("create", "--name=kept", "--network=none", "one:1")
	if out := n.do("system", "df", "--format", "{{.Type}}:{{.TotalCount}}:{{.Active}}"); out != "Images:1:1\nContainers:2:0\nLocal Volumes:0:0\nBuild Cache:0:0\n" {
		t.Errorf("system df printed %q", out)
	}
	whole := decode[struct{ Images, Containers []map[string]string }](t, n.do("system", "df", "-v", "--format", "json"))
	if len(whole.Images) != 1 || whole.Images[0]["Containers"] != "2" || whole.Images[0]["SharedSize"] != "0B" || len(whole.Containers) != 2 {
		t.Errorf("system df -v: %+v", whole)
	}
	if out := n.do("system", "df", "-v"); !strings.Contains(out, "Images space usage:\n\nREPOSITORY") || !strings.Contains(out, "Local Volumes space usage:\n\nVOLUME NAME") {
		t.Errorf("system df -v printed %q", out)
	}
	if out := n.do("ps", "-as", "--filter", "name=old", "--format", "{{.Size}}"); !regexp.MustCompile(`^1(\.\d+)?MB \(virtual \d+(\.\d+)?MB\)\n$`).MatchString(out) {
		t.Errorf("ps -s printed %q", out)
	}
	if out := n.do("container", "prune", "-f", "--filter", "label=keep"); !strings.Contains(out, "Deleted Containers:\n") || !regexp.MustCompile(`Total reclaimed space: 1(\.\d+)?MB\n`).MatchString(out) {
		t.Errorf("container prune printed %q", out)
	}
	if out := n.do("image", "prune", "-af", "--filter", "until=876000h"); strings.Contains(out, "untagged") {
		t.Errorf("image prune of what is a hundred years old printed %q", out)
	}
	if out := n.do("image", "prune", "-af"); !strings.Contains(out, "untagged: "+image) || strings.Contains(out, "one:1") {
		t.Errorf("image prune printed %q", out)
	}
	if out := n.do("system", "prune", "-af", "--filter", "until=1h"); strings.Contains(out, "Deleted Containers") {
		t.Errorf("system prune of what is old printed %q", out)
	}
	if out := n.do("system", "prune", "-af"); !strings.Contains(out, "Deleted Containers:") || !strings.Contains(out, "untagged: one:1") || !strings.Contains(out, "Total reclaimed space: ") {
		t.Errorf("system prune printed %q", out)
	}
	if out := n.do("images", "-q"); out != "" {
		t.Errorf("left: %q", out)
	}
}

// TestNerdNews follows events, checks health at once, and refuses what there is not.
func TestNerdNews(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("tag", r.Ref("busybox"), "bb:1")
	n.do("run", "-d", "--name=news", "--network=none", "--label", "a=b", "--health-cmd", "test -e /well", "--health-interval", "1h", "bb:1", "sleep", "600")
	if o := n.try(nil, "container", "healthcheck", "news"); o.Code != 1 || o.Stdout != "unhealthy\n" {
		t.Errorf("healthcheck: %+v", o)
	}
	n.do("exec", "news", "touch", "/well")
	if out := n.do("healthcheck", "news"); out != "healthy\n" {
		t.Errorf("healthcheck printed %q", out)
	}
	if out := n.do("inspect", "-f", "{{.State.Health.Status}} {{len .State.Health.Log}}", "news"); out != "healthy 2\n" {
		t.Errorf("health %q", out)
	}
	n.do("stop", "-t0", "news")
	out := n.do("events", "--since", "1h", "--until", "0s", "--filter", "container=news", "--format", "{{.Action}} {{.Actor.Attributes.image}} {{.Actor.Attributes.a}}")
	for _, want := range []string{"create", "start", "exec_start: touch /well", "health_status: healthy", "exec_die", "die"} {
		if !strings.Contains(out, want+" bb:1 b\n") {
			t.Errorf("no event %q in\n%s", want, out)
		}
	}
	event := decode[struct {
		Type, Action string
		Time         int64 `json:"time"`
		Actor        struct{ Attributes map[string]string }
	}](t, strings.SplitN(n.do("events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--format", "json"), "\n", 2)[0])
	if event.Type != "container" || event.Actor.Attributes["exitCode"] != "137" || event.Actor.Attributes["name"] != "news" || event.Time == 0 {
		t.Errorf("%+v", event)
	}
	refused(t, n.try(nil, "checkpoint", "create", "news", "one"), "exited")
	if out := n.do("checkpoint", "ls", "news"); out != "CHECKPOINT NAME\n" {
		t.Errorf("checkpoint ls printed %q", out)
	}
	refused(t, n.try(nil, "checkpoint", "rm", "news", "one"), "checkpoint one does not exist")
	refused(t, n.try(nil, "start", "--checkpoint", "one", "news"), "checkpoint one does not exist")
	for _, command := range []string{"compose up", "build -t x .", "swarm init", "context ls", "image convert a b"} {
		refused(t, n.try(nil, strings.Fields(command)...), "there")
	}
	if _, err := os.Stat("/sys/module/apparmor/parameters/enabled"); err != nil {
		refused(t, n.try(nil, "apparmor", "load"), "no AppArmor")
	}
	n.do("namespace", "create", "-l", "a=b", "other")
	n.do("namespace", "update", "-l", "c=d", "other")
	if out := n.do("namespace", "inspect", "-f", "{{.Labels.a}} {{.Labels.c}}", "other"); out != "b d\n" {
		t.Errorf("namespace inspect printed %q", out)
	}
	if out := n.do("namespace", "ls", "-q"); out != "default\nother\n" {
		t.Errorf("namespace ls printed %q", out)
	}
	n.do("namespace", "remove", "-c", "other")
	refused(t, n.try(nil, "namespace", "inspect", "other"), "No such namespace: other")
	ids := map[string]bool{}
	testenv.Eventually(t, 20*time.Second, "two ids begin alike", func() bool {
		id := strings.TrimSpace(n.do("create", "--network=none", "bb:1"))
		defer func() { ids[id[:1]] = true }()
		return ids[id[:1]]
	})
	var first string
	for _, id := range strings.Fields(n.do("ps", "-aq")) {
		for _, other := range strings.Fields(n.do("ps", "-aq")) {
			if id != other && id[0] == other[0] {
				first = id[:1]
			}
		}
	}
	refused(t, n.try(nil, "rm", first), "ambiguous", "give more of it")
	words := strings.Fields(n.do("--generate-bash-completion"))
	if data, err := json.Marshal(words); err != nil || !strings.Contains(string(data), `"run"`) || strings.Contains(string(data), `"swarm"`) {
		t.Errorf("completion: %s, %v", data, err)
	}
	check(t, os.WriteFile(filepath.Join(testenv.Dir(t), "man"), []byte(n.do("man")), 0o600))
}

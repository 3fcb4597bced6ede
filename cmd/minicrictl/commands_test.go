package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// world is a fake with two running containers and an exited one, in two pods.
func world(t *testing.T) (*fake, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "c.log")
	const lines = "2026-01-02T03:04:05.000000001Z stdout F one\n2026-01-02T03:04:06.000000001Z stderr F bad\n" +
		"2026-01-02T03:04:07.000000001Z stdout P tw\n2026-01-02T03:04:07.000000001Z stdout F o\n"
	if err := os.WriteFile(log, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	container := func(id, pod string, state cri.ContainerState, age time.Duration) *cri.Container {
		return &cri.Container{Id: id, PodSandboxId: pod, State: state, CreatedAt: time.Now().Add(-age).UnixNano(), Metadata: &cri.ContainerMetadata{Name: "n-" + id[:2]},
			Image: &cri.ImageSpec{Image: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}, Labels: map[string]string{labelPodName: "web", labelPodNamespace: "default"}}
	}
	f := &fake{
		containers: []*cri.Container{
			container("c1aaaaaaaaaaaaaaaa", "p1bbbbbbbbbbbbbbbb", cri.ContainerState_CONTAINER_RUNNING, time.Hour),
			container("c2aaaaaaaaaaaaaaaa", "p1bbbbbbbbbbbbbbbb", cri.ContainerState_CONTAINER_RUNNING, time.Minute),
			container("c3aaaaaaaaaaaaaaaa", "p2bbbbbbbbbbbbbbbb", cri.ContainerState_CONTAINER_EXITED, 2*time.Minute),
		},
		pods: []*cri.PodSandbox{
			{Id: "p1bbbbbbbbbbbbbbbb", Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default"}, CreatedAt: time.Now().Add(-time.Hour).UnixNano()},
			{Id: "p2bbbbbbbbbbbbbbbb", Metadata: &cri.PodSandboxMetadata{Name: "old", Namespace: "kube-system"}, State: cri.PodSandboxState_SANDBOX_NOTREADY, RuntimeHandler: "kata"},
		},
		images: []*cri.Image{
			{Id: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", RepoTags: []string{"reg/a:1"}, Size: 1234567},
			{Id: "sha256:ffff", RepoDigests: []string{"reg/b@sha256:9999999999999999"}, Pinned: true},
			{Id: "sha256:eeee", RepoTags: []string{"reg/c:1"}},
		},
		statuses: map[string]*cri.ContainerStatusResponse{}, exec: &cri.ExecSyncResponse{Stdout: []byte("out"), Stderr: []byte("err"), ExitCode: 5},
	}
	for _, c := range f.containers {
		f.statuses[c.Id] = &cri.ContainerStatusResponse{
			Status: &cri.ContainerStatus{Id: c.Id, State: c.State, Metadata: c.Metadata, CreatedAt: 1e18, StartedAt: 1e18 + 1, FinishedAt: 2e18, LogPath: log},
			Info:   map[string]string{"info": `{"pid":7}`, "other": `"x"`},
		}
	}
	return f, f.serve(t)
}

func configsOf(t *testing.T) (pod, container string) {
	t.Helper()
	dir := t.TempDir()
	pod, container = filepath.Join(dir, "pod.yaml"), filepath.Join(dir, "container.json")
	for name, text := range map[string]string{
		pod:       "metadata: {name: p, namespace: ns, attempt: 2}\nlinux: {cgroup_parent: /x}\n",
		container: `{"metadata":{"name":"c"},"image":{"image":"reg/a:1"},"envs":[{"key":"K","value":"V"}],"comand":["slip"]}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return pod, container
}

// TestCommands runs every command against the fake: what it prints, and how it ends.
func TestCommands(t *testing.T) {
	f, endpoint := world(t)
	pod, container := configsOf(t)
	const c1, c3, p1, p2 = "c1aaaaaaaaaaaaaaaa", "c3aaaaaaaaaaaaaaaa", "p1bbbbbbbbbbbbbbbb", "p2bbbbbbbbbbbbbbbb"
	for _, test := range []struct {
		args, out, errs string // the words of both; ! before what is not there
		code            int
	}{
		{"version", "Version:  0.1.0|RuntimeName:  fake|RuntimeApiVersion:  v1", "", 0},
		{"ps", "CONTAINER|POD ID|NAMESPACE|c1aaaaaaaaaaa |c2aaaaaaaaaaa |0123456789abc |Running|About an hour ago|!c3aaaa", "", 0},
		{"ps -a --no-trunc", c3 + "|Exited|sha256:0123456789abcdef0123456789abcdef", "", 0},
		{"ps -aq", c1 + "\n|" + c3 + "\n|!CONTAINER", "", 0},
		{"ps -l", "c2aaaaaaaaaaa|!c1aaa", "", 0},
		{"ps -n 2 -q", "c2|c3|!c1", "", 0},
		{"ps --name n-c1", "c1aaaaaaaaaaa|!c2aaa", "", 0},
		{"ps --namespace nosuch -q", "!c1", "", 0},
		{"ps -r", "reg/a:1", "", 0},
		{"ps --image reg/a:1 -q", c1, "", 0},
		{"ps --image nosuch -q", "!c1", "", 0},
		{"ps -o wide", "POD IP|PORTS|10.0.0.2,fd00::2|8080->80/tcp", "", 0},
		{"ps -v", "ID: " + c1 + "|PodID: " + p1 + "|Labels:|\tio.kubernetes.pod.name -> web", "", 0},
		{"ps -o yaml", "containers:|podSandboxId: " + p1, "", 0},
		{"ps -o xml", "", "use one of table, wide, json, yaml", 1},
		{"ps --state dead", "", "use created, running, exited or unknown", 1},
		{"ps --name (", "", "--name", 1},
		{"ps extra", "", "too many arguments", 1},
		{"pods", "POD ID|p1bbbbbbbbbbb |Ready|NotReady|(default)|kata", "", 0},
		{"pods -q --namespace kube", p2 + "|!" + p1, "", 0},
		{"pods -v", "Status: NotReady|Runtime: kata", "", 0},
		{"pods -o json", `"runtimeHandler": "kata"`, "", 0},
		{"pods --state maybe", "", "use ready or notready", 1},
		{"inspect " + c1, `"status": {|"createdAt": "2001-|"finishedAt": "0001-01-01T00:00:00Z"|"resources": null|"pid": 7|"other": "x"`, "", 0},
		{"inspect -q " + c1 + " " + c3, "[\n|!\"pid\"", "", 0},
		{"inspect -o table " + c3, "State: CONTAINER_EXITED|Exit Code: 0|Info: map[", "", 0},
		{"inspect -o go-template --template {{.status.id|upper}} " + c1, "C1AAAAAAAAAAAAAAAA\n", "", 0},
		{"inspect -o go-template --template {{.nosuch}} " + c1, "", "nosuch", 1},
		{"inspect", c1, "", 0},
		{"inspect --label a=b --name nosuch", "", "no containers: name some", 1},
		{"inspect nosuch", "", "minicrictl: status of container nosuch: container nosuch: not there\n", 1},
		{"inspectp " + p1, `"additionalIps": [|"ip": "10.0.0.2"|"linux": null`, "", 0},
		{"inspectp -o table " + p1, "Namespace: default|Additional IP: fd00::2", "", 0},
		{"inspecti reg/a:1", `"size": "1234567"|"pinned": false`, "", 0},
		{"inspecti nosuch", "", "there is no image nosuch", 1},
		{"inspecti -o table reg/a:1", "Tag: reg/a:1|Size: 1.23MB", "", 0},
		{"images", "IMAGE|TAG|IMAGE ID|SIZE|reg/a|0123456789abc |1.23MB|reg/b|<none>", "", 0},
		{"img --digests --pinned", "DIGEST|PINNED|9999999999999 |true", "", 0},
		{"images -q", "sha256:ffff\n|!IMAGE", "", 0},
		{"images -v", "RepoTags: reg/a:1|Pinned: true", "", 0},
		{"images -o json", `"repoDigests": [|"username": ""|!"spec"`, "", 0},
		{"images -f dangling=true -q", "sha256:ffff|!sha256:0", "", 0},
		{"imagefsinfo", `"mountpoint": "/var/lib/x"`, "", 0},
		{"imagefsinfo -o table", "Image Filesystem \n|Disk[0]: 1kB|Mountpoint[0]: /var/lib/x", "", 0},
		{"pull --creds u:p reg/a:1", "Image is up to date for sha256:pulled\n", "", 0},
		{"pull", "", "too few arguments", 1},
		{"rmi reg/a:1", "Deleted: reg/a:1\n", "", 0},
		{"rmi --prune", "Deleted: reg/c:1\n|!reg/a|!reg/b", "", 0},
		{"rmi nosuch", "", "there is no image nosuch", 1},
		{"rmi", "", "too few arguments", 1},
		{"runp " + pod, "new-pod\n", "", 0},
		{"runp " + container, "", "metadata.namespace are wanted", 1},
		{"create p " + container + " " + pod, "new-container\n", `warning: configuration|unknown field "comand"`, 0},
		{"create --no-pull --with-pull p " + container + " " + pod, "", "give one of them", 1},
		{"create p nosuch.json " + pod, "", "no such file", 1},
		{"run " + container + " " + pod, "new-container\n", "", 0},
		{"start a b", "a\nb\n", "", 0},
		{"stop -t 3 " + c1, c1 + "\n", "", 0},
		{"stop -a", c1 + "\n", "", 0},
		{"stop -a x", "", "give one of them", 1},
		{"stopp a", "Stopped sandbox a\n", "", 0},
		{"rm " + c1, "", "container " + c1 + " runs: stop it first", 1},
		{"rm -k " + c3, c3 + "\n", "", 0},
		{"rm -fk " + c1, c1 + "\n" + c1 + "\n", "", 0},
		{"rmp " + p1, "", "pod " + p1 + " runs", 1},
		{"rmp -f " + p1, "Stopped sandbox " + p1 + "\nRemoved sandbox " + p1, "", 0},
		{"rmp -a", "Removed sandbox " + p2, "pod " + p1 + " runs", 1},
		{"update --memory 64MiB --cpu-share 5 --oom-score-adj 7 " + c1, c1 + "\n", "", 0},
		{"update " + c1, "", "no limit given", 1},
		{"checkpoint -e /x.tar " + c1, c1 + "\n", "", 0},
		{"checkpoint " + c1, "", "--export=", 1},
		{"exec -s " + c1 + " cmd -x", "out", "err", 5},
		{"exec -s -e " + c1 + " cmd", "out", "err", 0},
		{"exec -s --name n- cmd", c1 + ":\nout", "err", 5},
		{"exec -s -x -n 9 cmd", "out|!:", "err", 5},
		{"exec -s -i --name n- cmd", "", "one container only", 1},
		{"exec -s --label no=such --name zz cmd", "", "no container is meant", 1},
		{"exec " + c1, "", "too few arguments", 1},
		{"exec -r carrier-pigeon " + c1 + " x", "", "use spdy or websocket", 1},
		{"attach " + c1, "", "does not have Attach", 1},
		{"port-forward " + p1 + " 80", "", "does not have PortForward", 1},
		{"logs " + c1, "one\ntwo\n|!bad", "bad\n", 0},
		{"logs -t " + c1, "2026-01-02T03:04:05.000000001Z one\n2026-01-02T03:04:07.000000001Z two\n", "", 0},
		{"logs --tail 1 " + c1, "two\n|!one", "!bad", 0},
		{"logs --tail 1 -s stdout " + c1, "two\n|!one", "!bad", 0},
		{"logs -s stderr " + c1, "!one", "bad", 0},
		{"logs --limit-bytes 5 -s stdout " + c1, "one\nt|!tw", "", 0},
		{"logs --since 2026-01-02T03:04:07Z " + c1, "two|!one", "", 0},
		{"logs -f " + c3, "one\ntwo\n", "bad", 0},
		{"logs -r " + c1 + " " + c3, "c1aaaaaaaaaaa: one\nc1aaaaaaaaaaa: two\nc3aaaaaaaaaaa: one\n", "", 0},
		{"logs -p " + c1, "", "there is no previous log", 1},
		{"logs -s both " + c1, "", "use stdout or stderr", 1},
		{"stats -o json", `"usageCoreNanoSeconds"`, "", 0},
		{"stats", "CPU %|SWAP|c1aaaaaaaaaaa |50.00|2MB|!c3aaa", "", 0},
		{"stats -a", "c3aaaaaaaaaaa |0.00", "", 0},
		{"statsp", "POD ID|web|100.00|4MB|!old", "", 0},
		{"statsp -o json", `"containers": [`, "", 0},
		{"stats -s 0", "", "at least 1", 1},
		{"metricsp", `"podSandboxId": "p1"`, "", 0},
		{"metricdescs -o yaml", "name: container_cpu", "", 0},
		{"events", `"containerEventType": "CONTAINER_STARTED_EVENT"`, "", 0},
		{"event -o go-template --template {{.containerId}}", "c1\n", "", 0},
		{"events --template x", "", "go-template", 1},
		{"info", `"type": "RuntimeReady"|"n": 12345678901234567890|"a": "<b>"|"note": "text"|"supplemental_groups_policy": true|"name": "runc"`, "", 0},
		{"runtime-config", "cgroup driver:   CGROUPFS\n", "", 0},
		{"update-runtime-config -p 10.0.0.0/8", "", "is changed", 0},
		{"update-runtime-config", "", "nothing to change", 1},
		{"runp jsonschema", `"$schema"|PodSandboxConfig`, "", 0},
		{"create js -c", "ContainerConfig|!base64", "", 0},
		{"run js", "", "--pod or --container", 1},
		{"load nosuch.tar", "", "load needs minid: the runtime at unix://", 1},
		{"save -o /nosuch/x.tar x", "", "save needs minid", 1},
		{"tag a b", "", "tag needs minid", 1},
		{"debug c", "", "debug needs minid", 1},
		{"cp c:/x .", "", "cp needs minid", 1},
		{"cp x y", "", "one of the two is in a container", 1},
		{"completion", "complete -o bashdefault -o default -F _minicrictl minicrictl", "", 0},
		{"man", ".TH \"MINICRICTL\" 8", "", 0},
		{"pss", "", "there is no command \"pss\": did you mean ps?", 1},
		{"ps --al", "", "did you mean --all?", 1},
	} {
		o := call(t, endpoint, strings.Fields(test.args)...)
		if o.code != test.code {
			t.Errorf("%s: code %d, want %d: %s", test.args, o.code, test.code, o.errs)
		}
		for _, side := range [][2]string{{test.out, o.out}, {test.errs, o.errs}} {
			words := strings.Split(side[0], "|")
			if strings.Contains(side[0], "{{") {
				words = []string{side[0]}
			}
			for _, word := range words {
				if without, not := strings.CutPrefix(word, "!"); not && strings.Contains(side[1], without) || !not && !strings.Contains(side[1], word) {
					t.Errorf("%s: %q is not as wanted in:\n%s", test.args, word, side[1])
				}
			}
		}
		if test.code == 0 && test.errs == "" && o.errs != "" && !strings.HasPrefix(test.args, "run ") && !strings.HasPrefix(test.args, "logs") {
			t.Errorf("%s: standard error: %s", test.args, o.errs)
		}
	}
	for method, want := range map[string]string{
		"StopContainer": `"timeout":"3"`, "PullImage": `"username":"u"`, "RunPodSandbox": `"attempt":2`, "CreateContainer": `"value":"Vg=="`,
		"UpdateContainerResources": `"memoryLimitInBytes":"67108864","oomScoreAdj":"7"`, "ExecSync": `"cmd":["cmd","-x"]`,
		"CheckpointContainer": `"location":"/x.tar"`, "UpdateRuntimeConfig": `"podCidr":"10.0.0.0/8"`, "ReopenContainerLog": c3,
	} {
		if all := strings.Join(f.requests(method), "\n"); !strings.Contains(all, want) {
			t.Errorf("%s was asked with %s, want %s", method, all, want)
		}
	}
}

// TestListsStream: the streaming calls are used where the runtime has them, and repeated as a whole when they break.
func TestListsStream(t *testing.T) {
	f, endpoint := world(t)
	f.streams = true
	f.broken["StreamContainers"] = 1
	o := call(t, endpoint, "ps", "-aq")
	if n := strings.Count(o.out, "\n"); n != 3 || o.code != 0 {
		t.Errorf("%d lines, %+v", n, o)
	}
	if len(f.requests("StreamContainers")) != 2 || len(f.requests("ListContainers")) != 0 {
		t.Errorf("asked %v", f.asked)
	}
}

// TestLargeLists: an answer may be larger than gRPC's own limit of 4 MiB, and crictl's of 16.
func TestLargeLists(t *testing.T) {
	f, endpoint := world(t)
	f.containers[0].Annotations = map[string]string{"large": strings.Repeat("x", 20<<20)}
	if o := call(t, endpoint, "ps", "-q"); o.code != 0 {
		t.Error(o.errs)
	}
}

func TestRetries(t *testing.T) {
	f, endpoint := world(t)
	for _, test := range []struct {
		args, method string
		broken       int
		code         int
		asked        int
	}{
		{"version", "Version", 2, 0, 3},
		{"--max-retries 1 version", "Version", 2, 1, 2},
		{"--max-retries 0 version", "Version", 1, 1, 1},
		{"stop x", "StopContainer", 1, 0, 2},
		{"start x", "StartContainer", 1, 1, 1}, // not repeated: it may have started
	} {
		f.mu.Lock()
		f.asked, f.broken = nil, map[string]int{test.method: test.broken}
		f.mu.Unlock()
		o := call(t, endpoint, strings.Fields(test.args)...)
		if n := len(f.requests(test.method)); o.code != test.code || n != test.asked {
			t.Errorf("%s: code %d, asked %d times: %s", test.args, o.code, n, o.errs)
		}
	}
}

func TestDebugShowsCalls(t *testing.T) {
	_, endpoint := world(t)
	o := call(t, endpoint, "--debug", "pull", "--creds", "u:very-secret", "reg/a:1")
	if !strings.Contains(o.errs, "debug: PullImage {") || !strings.Contains(o.errs, "sha256:pulled") || strings.Contains(o.errs, "very-secret") {
		t.Error(o.errs)
	}
}

// TestUnreachable: one line, which says where, why, and what to do.
func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	f := &fake{}
	live := f.serve(t)
	for endpoint, want := range map[string]string{
		"unix://" + dir + "/nosuch": "the socket does not exist: start the runtime",
		live + "/below":             "connect to",
		"http://x":                  "write it as unix:///",
	} {
		o := call(t, endpoint, "ps")
		if o.code != 1 || !strings.Contains(o.errs, want) || strings.Count(o.errs, "\n") != 1 {
			t.Errorf("%s: %d %q, want %q", endpoint, o.code, o.errs, want)
		}
	}
	if o := call(t, "unix://"+dir+"/nosuch", "debug", "c"); !strings.Contains(o.errs, "debug needs minid: no runtime at") || !strings.Contains(o.errs, "--runtime-endpoint") {
		t.Error(o.errs)
	}
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := call(t, dead, "--max-retries", "0", "ps"); !strings.Contains(o.errs, "nobody listens") {
		t.Error(o.errs)
	}
}

func TestConfigCommand(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sub/crictl.yaml")
	run := func(args ...string) string {
		t.Helper()
		var out strings.Builder
		app, _ := newApp()
		app.Writer, app.ErrWriter = &out, &out
		if err := app.Run(append([]string{program, "--config", name, "config"}, args...)); err != nil {
			return err.Error()
		}
		return out.String()
	}
	for _, step := range [][2]string{
		{"--get debug", "false\n"}, {"--set debug=true,timeout=5", ""}, {"--get timeout", "5\n"}, {"runtime-endpoint unix:///x", ""},
		{"--list", "runtime-endpoint       unix:///x"}, {"--get nosuch", `there is no option "nosuch"`}, {"--set nosuch=1", `there is no option "nosuch"`},
		{"--set debug", "KEY=VALUE"},
	} {
		if got := run(strings.Fields(step[0])...); step[1] == "" && got != "" || !strings.Contains(got, step[1]) {
			t.Errorf("config %s: %q, want %q", step[0], got, step[1])
		}
	}
	data, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(data), "timeout: 5\n") || !strings.Contains(string(data), "debug: true\n") {
		t.Errorf("%s %v", data, err)
	}
}

// TestEveryCommandHasUsage walks the whole tree, so that help and manual are complete, and that no flag is there twice.
func TestEveryCommandHasUsage(t *testing.T) {
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			name := path + " " + c.Name
			if c.Usage == "" || c.Action == nil && len(c.Subcommands) == 0 {
				t.Errorf("%s has no usage or does nothing", name)
			}
			seen := map[string]bool{}
			for _, f := range c.Flags {
				for _, n := range f.Names() {
					if seen[n] {
						t.Errorf("%s has the flag %s twice", name, n)
					}
					seen[n] = true
				}
			}
			walk(name, c.Subcommands)
		}
	}
	app, _ := newApp()
	walk(program, app.Commands)
}

// TestInspectionKeepsNumbers: a number that a float cannot hold comes out as it came in.
func TestInspectionKeepsNumbers(t *testing.T) {
	o, err := inspection(map[string]any{}, map[string]string{"info": `{"n":9223372036854775807}`})
	if err != nil {
		t.Fatal(err)
	}
	if data, err := json.Marshal(o); err != nil || !strings.Contains(string(data), "9223372036854775807") {
		t.Errorf("%s %v", data, err)
	}
	if _, err := inspection(nil, map[string]string{"info": "{broken"}); err == nil {
		t.Error("no error for what is no JSON")
	}
}

package scenario_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// besideDocker are mininerd and docker, each with the image bb:1 and a network "net", in a network of the test's own.
func besideDocker(t *testing.T) (n, docker nerd) {
	t.Helper()
	testenv.Image(t, "busybox")
	testenv.Network(t)
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n = newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{Config: "[network]\nprovider = \"builtin\"\n"}))
	d := testenv.StartDocker(t, "--bridge=none", "--iptables=false", "--ip-masq=false", "--storage-driver=vfs")
	docker = nerd{t, d.Program, []string{"--host", d.Host}}
	archive := filepath.Join(testenv.Dir(t), "image.tar")
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("tag", r.Ref("busybox"), "bb:1")
	n.do("save", "-o", archive, "bb:1")
	docker.do("load", "-i", archive)
	netBeside(n, docker)
	return n, docker
}

func netBeside(n, docker nerd) {
	docker.do("network", "create", "--subnet", "10.77.1.0/24", "net")
	n.do("network", "create", "--subnet", "10.77.2.0/24", "net")
}

// TestNerdAndDocker gives the same command lines to both, and compares codes and documents.
func TestNerdAndDocker(t *testing.T) {
	n, docker := besideDocker(t)
	t.Run("codes", func(t *testing.T) { compareCodes(t, n, docker) })
	for name, flags := range map[string]string{
		"plain": "--network none",
		"limits": "--network none --cpus 0.5 --memory 64m --memory-reservation 32m --memory-swappiness 10 --oom-score-adj 100 --pids-limit 50 --cpuset-cpus 0 --cpu-shares 512 " +
			"--ulimit nofile=100:200 --device /dev/fuse --device-cgroup-rule c␣42:*␣rmw --shm-size 32m --device-read-bps /dev/vda:1m --device-write-iops /dev/vda:5",
		"process": "--network none --init -it --label a=b -e A=b --expose 80 --stop-signal INT --stop-timeout 3 --health-cmd true --health-interval 3s --restart on-failure:3 " +
			"--log-opt max-size=1m --log-opt max-file=2 -w /tmp -u 0 --group-add 5 --hostname h --domainname d.e",
		"security": "--network none --cap-add NET_ADMIN --cap-drop CHOWN --security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt label=disable --read-only " +
			"--ipc shareable --pid host --cgroup-parent /nerd --sysctl kernel.msgmax=65536",
		"host":    "--network host --uts host --ipc host",
		"network": "--network net --network-alias al -p 127.0.0.1:8099:80 -p 81 --dns 1.1.1.1 --dns-search a.b --dns-opt ndots:2 --add-host a:1.2.3.4",
	} {
		t.Run(name, func(t *testing.T) { compareInspect(t, n, docker, words(flags)) })
	}
	t.Run("image", func(t *testing.T) { compareDocuments(t, n, docker, "image", "inspect", "bb:1") })
	t.Run("networks", func(t *testing.T) { compareNetworks(t, n, docker) })
	t.Run("of network", func(t *testing.T) { compareDocuments(t, n, docker, "network", "inspect", "net") })
	t.Run("stopped", func(t *testing.T) {
		for _, of := range []nerd{n, docker} {
			of.do("create", "--name=stopped", "--network=net", "-p", "8098:80", "bb:1", "true")
		}
		compareDocuments(t, n, docker, "container", "inspect", "stopped")
	})
	for _, verb := range []string{"info", "version"} {
		t.Run(verb, func(t *testing.T) {
			want, got := map[string]any{}, map[string]any{}
			flatten("", decode[any](t, docker.do(verb, "--format", "{{json .}}")), want)
			flatten("", decode[any](t, n.do(verb, "--format", "{{json .}}")), got)
			for _, k := range slices.Sorted(maps.Keys(want)) {
				other := strings.HasPrefix(k, "ClientInfo.") || strings.HasPrefix(k, "Runtimes.") || strings.HasPrefix(k, "RegistryConfig.") || strings.HasPrefix(k, "Swarm.") // of other shapes
				if _, ok := got[k]; !ok && !other {
					t.Errorf("%s has no %s", verb, k)
				}
			}
		})
	}
}

// compareCodes compares how run, exec and others end.
func compareCodes(t *testing.T, n, docker nerd) {
	n.t, docker.t = t, t
	for _, of := range []nerd{n, docker} {
		of.do("run", "-d", "--name=codes", "--network=none", "bb:1", "sleep", "600")
	}
	for _, line := range []string{
		"run --rm --network none bb:1 sh -c exit␣7", "run --rm --network none bb:1 nosuch", "run --rm --network none bb:1 /etc/passwd",
		"run --rm --network none bb:1 /tmp", "run --rm --network none bb:1 sh -c kill␣-9␣$$",
		"run --rm --network none -u nosuch bb:1 true", "run --rm --network nosuch bb:1 true",
		"run --rm --network none --entrypoint /nosuch bb:1", "run --rm --network none -v /:/ bb:1 true", "run --nosuch bb:1", "run",
		"run --rm --network none NoSuch:1", "create --network none", "exec codes sh -c exit␣9", "exec codes sh -c kill␣-9␣$$",
		"exec nosuch true", "exec -u nosuch codes true", "kill -s NOSUCH codes", "stop nosuch", "rm codes", "inspect nosuch", "logs nosuch", "cp codes:/nosuch /tmp", "wait nosuch",
		"pause nosuch", "update --memory 1k codes", "rename codes codes", "port codes 80", "top codes", "top codes -o pid,comm", "top codes -eo comm", "top codes -o pid=", "top codes -o nosuch", "top codes aux", "network inspect nosuch", "network rm nosuch-network", "rmi nosuch",
		"tag nosuch other", "save nosuch", "history nosuch", "push nosuch.example.invalid/x", "events --since nosuch", "ps --filter nosuch=1", "images --filter dangling=nosuch",
		"container nosuch", "attach nosuch", "inspect -f {{.Config.Labels.nosuch}} codes", "inspect -f {{.NoSuch}} codes", "inspect -f {{.Config.NoSuch}} codes",
	} {
		args := words(line)
		want, got := docker.try(nil, args...), n.try(nil, args...)
		if got.Code != want.Code {
			t.Errorf("%s: code %d, docker's %d\n%s%s", line, got.Code, want.Code, got.Stderr, want.Stderr)
		}
	}
	for _, line := range []string{"top codes -eo comm,pid,args", "top codes -o pid,args"} { // the numbers differ, the columns and commands do not
		want, got := numbers.ReplaceAllString(docker.do(words(line)...), "N"), numbers.ReplaceAllString(n.do(words(line)...), "N")
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
			t.Errorf("%s:\n%s, docker:\n%s", line, got, want)
		}
	}
	for _, of := range []nerd{n, docker} {
		of.do("rm", "-f", "codes")
	}
}

var numbers = regexp.MustCompile(`\b\d+\b`)

func compareInspect(t *testing.T, n, docker nerd, flags []string) {
	n.t, docker.t = t, t
	for _, of := range []nerd{n, docker} {
		defer of.try(nil, "rm", "-f", "same")
		of.do(append(append([]string{"run", "-d", "--name=same"}, flags...), "bb:1", "sleep", "600")...)
	}
	compareDocuments(t, n, docker, "container", "inspect", "same")
}

// compareDocuments compares two documents, field by field. Where they may differ, there is a reason.
func compareDocuments(t *testing.T, n, docker nerd, args ...string) {
	t.Helper()
	n.t, docker.t = t, t
	want, got := map[string]any{}, map[string]any{}
	flatten("", decode[[]any](t, docker.do(args...))[0], want)
	flatten("", decode[[]any](t, n.do(args...))[0], got)
	for _, k := range slices.Sorted(maps.Keys(want)) {
		value, ok := got[k]
		switch {
		case reason(k) != "":
		case !ok:
			t.Errorf("there is no %s; docker's is %v", k, want[k])
		case strings.HasPrefix(k, "HostConfig.Cap") && strings.ReplaceAll(fmt.Sprint(want[k]), "CAP_", "") == strings.ReplaceAll(fmt.Sprint(value), "CAP_", ""): // newer clients write the prefix
		case !reflect.DeepEqual(value, want[k]):
			t.Errorf("%s is %v; docker's is %v", k, value, want[k])
		}
	}
}

// flatten names each value of a document by its path. Empty lists and objects are as good as null.
func flatten(path string, v any, into map[string]any) {
	switch x := v.(type) {
	case map[string]any:
		for k, below := range x {
			flatten(strings.TrimPrefix(path+"."+k, "."), below, into)
		}
		if len(x) == 0 {
			into[path] = nil
		}
	case []any:
		if len(x) == 0 {
			into[path] = nil
			return
		}
		into[path] = x
		if strings.HasSuffix(path, "Mounts") {
			slices.SortFunc(x, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	default:
		into[path] = v
	}
}

// reason says why a field is not docker's; docs/mininerd.md has them too. Empty: it is.
func reason(field string) string {
	for prefix, why := range map[string]string{
		"Id": "each its own", "Created": "each its own", "State.Pid": "each its own", "State.StartedAt": "each its own", "State.FinishedAt": "each its own",
		"State.Health": "checks run when they run", "LogPath": "where it is", "ResolvConfPath": "where it is", "HostnamePath": "where it is", "HostsPath": "where it is",
		"Config.Hostname": "its id, unless it was given", "HostConfig.CgroupnsMode": "private everywhere, docker's only with cgroup v2",
		"HostConfig.MaskedPaths": "those that this kernel has", "HostConfig.ReadonlyPaths": "those that this kernel has", "HostConfig.OomKillDisable": "docker says null where it is refused",
		"Driver": "overlay is the snapshotter's name", "GraphDriver": "where it is, and vfs has other directories",
		"NetworkSettings.SandboxID": "each its own", "NetworkSettings.SandboxKey": "where it is; a namespace that nobody shares has no file",
		"NetworkSettings.Networks.none.": "the network none has no id", "NetworkSettings.Networks.host.": "the network host has no id",
		"NetworkSettings.Networks.net.": "addresses and ids are each its own", "NetworkSettings.Ports.81/tcp": "a free port is each its own",
		"RepoDigests": "docker knows none of what it has loaded", "RepoTags": "the registry's name is there too", "Size": "docker counts bytes, the snapshotter blocks", "VirtualSize": "gone from docker's API",
		"ContainerConfig": "gone from docker's API", "DockerVersion": "gone from docker's API", "Container": "gone from docker's API", "Metadata": "when it was loaded",
		"IPAM.Config": "each its own addresses",
	} {
		if field == prefix || strings.HasPrefix(field, prefix) && !strings.HasPrefix(prefix, "Container") {
			return why
		}
		if strings.HasPrefix(prefix, "Container") && strings.HasPrefix(field, prefix+".") {
			return why
		}
	}
	return ""
}

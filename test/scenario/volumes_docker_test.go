package scenario_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestVolumesLikeDocker gives the same command lines to docker, and compares codes, words and what inspect has.
func TestVolumesLikeDocker(t *testing.T) {
	v := newVolumes(t, testenv.DaemonOptions{})
	docker := nerd{t, "docker", []string{"--host", startDocker(t)}}
	dir := testenv.Dir(t)
	archive := filepath.Join(dir, "image.tar")
	v.do("tag", v.image, "vol:1")
	v.do("save", "-o", archive, "vol:1")
	docker.do("load", "-i", archive)
	// Ids, and the directory of the volumes.
	varies := regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{12}|/[^ "]*/volumes(/default)?`)
	same := func(text string) string { return varies.ReplaceAllString(text, "?") }
	const mounts = "{{json␣.Mounts}}"
	for _, test := range []struct {
		line   string
		same   bool   // the output is the same, but for what varies
		stderr string // words that both have
	}{
		{"volume create data", true, ""},
		{"volume create data", true, ""},
		{"volume create", true, ""},
		{"volume create --label a=b -o type=tmpfs -o device=tmpfs -o o=size=1m mem", true, ""},
		{"volume create x", true, "too short"},
		{"volume create a/b", true, "includes invalid characters for a local volume name"},
		{"volume create -o type=tmpfs bad", true, "missing required option"},
		{"volume create -o colour=red bad", true, "invalid option"},
		{"volume create -d nosuch bad", true, `plugin "nosuch" not found`},
		{"volume create one two", true, ""},
		{"volume ls -qf name=data", true, ""},
		{"volume ls -f name=data", true, ""},
		{"volume ls -f label=a=b --format {{.Name}}:{{.Driver}}:{{.Scope}}:{{.Labels}}:{{.Size}}:{{.Links}}:{{.Mountpoint}}", true, ""},
		{"volume ls -f colour=red", true, "nvalid filter"},
		{"volume inspect -f {{.Name}}:{{.Driver}}:{{.Scope}}:{{.Mountpoint}}:{{.Labels}}:{{.Options}} mem", true, ""},
		{"volume inspect nosuch", true, "get nosuch: no such volume"},
		{"volume rm nosuch", true, "get nosuch: no such volume"},
		{"volume rm -f nosuch", true, ""},
		{"run --rm --network none -v data:/content vol:1 sh -c ls␣/content;stat␣-c␣%a:%u:%g␣/content␣/content/file", true, ""},
		{"run --rm --network none -v data:/content vol:1 rm /content/file", true, ""},
		{"run --rm --network none -v data:/content vol:1 ls /content", true, ""},
		{"run --rm --network none -v bare:/content:nocopy vol:1 ls /content", true, ""},
		{"run --rm --network none -v mem:/m vol:1 df -k /m", false, ""},
		{"run --rm --network none vol:1 sh -c ls␣/content;stat␣-c␣%a␣/empty", true, ""},
		{"volume ls -qf name=^[a-z]{3,4}$", true, ""}, // none of those that --rm takes along
		{"run --rm --network none -v /etc/passwd vol:1 true", true, "cannot mount volume over existing file, file exists"},
		{"run --rm --network none -v data:/a -v data:/a vol:1 true", true, ""},
		{"run --rm --network none -v data:/a -v mem:/a vol:1 true", true, "uplicate mount point: /a"},
		{"run --rm --network none -v data:/a:fast vol:1 true", true, "invalid mode: fast"},
		{"run --rm --network none -v data:/a:rshared vol:1 true", true, "invalid"},
		{"run --rm --network none -v a/b:/a vol:1 true", true, "includes invalid characters for a local volume name"},
		{"run --rm --network none -v data:a vol:1 true", true, "invalid volume specification"},
		{"run --rm --network none -v /:ro vol:1 true", true, "invalid volume specification"},
		{"run --rm --network none --mount type=bind,src=/no/such,dst=/a vol:1 true", true, "/no/such"},
		{"run --rm --network none --mount type=bind,dst=/a,volume-nocopy,src=/tmp vol:1 true", true, "cannot mix 'volume-*' options with mount type 'bind'"},
		{"run --rm --network none --mount type=tmpfs,src=x,dst=/a vol:1 true", true, "ource"},
		{"run --rm --network none --mount src=x vol:1 true", true, "target is required"},
		{"run --rm --network none --mount what vol:1 true", true, "must be a key=value pair"},
		{"run --rm --network none --mount colour=red,dst=/a vol:1 true", true, "unexpected key 'colour' in 'colour=red'"},
		{"run --rm --network none --volumes-from nobody vol:1 true", true, "nobody"},
		{"create --name named --network none --tmpfs /content --tmpfs /empty -v data:/a vol:1", true, ""},
		{"inspect -f " + mounts + " named", true, ""},
		{"inspect -f {{json␣.HostConfig.Binds}}{{json␣.HostConfig.VolumesFrom}}{{json␣.Config.Volumes}} named", true, ""},
		{"volume rm data", true, "volume is in use"},
		{"create --name asked --network none --tmpfs /content --tmpfs /empty --mount src=data,dst=/a,ro vol:1", true, ""},
		{"inspect -f {{range␣.Mounts}}{{.Type}}:{{.Name}}:{{.Source}}:{{.Destination}}:{{.RW}}:{{.Propagation}}{{end}} asked", true, ""},
		{"create --name bound --network none --tmpfs /content --tmpfs /empty -v " + dir + ":/a:ro,rslave vol:1", true, ""},
		{"inspect -f " + mounts + " bound", true, ""},
		{"inspect -f {{json␣.HostConfig.Binds}} bound", true, ""},
		{"create --name image --network none --tmpfs /content vol:1", true, ""},
		{"inspect -f " + mounts + " image", true, ""},
		{"create --name tmp --network none --tmpfs /content --tmpfs /empty --mount type=tmpfs,dst=/a vol:1", true, ""},
		{"inspect -f " + mounts + " tmp", true, ""},
		{"create --name heir --network none --tmpfs /content --tmpfs /empty --volumes-from named:ro vol:1", true, ""},
		{"inspect -f {{json␣.Mounts}}{{json␣.HostConfig.VolumesFrom}} heir", true, ""},
		{"ps -a --filter volume=data --format {{.Names}}", true, ""},
		{"ps -a --filter volume=/a --format {{.Names}}:{{.LocalVolumes}}", true, ""},
		{"ps -a --filter name=named --format {{.Mounts}}", true, ""},
		{"rm -v named asked bound image tmp heir", true, ""},
		{"volume ls -qf dangling=true -f name=^[a-z]{3,4}$", true, ""},
		{"volume rm data mem nosuch", true, "get nosuch: no such volume"},
		{"volume", false, ""},
	} {
		args := strings.Split(test.line, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "␣", " ")
		}
		want, got := docker.try(nil, args...), v.try(nil, args...)
		if got.Code != want.Code {
			t.Errorf("%s: code %d, docker's %d\n%s%s", test.line, got.Code, want.Code, got.Stderr, want.Stderr)
		}
		if a, b := same(got.Stdout), same(want.Stdout); test.same && a != b {
			t.Errorf("%s: printed\n%s docker:\n%s", test.line, a, b)
		}
		for name, text := range map[string]string{"mininerd": got.Stderr, "docker": want.Stderr} {
			if !strings.Contains(text, test.stderr) {
				t.Errorf("%s: %s does not say %q:\n%s", test.line, name, test.stderr, text)
			}
		}
	}
	document := func(of nerd) []string {
		of.do("volume", "create", "keys")
		return slices.Sorted(maps.Keys(decode[map[string]json.RawMessage](t, of.do("volume", "inspect", "-f", "{{json .}}", "keys"))))
	}
	if got, want := document(v.nerd), document(docker); !slices.Equal(got, want) {
		t.Errorf("volume inspect has %v, docker's %v", got, want)
	}
}

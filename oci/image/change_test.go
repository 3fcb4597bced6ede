package image

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestChange(t *testing.T) {
	for _, test := range []struct{ change, want string }{
		{`CMD ["a", "b c"]`, `"Cmd":["a","b c"]`},
		{`cmd echo $HOME "x"`, `"Cmd":["/bin/sh","-c","echo $HOME \"x\""]`},
		{`CMD [not json]`, `"Cmd":["/bin/sh","-c","[not json]"]`},
		{`CMD []`, `-"Cmd"`},
		{`CMD`, `-"Cmd"`},
		{`ENTRYPOINT ["e"]`, `"Entrypoint":["e"]|-"Cmd"`},
		{"CMD new\nENTRYPOINT e", `"Cmd":["/bin/sh","-c","new"]|"Entrypoint":["/bin/sh","-c","e"]`},
		{`ENV A=1 B="two words" C=$OLD/x D='$OLD' E=${NONE:-def} F=${OLD:+set} G=a\ b`, `"OLD=old","A=1","B=two words","C=old/x","D=$OLD","E=def","F=set","G=a b"`},
		{`ENV OLD new value`, `"Env":["OLD=new value"]`},
		{`ENV OLD=1 X=$OLD`, `"Env":["OLD=1","X=old"]`},
		{`LABEL a=b "c d"="e f"`, `"Labels":{"a":"b","c d":"e f","kept":"yes"}`},
		{`LABEL a b c`, `"a":"b c"`},
		{"LABEL a=b \\\n  # comment\n  c=d", `"a":"b","c":"d"`},
		{`EXPOSE 80 53/udp 8000-8002`, `"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}`},
		{`VOLUME ["/a b"]`, `"Volumes":{"/a b":{},"/had":{}}`},
		{`VOLUME /x $OLD`, `"Volumes":{"/had":{},"/x":{},"old":{}}`},
		{`USER 1000:1000`, `"User":"1000:1000"`},
		{`WORKDIR sub/../other`, `"WorkingDir":"/was/other"`},
		{`WORKDIR /abs`, `"WorkingDir":"/abs"`},
		{`STOPSIGNAL SIGQUIT`, `"StopSignal":"SIGQUIT"`},
		{`ONBUILD RUN make`, `"OnBuild":["RUN make"]`},
		{`HEALTHCHECK --interval=5s --retries=2 CMD curl -f http://x`, `"Healthcheck":{"Test":["CMD-SHELL","curl -f http://x"],"Interval":5000000000,"Retries":2}`},
		{`HEALTHCHECK CMD ["a"]`, `"Test":["CMD","a"]`},
		{`HEALTHCHECK NONE`, `"Test":["NONE"]`},
		{"# nothing\n\n", `"Cmd":["old"]`},

		{`FROM x`, "!FROM is not an instruction that changes"},
		{`RUN x`, "!RUN is not"},
		{`ENV A`, "!A has no value"},
		{`ENV A=1 B`, `!"B" is not NAME=VALUE`},
		{`ENV`, "!wants NAME=VALUE"},
		{`ENV A="x`, `!a quote " has no end`},
		{`ENV A=${B`, "!after the name"},
		{`ENV A=${}`, "!has no name"},
		{`EXPOSE 0`, "!ports go from 1"},
		{`EXPOSE 80/xyz`, "!tcp, udp or sctp"},
		{`EXPOSE`, "!at least one"},
		{`VOLUME [""]`, "!the path is empty"},
		{`USER`, "!wants one"},
		{`USER a b`, "!wants one"},
		{`ONBUILD ONBUILD RUN x`, "!not allowed"},
		{`ONBUILD FROM x`, "!not allowed"},
		{`HEALTHCHECK --interval=x CMD y`, "!write a duration"},
		{`HEALTHCHECK --what=1 CMD y`, "!not known"},
		{`HEALTHCHECK --retries=1 NONE`, "!takes no arguments"},
		{`HEALTHCHECK CMD`, "!wants a command"},
		{`HEALTHCHECK`, "!wants CMD or NONE"},
	} {
		c := Config{ImageConfig: ocispec.ImageConfig{
			Cmd: []string{"old"}, Env: []string{"OLD=old"}, WorkingDir: "/was", Labels: map[string]string{"kept": "yes"}, Volumes: map[string]struct{}{"/had": {}},
		}}
		err := c.Change(test.change)
		if want, fails := strings.CutPrefix(test.want, "!"); fails {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", test.change, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.change, err)
			continue
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range strings.Split(test.want, "|") {
			absent, no := strings.CutPrefix(want, "-")
			if strings.Contains(string(data), absent) == no {
				t.Errorf("%s: %s, want %s", test.change, data, want)
			}
		}
	}
}

// TestDocument keeps what Docker's configs have, and counts a layer without anything in the history alone.
func TestDocument(t *testing.T) {
	d, err := ParseDocument([]byte(`{"architecture":"arm64","variant":"v8","os":"linux","config":{"Cmd":["x"],"Healthcheck":{"Test":["CMD","y"]},"OnBuild":["RUN z"],"Shell":["/bin/ash"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"comment":"first"}]}`))
	if err != nil || d.Variant != "v8" || d.Config.Cmd[0] != "x" || d.Config.Healthcheck.Test[1] != "y" || d.Config.OnBuild[0] != "RUN z" {
		t.Fatalf("%+v, %v", d, err)
	}
	if d.Add(emptyDiffID, ocispec.History{Comment: "empty"}) || !d.Add("sha256:"+emptyDiffID[len("sha256:")+1:]+"0", ocispec.History{Author: "me"}) {
		t.Error("which layer is empty?")
	}
	data, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(data), `"Shell":["/bin/ash"]`) || strings.Count(string(data), `"config"`) != 1 {
		t.Errorf("%s, %v", data, err)
	}
	again, err := ParseDocument(data)
	if err != nil || len(again.History) != 3 || !again.History[1].EmptyLayer || again.History[2].EmptyLayer || len(again.RootFS.DiffIDs) != 1 || again.Author != "me" || again.Created == nil {
		t.Errorf("%+v, %v", again, err)
	}
}

func FuzzChange(f *testing.F) {
	for _, seed := range []string{`CMD ["a"]`, "ENV A=$B C=${D:-${E:+f}}", "LABEL a=b \\\n c='d'", "EXPOSE 1-9/udp", "HEALTHCHECK --interval=1s CMD x", "VOLUME [\"/a\"]", "WORKDIR ../..", "ENV A \"b\" \\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{ImageConfig: ocispec.ImageConfig{Env: []string{"B=${B}${B}", "D="}}}
		if err := c.Change(text); err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Error(err)
			}
			return
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 64*(len(text)+maxInstruction) {
			t.Errorf("%d bytes became %d", len(text), len(data))
		}
		for _, kv := range c.Env {
			if !strings.Contains(kv, "=") || strings.HasPrefix(kv, "=") {
				t.Errorf("environment %q", kv)
			}
		}
	})
}

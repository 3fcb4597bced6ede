package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/internal/testenv"
)

// TestContentVerbs goes through what minictr does with blobs.
func TestContentVerbs(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	text := "some content\n"
	dgst := digest.FromString(text).String()
	if got := feed(t, d, text, "content", "ingest", "--expected-size", fmt.Sprint(len(text)), "--expected-digest", dgst, "--label", "a=b", "first"); got != dgst+"\n" {
		t.Errorf("ingest printed %q, want %s", got, dgst)
	}
	if got := d.Minictr("content", "get", dgst); got != text {
		t.Errorf("get: %q", got)
	}
	list := d.Minictr("content", "ls")
	header(t, list, "DIGEST", "SIZE", "AGE", "LABELS")
	if !strings.Contains(list, dgst) || !strings.Contains(list, "a=b") {
		t.Errorf("list:\n%s", list)
	}
	if got := d.Minictr("content", "ls", "-q"); got != dgst+"\n" {
		t.Errorf("list -q: %q", got)
	}
	if got := d.Minictr("content", "label", dgst, "c=d", "a="); got != "c=d\n" {
		t.Errorf("label: %q", got)
	}
	if got := d.Minictr("content", "ls", "-q", "labels.c==d") + d.Minictr("content", "ls", "-q", "labels.c==x"); got != dgst+"\n" {
		t.Errorf("list by label: %q", got)
	}
	infos := decode[[]struct {
		Digest string
		Size   int
	}](t, d.Minictr("content", "ls", "-o", "json"))
	if len(infos) != 1 || infos[0].Digest != dgst || infos[0].Size != len(text) {
		t.Errorf("list -o json: %+v", infos)
	}
	d.Minictr("content", "rm", dgst)
	refused(t, d.Try("content", "rm", dgst), dgst, "not in the content")
	refused(t, d.Try("content", "get", dgst), dgst, "not in the content")
	refused(t, d.Try("content", "get", "nonsense"), "nonsense")
	if got := d.Minictr("content", "ls", "-o", "json"); got != "[]\n" {
		t.Errorf("an empty list as JSON: %q", got)
	}
}

// TestIngestRefused sends other bytes than were announced.
func TestIngestRefused(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	wrong := digest.FromString("other").String()
	for name, flags := range map[string][]string{"digest": {"--expected-digest", wrong}, "more than": {"--expected-size", "3"}} {
		o := call{stdin: strings.NewReader("some content")}.run(t, d, append(append([]string{"content", "ingest"}, flags...), "bad")...)
		refused(t, o, name)
	}
	refused(t, call{stdin: strings.NewReader("some")}.run(t, d, "content", "ingest", "--expected-size", "12", "short"), "write the rest")
	feed(t, d, "some content", "content", "ingest", "--expected-size", "12", "short")
	d.Minictr("content", "prune")
	if left := d.Minictr("content", "ls", "-q") + d.Minictr("content", "active", "-q"); left != "" {
		t.Errorf("left after refused ingests: %s", left)
	}
}

// TestActiveIngests looks at a write that is under way, that stops, goes on, and is given up.
func TestActiveIngests(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	part := strings.Repeat("x", 4<<20)
	p := beginWith(t, d, in, "content", "ingest", "slow")
	if _, err := out.WriteString(part); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, "the ingest is listed with its bytes", func() bool {
		table := d.Minictr("content", "active")
		header(t, table, "REF", "SIZE", "TOTAL", "STARTED", "UPDATED")
		return strings.Contains(table, "slow") && strings.Contains(table, "4MiB")
	})
	refused(t, call{stdin: strings.NewReader("more")}.run(t, d, "content", "ingest", "slow"), "slow")
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	out.Close()
	whole := part + "the rest"
	testenv.Eventually(t, 5*time.Second, "the write goes on where it stopped", func() bool {
		o := call{stdin: strings.NewReader(whole)}.run(t, d, "content", "ingest", "slow")
		return o.Code == 0 && o.Stdout == digest.FromString(whole).String()+"\n"
	})
	if left := d.Minictr("content", "active", "-o", "json"); left != "[]\n" {
		t.Errorf("active after the end: %s", left)
	}
}

// TestContentEdit edits a blob with an editor that is a script.
func TestContentEdit(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	dgst := strings.TrimSpace(feed(t, d, `{"word":"old"}`, "content", "ingest", "doc"))
	script := filepath.Join(testenv.Dir(t), "editor")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsed -i s/old/new/ \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := `{"word":"new"}`
	for name, o := range map[string]testenv.Output{
		"EDITOR":   call{env: []string{"EDITOR=" + script}}.run(t, d, "content", "edit", dgst),
		"--editor": d.Try("content", "edit", "--editor", script, "--validate", "grep -q new", dgst),
	} {
		if o.Code != 0 || strings.TrimSpace(o.Stdout) != digest.FromString(want).String() {
			t.Errorf("%s: code %d: %s%s", name, o.Code, o.Stdout, o.Stderr)
		}
	}
	if got := d.Minictr("content", "get", digest.FromString(want).String()); got != want {
		t.Errorf("the edited blob: %q", got)
	}
	refused(t, d.Try("content", "edit", "--editor", script, "--validate", "grep -q never", dgst), "grep -q never")
	refused(t, d.Try("content", "edit", "--editor", "false", dgst), "false")
}

// TestContentFetch brings content without making images of it.
func TestContentFetch(t *testing.T) {
	i := testenv.Image(t, "schema2")
	m := manifestOf(t, i)
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	repo := r.Address + "/schema2"

	if got := d.Minictr("content", "fetch", "-q", "--metadata-only", r.Ref("schema2")); got != i.Digest+"\n" {
		t.Errorf("fetch printed %q", got)
	}
	if list := lines(d.Minictr("content", "ls", "-q")); !slices.Contains(list, i.Digest) || slices.Contains(list, m.Layers[0].Digest.String()) {
		t.Errorf("manifests and configs only: %v", list)
	}
	layer := d.Minictr("content", "fetch-blob", repo, m.Layers[1].Digest.String())
	if digest.FromString(layer) != m.Layers[1].Digest {
		t.Error("fetch-blob gave other bytes")
	}
	if got := d.Minictr("content", "fetch-object", "--media-type", i.MediaType, repo, i.Digest); got != string(testenv.Blob(t, i.Digest)) {
		t.Errorf("fetch-object of the manifest: %s", got)
	}
	refused(t, d.Try("content", "fetch-blob", repo, digest.FromString("nothing").String()), r.Address)
	if images := d.Minictr("images", "ls", "-q"); images != "" {
		t.Errorf("fetch made images: %s", images)
	}

	fresh := strings.TrimSpace(feed(t, d, "a new blob", "content", "ingest", "fresh"))
	d.Minictr("content", "push-object", r.Address+"/objects", fresh, "text/plain")
	d.Minictr("content", "rm", fresh)
	if got := d.Minictr("content", "fetch-blob", r.Address+"/objects", fresh); got != "a new blob" {
		t.Errorf("the pushed object came back as %q", got)
	}
}

package scenario_test

import (
	"bytes"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// running is a minictr that goes on while the test does something else.
type running struct {
	*exec.Cmd
	mu  sync.Mutex
	err bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err.Write(p)
}

// said is what it has written.
func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err.String()
}

func begin(t *testing.T, d *testenv.DaemonProcess, args ...string) *running {
	t.Helper()
	return beginWith(t, d, nil, args...)
}

func beginWith(t *testing.T, d *testenv.DaemonProcess, stdin io.Reader, args ...string) *running {
	t.Helper()
	r := &running{Cmd: exec.CommandContext(t.Context(), testenv.Binary(t, "minictr"), append([]string{"--address", d.Address}, args...)...)}
	r.Stdin, r.Stdout, r.Stderr = stdin, r, r
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPullsAtOnce pulls the same image twice at the same time: each blob is fetched once.
func TestPullsAtOnce(t *testing.T) {
	i := testenv.Image(t, "nginx")
	layers := manifestOf(t, i).Layers
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	open := make(chan struct{})
	config := manifestOf(t, i).Config.Digest.String()
	slow := newProxy(t, r, func(digest string, _ int, body io.ReadCloser) io.ReadCloser {
		if digest == config {
			return body
		}
		return gated{body, open}
	})
	flags := []string{"images", "pull", "--hosts-dir", hostsDir(t, "slow.example", slow.URL)}
	var pulls []*running
	for _, ref := range []string{"slow.example/nginx:latest", "slow.example/nginx@" + i.Digest, "slow.example/nginx:latest"} {
		pulls = append(pulls, begin(t, d, append(slices.Clone(flags), ref)...))
	}
	for _, p := range pulls {
		testenv.Eventually(t, 10*time.Second, "every pull waits for the last layer", func() bool {
			return strings.Contains(p.said(), "layer "+layers[1].Digest.Encoded()[:12])
		})
	}
	close(open)
	for n, p := range pulls {
		if err := p.Wait(); err != nil {
			t.Errorf("pull %d: %v: %s", n, err, p.said())
		}
	}
	gets, _ := slow.requests()
	for _, l := range layers {
		if n := gets[l.Digest.String()]; n != 1 {
			t.Errorf("layer %s was fetched %d times", l.Digest, n)
		}
	}
	whole(t, d, "slow.example/nginx:latest")
	whole(t, d, "slow.example/nginx@"+i.Digest)
}

// TestPullInterrupted cancels a pull by Ctrl-C, and by the end of its time: nothing of the image is listed, and the next
// pull goes on where the first one stopped.
func TestPullInterrupted(t *testing.T) {
	i := testenv.Image(t, "nginx")
	big := manifestOf(t, i).Layers[1]
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	never := make(chan struct{})
	stuck := newProxy(t, r, func(digest string, nth int, body io.ReadCloser) io.ReadCloser {
		if digest == big.Digest.String() && nth <= 2 {
			return &broken{ReadCloser: body, left: big.Size / 4, wait: never}
		}
		return body
	})
	t.Cleanup(func() { close(never) })
	ref := "stuck.example/nginx:latest"
	pull := []string{"images", "pull", "--hosts-dir", hostsDir(t, "stuck.example", stuck.URL), ref}
	size := func() int64 {
		for _, ingest := range decode[[]struct {
			Ref    string
			Offset int64
		}](t, d.Minictr("content", "active", "-o", "json")) {
			if strings.Contains(ingest.Ref, big.Digest.String()) {
				return ingest.Offset
			}
		}
		return 0
	}
	p := begin(t, d, pull...)
	testenv.Eventually(t, 10*time.Second, "a part of the layer has come", func() bool { return size() == big.Size/4 })
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 130 || !strings.Contains(p.said(), "interrupted") {
		t.Errorf("after an interrupt: exit code %d: %s", code, p.said())
	}
	testenv.Eventually(t, 5*time.Second, "the daemon has stopped the pull", func() bool {
		return strings.Contains(d.Log(), "code=Canceled")
	})

	o := d.Try(append([]string{"--timeout", "1s"}, pull...)...)
	refused(t, o, "--timeout", "1s")
	if o.Code != 1 {
		t.Errorf("after the end of its time: exit code %d", o.Code)
	}
	if list := d.Minictr("images", "ls", "-q"); strings.Contains(list, ref) {
		t.Errorf("listed after two interrupted pulls: %s", list)
	}
	d.Minictr(pull...)
	whole(t, d, ref)
	_, ranges := stuck.requests()
	if len(ranges) < 2 || !strings.HasPrefix(ranges[len(ranges)-1], "bytes=") || ranges[len(ranges)-1] == "bytes=0-" {
		t.Errorf("the pull did not go on where it had stopped: %q", ranges)
	}
	d.Minictr("check")
}

// TestPullKilled kills minid at every failure point of a pull: then there is a whole image or none, and the next pull makes
// one.
func TestPullKilled(t *testing.T) {
	testenv.Image(t, "mixed")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("images", "pull", "-q", toolbox) // so that its import does not meet the failure points
	ref := r.Ref("mixed")
	for _, point := range []string{
		"pull-resolved", "pull-layer-fetched", "pull-layer-fetched=2*", "pull-layer-applied", "pull-layer-applied=3*",
		"pull-before-sync", "pull-after-sync", "pull-before-record", "pull-after-record",
		"content-commit-before-rename", "content-commit-before-rename=4*", "content-commit-after-rename", "content-commit-after-rename=5*",
		"snapshot-recorded", "snapshot-filled", "snapshot-committing", "snapshot-committing=2*", "store-before-commit=3*", "store-after-commit=5*",
	} {
		name, count, _ := strings.Cut(point, "=")
		d.Kill9()
		d.Env = []string{"MINI_FAILPOINT=" + name + "=" + count + "kill"}
		d.Start()
		o := d.Try("images", "pull", ref)
		if o.Code == 0 || !d.WaitEnd(5*time.Second) {
			t.Errorf("%s: minid was not killed: pull ended with %d", point, o.Code)
		}
		if !strings.Contains(o.Stderr, "the connection to the daemon") {
			t.Errorf("%s: the client says: %s", point, lines(o.Stderr)[len(lines(o.Stderr))-1])
		}
		d.Env = nil
		if d.Ended() {
			d.Start()
		}
		if listed := strings.Contains(d.Minictr("images", "ls", "-q"), ref); listed {
			whole(t, d, ref)
		} else if point == "pull-after-record" {
			t.Errorf("%s: the image is not there", point)
		}
		d.Minictr("check")
		d.Minictr("images", "pull", "-q", ref)
		whole(t, d, ref)
		d.Minictr("check")
		d.Minictr("images", "rm", ref)
		// What a killed pull has brought is kept for a while by its lease, for the next try.
		if leases := lines(d.Minictr("leases", "ls", "-q")); len(leases) > 0 {
			d.Minictr(append([]string{"leases", "rm"}, leases...)...)
		}
		d.Minictr("content", "prune", "references")
	}
	if left := d.Minictr("content", "ls", "-q"); len(lines(left)) > 3 {
		t.Errorf("blobs left after the last image was removed:\n%s", left)
	}
	d.Minictr("images", "rm", "--sync", "mini/toolbox:latest")
	if left := d.Minictr("content", "ls", "-q") + d.Minictr("snapshots", "ls", "-q") + d.Minictr("content", "active", "-q"); left != "" {
		t.Errorf("left over after all:\n%s", left)
	}
}

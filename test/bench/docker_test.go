//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// dockerlike is one of the two command lines, with a daemon of its own.
type dockerlike struct {
	t    *testing.T
	name string
	args []string // program and global flags
	dir  string   // of its archives
}

func (d *dockerlike) try(args ...string) (string, error) {
	all := append(append([]string{}, d.args...), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), "MININERD_TOML="+os.DevNull)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(all, " "), err, errs.String())
	}
	return out.String(), nil
}

func (d *dockerlike) do(args ...string) string {
	d.t.Helper()
	out, err := d.try(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *dockerlike) file(name string) string { return filepath.Join(d.dir, name) }

// does makes a contender of a command line; prepare may be nil.
func (d *dockerlike) does(prepare func(*dockerlike), args ...string) contender {
	c := contender{name: d.name, once: func(int) { d.do(args...) }}
	if prepare != nil {
		c.prepare = func(int) { prepare(d) }
	}
	return c
}

// TestBenchDocker measures mininerd with minid against Debian's docker, in turn, each with its default network, and writes
// the table to the standard output and to .cache/bench-docker.md.
func TestBenchDocker(t *testing.T) {
	testenv.Network(t)
	registry := testenv.Registry(t, testenv.RegistryOptions{})
	minid := testenv.Daemon(t, testenv.DaemonOptions{Config: "[network]\nprovider = \"builtin\"\n"})
	dockerd := testenv.StartDocker(t, "--storage-driver=overlay2")
	ours := &dockerlike{t, "mininerd", []string{testenv.Binary(t, "mininerd"), "--address", minid.Address}, testenv.Dir(t)}
	theirs := &dockerlike{t, "docker", []string{dockerd.Program, "--host", dockerd.Host}, testenv.Dir(t)}
	busybox, large := registry.Ref("busybox"), registry.Ref("large")
	rounds, pulls, containers := setting(t, "BENCH_ROUNDS", 25), setting(t, "BENCH_PULLS", 5), setting(t, "BENCH_CONTAINERS", 200)
	both := func(do func(*dockerlike)) {
		do(ours)
		do(theirs)
	}
	both(func(d *dockerlike) {
		d.do("pull", "-q", busybox)
		d.do("run", "-d", "--name=up", busybox, "sleep", "36000")
	})
	compare := func(what string, goal float64, rounds int, prepare func(*dockerlike), args ...string) string {
		return comparison{what: what, goal: goal, rounds: rounds, a: ours.does(prepare, args...), b: theirs.does(prepare, args...)}.run(t)
	}
	lines := []string{
		fmt.Sprintf("Docker. Kernel %s; %s, daemon %s. Medians (fastest to slowest), measured in turn.", strings.TrimSpace(testenv.Run(t, "uname", "-r")),
			firstLine(theirs.do("--version")), firstLine(theirs.do("version", "--format", "{{.Server.Version}}"))), "", header,
		compare("run --rm of true", 0.25, rounds, nil, "run", "--rm", busybox, "true"),
		compare("exec of true", 0.25, rounds, nil, "exec", "up", "true"),
	}
	both(func(d *dockerlike) { d.createMany(busybox, containers) })
	lines = append(lines, compare(fmt.Sprintf("ps -a with %d containers", containers), 0.2, rounds, nil, "ps", "-a"))

	without := func(d *dockerlike) {
		_, _ = d.try("rmi", large) // it may not be there
		settle(t)
	}
	lines = append(lines, compare("pull 400 MB in 30 layers", 0.7, pulls, without, "pull", "-q", large))
	theirs.do("save", "-o", theirs.file("load"), large)
	testenv.Run(t, "ln", theirs.file("load"), ours.file("load")) // the same archive for both
	save := func(d *dockerlike) contender {
		return d.does(func(d *dockerlike) {
			_ = os.Remove(d.file("save")) // the first time there is none
			settle(t)
		}, "save", "-o", d.file("save"), large)
	}
	lines = append(lines, comparison{what: "save of 400 MB", goal: 0.7, rounds: pulls, a: save(ours), b: save(theirs)}.run(t))
	load := func(d *dockerlike) contender { return d.does(without, "load", "-i", d.file("load")) }
	lines = append(lines, comparison{what: "load of docker's archive of 400 MB", goal: 0.7, rounds: pulls, a: load(ours), b: load(theirs)}.run(t))
	both(func(d *dockerlike) {
		ids := strings.Fields(d.do("ps", "-aq"))
		d.do(append([]string{"rm", "-f"}, ids...)...)
	})
	text := strings.Join(lines, "\n") + "\n"
	fmt.Print("\n", text)
	if err := os.WriteFile(filepath.Join(testenv.Repository(t), ".cache/bench-docker.md"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// createMany makes containers that are not started: to a listing they are like others.
func (d *dockerlike) createMany(image string, n int) {
	d.t.Helper()
	const atOnce = 4
	for i := 0; i < n; i += atOnce {
		together(min(atOnce, n-i), func(k int) error {
			_, err := d.try("create", "--name", fmt.Sprintf("many-%d", i+k), image, "true")
			return err
		}, d.t)
	}
}

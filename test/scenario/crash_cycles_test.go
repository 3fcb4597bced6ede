package scenario_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// How many cycles TestCrashCycles makes, and the seed of its choices, of an earlier run's message.
const (
	cyclesEnv = "MINI_CRASH_CYCLES"
	seedEnv   = "MINI_CRASH_SEED"
)

// failurePoints finds the names of all failure points in the sources.
func failurePoints(t *testing.T) []string {
	t.Helper()
	call := regexp.MustCompile(`failpoint\.Hit\("([a-z-]+)"\)`)
	var names []string
	err := filepath.WalkDir(filepath.Join(testenv.Repository(t), "runtime"), func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		data, err := os.ReadFile(name)
		for _, found := range call.FindAllSubmatch(data, -1) {
			names = append(names, string(found[1]))
		}
		return err
	})
	if err != nil || len(names) < 10 {
		t.Fatalf("failure points: %q: %v", names, err)
	}
	return names
}

func number64(t *testing.T, env string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return n
}

// cycles is a daemon that is killed again and again.
type cycles struct {
	t      *testing.T
	d      *testenv.DaemonProcess
	rand   *rand.Rand
	points []string
	file   string         // an archive to import
	died   map[string]int // at which points
}

// TestCrashCycles makes, starts and removes containers, and imports an image, while minid is killed at a random failure
// point, and starts it again, a hundred times: at the end nothing is left over and the check is clean.
func TestCrashCycles(t *testing.T) {
	testenv.Long(t)
	count, seed := number64(t, cyclesEnv, 100), number64(t, seedEnv, uint64(time.Now().UnixNano()))
	t.Logf("%d cycles; again with %s=%d", count, seedEnv, seed)
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	c := &cycles{t: t, d: d, rand: rand.New(rand.NewPCG(seed, 0)), points: failurePoints(t), died: map[string]int{},
		file: filepath.Join(testenv.Dir(t), "toolbox.tar")}
	d.Minictr("run", "--rm", toolbox, "first", "true")
	d.Minictr("images", "export", c.file, toolbox)
	before := c.stores()
	d.Kill9()
	for i := range int(count) {
		c.cycle(i)
		if t.Failed() {
			break
		}
	}
	d.Env = nil
	d.Start()
	if o := d.Try("check"); o.Code != 0 {
		t.Errorf("the check after the last start: %s%s", o.Stdout, o.Stderr)
	}
	for id := range containers(t, d) {
		d.Minictr("containers", "rm", "--force", id)
	}
	d.Minictr("images", "import", c.file) // the last cycle may have removed it and died
	// What an interrupted transfer has brought is kept for the next try, until its lease expires.
	for _, l := range decode[[]struct {
		ID        string
		ExpiresAt int64 `json:"expires_at"`
	}](t, d.Minictr("leases", "ls", "-o", "json")) {
		if l.ExpiresAt == 0 {
			t.Errorf("lease %s never expires", l.ID)
		}
		d.Minictr("leases", "rm", l.ID)
	}
	d.Minictr("content", "prune")
	if o := d.Try("check"); o.Code != 0 {
		t.Errorf("the check after the removal of all: %s%s", o.Stdout, o.Stderr)
	}
	if after := c.stores(); after != before {
		t.Errorf("left:\n%s\nthere was:\n%s", after, before)
	}
	t.Logf("died at %v", c.died)
}

// stores lists what the daemon keeps, by its own word and on disk.
func (c *cycles) stores() string {
	c.t.Helper()
	all := []string{c.d.Minictr("containers", "ls", "-q"), c.d.Minictr("snapshots", "ls", "-q"), c.d.Minictr("content", "ls", "-q"),
		c.d.Minictr("content", "active", "-q"), c.d.Minictr("leases", "ls", "-q"), c.d.Minictr("images", "ls", "-q")}
	for _, pattern := range []string{"root/containers/*/*", "state/containers/*/*", "root/content/blobs/*/*", "root/content/ingest/*", "root/snapshots/*/snapshots/*"} {
		found, err := filepath.Glob(filepath.Join(c.d.Dir, pattern))
		if err != nil {
			c.t.Fatal(err)
		}
		if strings.HasPrefix(pattern, "root/snapshots") { // the numbers go up
			found = []string{fmt.Sprintf("%d snapshots", len(found))}
		}
		all = append(all, found...)
	}
	return strings.Join(all, "\n")
}

// cycle starts the daemon with a failure point, works with it until it dies, and kills it if it does not.
func (c *cycles) cycle(i int) {
	c.t.Helper()
	point := c.points[c.rand.IntN(len(c.points))]
	at := fmt.Sprintf("%s=%d*kill", point, 1+c.rand.IntN(4))
	c.d.Env = []string{"MINI_FAILPOINT=" + at}
	c.d.Launch()
	if !c.up(at) {
		c.died[point]++
		return
	}
	id := fmt.Sprintf("cycle-%d", i)
	steps := [][]string{
		{"containers", "create", toolbox, id, "sleep", "600"},
		{"tasks", "start", "-d", id},
		{"exec", id, "true"},
		{"images", "rm", "--sync", toolbox},
		{"images", "import", c.file},
		{"run", "--rm", toolbox, id + "-short", "true"},
		{"containers", "rm", "--force", id},
		{"containers", "create", toolbox, id + "-left", "true"},
	}
	// Also one of an earlier cycle, in whatever state it was left.
	old := c.old()
	if old != "" {
		steps = append(steps, []string{"containers", "rm", "--force", old})
	}
	for _, step := range steps {
		o := c.d.Try(step...)
		if gone := old != "" && strings.Contains(o.Stderr, old+": not in namespace"); o.Code == 0 || gone {
			continue // one that was left half made is removed meanwhile
		}
		if !c.d.WaitEnd(2 * time.Second) {
			c.t.Errorf("cycle %d, %s: minictr %s: code %d: %s", i, at, strings.Join(step, " "), o.Code, o.Stderr)
			break
		}
		c.died[point]++
		return
	}
	c.d.Kill9()
}

// old is a container that is there, if the daemon lives to tell.
func (c *cycles) old() string {
	all := lines(c.d.Try("containers", "ls", "-q").Stdout)
	if len(all) == 0 {
		return ""
	}
	return all[c.rand.IntN(len(all))]
}

// up waits until the daemon answers; false if it has died before.
func (c *cycles) up(at string) bool {
	c.t.Helper()
	testenv.Eventually(c.t, 20*time.Second, "minid with "+at+" answers or dies", func() bool {
		return c.d.Ended() || c.d.Try("version").Code == 0
	})
	return !c.d.Ended()
}

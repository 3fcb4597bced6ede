package scenario_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestNerdCrowd starts 50 containers by 16 clients at once: each has a name, a port and an address of its own, and none is
// lost.
func TestNerdCrowd(t *testing.T) {
	testenv.Network(t)
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[network]\nprovider = \"builtin\"\n"})
	n := newNerd(t, d)
	const containers, clients = 50, 16
	// The namespace is this goroutine's: the clients are all started here.
	numbers := make(chan int, containers)
	for i := range containers {
		numbers <- i
	}
	close(numbers)
	var running sync.WaitGroup
	outs := make(chan string, containers)
	for range clients {
		running.Go(func() {
			for i := range numbers {
				out, err := exec.Command(n.program, append(n.args, "run", "-d", "-p", "80", "--label", fmt.Sprint("i=", i), toolbox,
					"sh", "-c", fmt.Sprintf("mkdir /w; echo page %d >/w/index.html; exec httpd -f -p 80 -h /w", i))...).CombinedOutput()
				if err != nil {
					t.Errorf("container %d: %v: %s", i, err, out)
				}
				outs <- strings.TrimSpace(string(out))
			}
		})
	}
	running.Wait()
	close(outs)
	started := map[string]bool{}
	for id := range outs {
		started[id] = true
	}
	ids := strings.Fields(n.do("ps", "-q", "--no-trunc"))
	if len(started) != containers || len(ids) != containers {
		t.Fatalf("%d ids were printed and %d containers run, of %d", len(started), len(ids), containers)
	}
	names, addresses, ports, pages := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	const format = `{{.Id}} {{.Name}} {{.NetworkSettings.Networks.bridge.IPAddress}} {{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}} {{.Config.Labels.i}}`
	for _, line := range lines(n.do(append([]string{"inspect", "-f", format}, ids...)...)) {
		f := strings.Fields(line)
		if len(f) != 5 || !started[f[0]] {
			t.Fatalf("inspect printed %q", line)
		}
		names[f[1]], addresses[f[2]], ports[f[3]] = true, true, true
		var page string
		testenv.Eventually(t, 20*time.Second, "port "+f[3]+" answers", func() (ok bool) {
			var err error
			page, err = testenv.Get("127.0.0.1:" + f[3])
			return err == nil
		})
		if page != "page "+f[4]+"\n" {
			t.Errorf("port %s of container %s serves %q", f[3], f[4], page)
		}
		pages[page] = true
	}
	if len(names) != containers || len(addresses) != containers || len(ports) != containers || len(pages) != containers {
		t.Errorf("of %d containers there are %d names, %d addresses, %d ports, %d pages", containers, len(names), len(addresses), len(ports), len(pages))
	}
	n.do(append([]string{"rm", "-f"}, ids...)...)
	d.Minictr("check")
}

// crash is a command that the daemon does not survive.
type crash struct {
	name    string
	args    []string
	points  []string // failure points to die at
	prepare func()   // before each time; nil: nothing
	undo    func()   // of what the command has made, when it has worked; nil: nothing is to be undone
}

// TestNerdCrash kills the daemon while a command is under way, at the arrows of its flow and at any time: afterwards the
// same command works, and nothing is left over.
func TestNerdCrash(t *testing.T) {
	testenv.Long(t)
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	n := newNerd(t, d)
	image := r.Ref("busybox")
	n.do("network", "create", "pair")
	seed := number64(t, seedEnv, uint64(time.Now().UnixNano()))
	t.Logf("again with %s=%d", seedEnv, seed)
	c := &crashes{t: t, d: d, n: n, rand: rand.New(rand.NewPCG(seed, 0))}
	for _, x := range []crash{
		{
			name: "run --rm", args: []string{"run", "--rm", "--name=crash", "--network=pair", "-p", "127.0.0.1::80", toolbox, "echo", "worked"},
			points: []string{"create-recorded", "start-joined", "start-running", "remove-unmounted"},
		},
		{
			name: "run -d", args: []string{"run", "-d", "--name=crash", "--network=pair", toolbox, "sleep", "600"},
			points: []string{"create-bundled", "start-bundled", "start-running"}, undo: func() { n.do("rm", "-f", "crash") },
		},
		{
			name: "pull", args: []string{"pull", "-q", image},
			points:  []string{"content-commit-before-rename", "pull-layer-applied", "pull-after-record"},
			prepare: func() { c.forget(image) },
		},
		{
			name: "network create", args: []string{"network", "create", "crash"},
			points: []string{"network-recorded", "network-made"}, undo: func() { n.do("network", "rm", "crash") },
		},
	} {
		c.all(x)
	}
	n.do("network", "rm", "pair")
	c.forget(image)
	if out := n.do("ps", "-aq") + n.do("images", "-q", "--filter", "reference="+image) + n.do("network", "ls", "-q", "--filter", "name=crash", "--filter", "name=pair"); out != "" {
		t.Errorf("left: %s", out)
	}
}

type crashes struct {
	t    *testing.T
	d    *testenv.DaemonProcess
	n    nerd
	rand *rand.Rand
}

// anytime is how often the daemon is killed at no particular place of each command. TestCrashCycles does more of it.
const anytime = 1

func (c *crashes) all(x crash) {
	c.t.Helper()
	c.t.Log(x.name)
	c.prepare(x)
	took := c.works(x) // undisturbed
	for _, point := range x.points {
		c.prepare(x)
		c.d.Stop()
		c.d.Env = []string{"MINI_FAILPOINT=" + point + "=kill"}
		c.d.Start()
		o := c.n.try(nil, x.args...)
		if !c.d.WaitEnd(20 * time.Second) {
			c.t.Fatalf("%s: the daemon does not die at %s: %+v", x.name, point, o)
		}
		c.recovers(x, point)
	}
	for range anytime {
		c.prepare(x)
		after := time.Duration(c.rand.Int64N(int64(took)))
		cmd := exec.Command(c.n.program, append(c.n.args, x.args...)...)
		if err := cmd.Start(); err != nil {
			c.t.Fatal(err)
		}
		time.Sleep(after) // any moment will do
		c.d.Kill9()
		_ = cmd.Wait() // it has worked or not
		c.recovers(x, fmt.Sprintf("after %s", after))
	}
}

func (c *crashes) prepare(x crash) {
	if x.prepare != nil {
		x.prepare()
	}
}

// recovers starts the daemon again, and wants the same command to work. One that had worked but for its answer is undone
// first.
func (c *crashes) recovers(x crash, point string) {
	c.t.Helper()
	c.d.Env = nil
	c.d.Start()
	done := func() bool { // by the daemon's word
		switch x.args[0] {
		case "run":
			return x.undo != nil && c.n.do("ps", "-q", "--filter", "name=^crash$") != ""
		case "network":
			return c.n.do("network", "ls", "-q", "--filter", "name=^crash$") != ""
		}
		return false
	}
	if done() {
		c.t.Logf("%s at %s: it was done", x.name, point)
		x.undo()
	}
	c.t.Logf("%s at %s: again", x.name, point)
	c.works(x)
}

// works does the command, and says how long it took. What a crash has left is removed in the background of the daemon's
// start.
func (c *crashes) works(x crash) (took time.Duration) {
	c.t.Helper()
	testenv.Eventually(c.t, 15*time.Second, x.name+" works", func() bool {
		began := time.Now()
		o := c.n.try(nil, x.args...)
		took = time.Since(began)
		if o.Code != 0 && !strings.Contains(o.Stderr, "is taken by") {
			c.t.Fatalf("%s: %+v", x.name, o)
		}
		return o.Code == 0
	})
	if x.undo != nil {
		x.undo()
	}
	if left := c.n.do("ps", "-aq"); left != "" {
		c.t.Errorf("%s: left: %s", x.name, c.n.do("ps", "-a"))
	}
	if out := c.d.Minictr("check", "--quick"); strings.Contains(out, "remedy") {
		c.t.Errorf("%s: %s", x.name, out)
	}
	return took
}

// forget removes an image and what earlier pulls of it have left for the next try.
func (c *crashes) forget(image string) {
	c.t.Helper()
	c.n.try(nil, "rmi", image) // it may not be there
	for _, id := range strings.Fields(c.d.Minictr("leases", "ls", "-q")) {
		c.d.Minictr("leases", "rm", id)
	}
	c.d.Minictr("content", "prune")
	if out := c.d.Minictr("content", "active", "-q"); out != "" {
		c.t.Errorf("unfinished downloads are left: %s", out)
	}
}

package tuning

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// host is a tree with four processors, two to a core.
func host(t *testing.T) (*Tuner, func(path string) string) {
	t.Helper()
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, siblings := range []string{"0-1", "0-1", "2-3", "2-3"} {
		dir := "sys/devices/system/cpu/cpu" + string(rune('0'+i)) + "/"
		put(dir+"power/pm_qos_resume_latency_us", "0\n")
		put(dir+"cpufreq/scaling_governor", "powersave\n")
		put(dir+"cpufreq/scaling_available_governors", "performance powersave\n")
		put(dir+"topology/thread_siblings_list", siblings+"\n")
	}
	put("proc/irq/default_smp_affinity", "00000000,0000000f\n")
	put("etc/irqbalance", "ONESHOT=1\nIRQBALANCE_BANNED_CPUS=\"1\"\nX=2\n")
	tuner, err := Open(Options{Root: root, State: filepath.Join(root, "run/tuning.json"), IRQBalance: "/etc/irqbalance"})
	if err != nil {
		t.Fatal(err)
	}
	return tuner, func(path string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
}

const (
	latency2  = "sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us"
	governor2 = "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor"
	affinity  = "proc/irq/default_smp_affinity"
)

// TestTuning changes the host for two containers, and gives back what is nobody's any more; another daemon does the rest.
func TestTuning(t *testing.T) {
	tuner, read := host(t)
	expect := func(when string, want map[string]string) {
		t.Helper()
		for path, value := range want {
			if got := read(path); got != value {
				t.Errorf("%s: %s is %q, want %q", when, path, got, value)
			}
		}
	}
	if err := tuner.Prepare("a", Wish{CPUs: "2-3", CStates: "max_latency:10", Governor: "performance", Interrupts: "disable"}); err != nil {
		t.Fatal(err)
	}
	expect("a", map[string]string{
		latency2: "10", governor2: "performance", affinity: "00000000,00000003", "sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us": "0",
		"etc/irqbalance": "ONESHOT=1\nIRQBALANCE_BANNED_CPUS=\"d\"\nX=2",
	})
	if err := tuner.Prepare("b", Wish{CPUs: "0-2", CStates: "disable", Interrupts: "housekeeping"}); err != nil {
		t.Fatal(err)
	}
	expect("a and b", map[string]string{latency2: "n/a", affinity: "00000000,00000003"}) // 0 and 1 are a core, which keeps its own
	if err := tuner.Release("a"); err != nil {
		t.Fatal(err)
	}
	expect("b", map[string]string{latency2: "n/a", governor2: "powersave", affinity: "00000000,0000000b"})
	again, err := Open(tuner.Options)
	if err != nil {
		t.Fatal(err)
	}
	if users := again.Users(); !slices.Equal(users, []string{"b"}) {
		t.Errorf("users after a restart: %v", users)
	}
	for range 2 {
		if err := again.Release("b"); err != nil {
			t.Fatal(err)
		}
	}
	expect("nobody", map[string]string{
		latency2: "0", governor2: "powersave", affinity: "00000000,0000000f", "etc/irqbalance": "ONESHOT=1\nIRQBALANCE_BANNED_CPUS=\"1\"\nX=2",
	})
	if _, err := os.Stat(tuner.State); !os.IsNotExist(err) {
		t.Errorf("the record stays: %v", err)
	}
}

// TestRefused: what cannot be meant, or had, changes nothing.
func TestRefused(t *testing.T) {
	tuner, read := host(t)
	for _, row := range []struct {
		wish Wish
		is   func(error) bool
		word string
	}{
		{Wish{CPUs: "", CStates: "disable"}, errdefs.IsInvalidArgument, "cpuset"},
		{Wish{CPUs: "2", CStates: "deep"}, errdefs.IsInvalidArgument, "max_latency"},
		{Wish{CPUs: "2", CStates: "max_latency:0"}, errdefs.IsInvalidArgument, "max_latency"},
		{Wish{CPUs: "2", Governor: "warp"}, errdefs.IsInvalidArgument, "performance"},
		{Wish{CPUs: "2", Interrupts: "some"}, errdefs.IsInvalidArgument, "housekeeping"},
		{Wish{CPUs: "2,9", CStates: "disable"}, os.IsNotExist, ""},
		{Wish{CPUs: "2,9", Governor: "performance"}, errdefs.IsFailedPrecondition, "cpu9"},
	} {
		err := tuner.Prepare("a", row.wish)
		if err == nil || !strings.Contains(err.Error(), row.word) || !row.is(err) && !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%+v: %v", row.wish, err)
		}
		if read(latency2) != "0" || read(governor2) != "powersave" || len(tuner.Users()) != 0 {
			t.Errorf("%+v: something stays changed: %v", row.wish, tuner.files)
		}
	}
}

func TestGroups(t *testing.T) {
	tuner, _ := host(t)
	w := Wish{CPUs: "2-3", NoLoadBalancing: true, NoQuota: true}
	dir := t.TempDir()
	changes, err := tuner.groupChanges(w, map[string]string{"cpu": dir + "/cpu/pod/c", "cpuset": dir + "/cpuset/pod/c"})
	if err != nil || len(changes) != 2 || changes[0].path != dir+"/cpu/pod/cpu.cfs_quota_us" || changes[1].path != dir+"/cpuset/pod/c/cpuset.sched_load_balance" {
		t.Errorf("v1: %+v, %v", changes, err)
	}
	changes, err = tuner.groupChanges(w, map[string]string{"": "/sys/fs/cgroup/kubepods/pod/c"})
	var paths []string
	for _, c := range changes {
		paths = append(paths, strings.TrimPrefix(c.path, cgroupRoot+"/")+"="+c.want)
	}
	want := []string{
		"kubepods/pod/cpu.max=max", "kubepods/cpuset.cpus.exclusive=2-3", "kubepods/pod/cpuset.cpus.exclusive=2-3",
		"kubepods/pod/c/cpuset.cpus.exclusive=2-3", "kubepods/pod/c/cpuset.cpus.partition=isolated",
	}
	if err != nil || !slices.Equal(paths, want) {
		t.Errorf("v2: %v, %v", paths, err)
	}
	if _, err := tuner.groupChanges(w, map[string]string{"cpu": "/x/y"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without cpusets: %v", err)
	}
}

func TestValues(t *testing.T) {
	for _, row := range []struct {
		f    file
		want string
	}{
		{file{Kind: with, Original: "", Users: map[string]string{"a": "2-3", "b": "5"}, Order: []string{"a", "b"}}, "2-3,5"},
		{file{Kind: with, Original: "0,3", Users: map[string]string{"a": "2-3"}, Order: []string{"a"}}, "0,2-3"},
		{file{Kind: without, Original: "ff", Users: map[string]string{"a": "0,7"}, Order: []string{"a"}}, "7e"},
		{file{Kind: without, Original: "ffffffff,ffffffff", Users: map[string]string{"a": "32"}, Order: []string{"a"}}, "fffffffe,ffffffff"},
		{file{Kind: banned, Original: "A=1", Users: map[string]string{"a": "1"}, Order: []string{"a"}}, "A=1\nIRQBALANCE_BANNED_CPUS=\"2\"\n"},
		{file{Kind: set, Original: "x"}, "x"},
	} {
		if got, err := row.f.value(); err != nil || got != row.want {
			t.Errorf("%+v: %q, %v", row.f, got, err)
		}
	}
	for _, f := range []file{
		{Kind: without, Original: "zz", Users: map[string]string{"a": "0"}, Order: []string{"a"}},
		{Kind: "other", Users: map[string]string{"a": "0"}, Order: []string{"a"}},
	} {
		if _, err := f.value(); err == nil {
			t.Errorf("%+v has a value", f)
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("00000000,0000000f")
	f.Add("ff")
	f.Fuzz(func(t *testing.T, text string) {
		mask, digits, err := parseMask(text)
		if err != nil {
			return
		}
		again, _, err := parseMask(formatMask(mask, digits))
		if err != nil || again.Cmp(mask) != 0 {
			t.Errorf("%q is read back as %v, %v", text, again, err)
		}
	})
}

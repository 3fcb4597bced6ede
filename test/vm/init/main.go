// Command init is what runs first in the virtual machine of test/vm, and what its tests run inside of containers. As
// process 1 it mounts what a host has, runs the tests with cgroups by itself, and then hands over to systemd, which runs
// it again for the tests of its driver. Standard output is the kernel's console; results go to a second serial line.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The places of the machine's disk, which test/vm lays out.
const (
	results = "/dev/ttyS1"
	home    = "/mini" // the module's directory, as far as the tests look at it
	tests   = home + "/guest.test"
	// networks are the tests of runtime/network/bridge, for links that other kernels do not have.
	networks = home + "/bridge.test"
	// volumes are those of runtime/snapshot/devmapper.
	volumes = home + "/devmapper.test"
	// images are those of runtime/snapshot/erofs, whose layers the device mapper verifies.
	images  = home + "/erofs.test"
	systemd = "/lib/systemd/systemd"
)

func main() {
	switch {
	case filepath.Base(os.Args[0]) == "act": // in a container, and perhaps its process 1
		if err := act(os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case os.Getpid() == 1:
		if err := first(); err != nil {
			fmt.Println("init:", err)
		}
		powerOff()
	default: // the service of systemd
		if err := runTests(tests, "^TestSystemd", "2m", nil, run); err != nil {
			fmt.Println("init:", err)
		}
		powerOff()
	}
}

// first is the machine's start.
func first() error {
	if err := mountHost(); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	if labels, err := loadPolicy(); err != nil || labels {
		return errors.Join(err, runTests(tests, "^TestSELinux", "4m", []string{"MINI_STRICT_LEFTOVERS=1"}, runReaping))
	}
	if err := runTests(tests, "^Test([^S]|S[^yE])", "7m", []string{"MINI_STRICT_LEFTOVERS=1"}, runReaping); err != nil {
		return err
	}
	if err := runTests(networks, "^Test(Macvlan|IPvlan|VLAN|ABridge)", "1m", nil, runReaping); err != nil {
		return err
	}
	if err := runTests(volumes, "^Test[^L]", "4m", nil, runReaping); err != nil {
		return err
	}
	if err := runTests(images, "^Test(Contract|Packed|Verity)", "4m", nil, runReaping); err != nil {
		return err
	}
	// Tests that were cut off have left a daemon; all but this process go, for a clean start of what follows.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if _, err := os.Stat(systemd); err != nil {
		return err
	}
	return unix.Exec(systemd, []string{systemd, "--unit=mini.service"}, os.Environ())
}

// mountHost mounts the kernel's filesystems; cgroups are v2 only.
func mountHost() error {
	for _, m := range []struct{ kind, target, data string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", "mode=755"},
		{"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"mqueue", "/dev/mqueue", ""},
		{"tmpfs", "/run", "mode=755"},
		{"cgroup2", "/sys/fs/cgroup", ""},
		{"securityfs", "/sys/kernel/security", ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// loadModules loads the modules that the disk has, in the order of their names.
func loadModules() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.FinitModule(int(f.Fd()), "", 0), f.Close()); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// loadPolicy brings the disk's policy into force, where the kernel was started with SELinux.
func loadPolicy() (labels bool, err error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil || !strings.Contains(string(line), "security=selinux") {
		return false, err
	}
	const fs = "/sys/fs/selinux"
	if err := unix.Mount("selinuxfs", fs, "selinuxfs", 0, ""); err != nil {
		return false, fmt.Errorf("mount %s: %w", fs, err)
	}
	policy, err := os.ReadFile("/etc/selinux/mini/policy")
	if err == nil {
		err = os.WriteFile(fs+"/load", policy, 0)
	}
	if err == nil {
		err = os.WriteFile(fs+"/enforce", []byte("1"), 0)
	}
	return true, err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// runTests runs those of a program's tests that match, and says on the results' line how they ended.
func runTests(program, pattern, timeout string, env []string, run func(*exec.Cmd) (int, error)) error {
	out, err := os.OpenFile(results, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(program, "-test.v", "-test.timeout="+timeout, "-test.run="+pattern)
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, out, out
	cmd.Env = append(append(os.Environ(), "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "MINI_VM=1"), env...)
	code, err := run(cmd)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\ntests %s ended with %d\n", pattern, code)
	return err
}

func run(cmd *exec.Cmd) (int, error) {
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// runReaping also waits for all who have lost their parents, as process 1 must.
func runReaping(cmd *exec.Cmd) (int, error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if pid == cmd.Process.Pid {
			return status.ExitStatus(), nil
		}
	}
}

func powerOff() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("init: power off:", err)
	}
	time.Sleep(time.Hour) // process 1 must not end
}

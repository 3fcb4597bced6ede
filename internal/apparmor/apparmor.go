// Package apparmor knows what AppArmor has loaded on this machine, and loads the profile of containers.
package apparmor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Profile is the name of the profile of containers that name none.
const Profile = "mini-default"

// rules are those of Docker's profile for containers (moby/profiles/apparmor): what reaches the host is denied.
const rules = `
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=mini-default,
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
  ptrace (trace,read,tracedby,readby) peer=mini-default,
}
`

// Host is where a machine's kernel shows what AppArmor does.
type Host struct {
	Module   string // a file that begins with Y where AppArmor is on
	Security string // its directory in securityfs
	Rules    string // the directory with the files that profiles include
}

// ThisHost is the machine that the program runs on.
func ThisHost() Host {
	return Host{Module: "/sys/module/apparmor/parameters/enabled", Security: "/sys/kernel/security/apparmor", Rules: "/etc/apparmor.d"}
}

// Text is the profile as apparmor_parser(8) reads it. What the machine's files have for every program is included where
// they are installed.
func (h Host) Text() string {
	head, include := "@{PROC}=/proc/\n", ""
	if h.has("tunables/global") {
		head = "#include <tunables/global>\n"
	}
	if h.has("abstractions/base") && h.has("tunables/global") {
		include = "  #include <abstractions/base>\n"
	}
	return head + "\nprofile " + Profile + " flags=(attach_disconnected,mediate_deleted) {\n" + include + rules[1:]
}

func (h Host) has(name string) bool {
	_, err := os.Stat(filepath.Join(h.Rules, name))
	return err == nil
}

// Enabled refuses a machine without AppArmor, as failed precondition.
func (h Host) Enabled() error {
	data, err := os.ReadFile(h.Module)
	if err != nil || !strings.HasPrefix(string(data), "Y") {
		return fmt.Errorf("the kernel of this machine has no AppArmor, or it is switched off: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Loaded is a profile that is loaded, and its mode: enforce, complain, kill, unconfined.
type Loaded struct{ Name, Mode string }

// Profiles are those that are loaded.
func (h Host) Profiles() ([]Loaded, error) {
	if err := h.Enabled(); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(h.Security, "profiles"))
	if err != nil {
		return nil, fmt.Errorf("list the profiles of AppArmor: %w", err)
	}
	defer f.Close()
	var list []Loaded
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, mode, _ := strings.Cut(lines.Text(), " (")
		list = append(list, Loaded{name, strings.TrimSuffix(mode, ")")})
	}
	return list, lines.Err()
}

// Has tells whether a profile is loaded.
func (h Host) Has(name string) (bool, error) {
	list, err := h.Profiles()
	for _, p := range list {
		if p.Name == name {
			return true, nil
		}
	}
	return false, err
}

// Load loads Profile, over the one of that name. Without apparmor_parser it is a failed precondition.
func (h Host) Load(ctx context.Context) error {
	if err := h.Enabled(); err != nil {
		return err
	}
	parser := exec.CommandContext(ctx, "apparmor_parser", "-Kr")
	parser.Stdin = strings.NewReader(h.Text())
	out, err := parser.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("apparmor_parser, which loads profiles, is not installed: install the package apparmor: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("apparmor_parser: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Ensure loads Profile unless it is loaded: an administrator's tools take away what no file of theirs names.
func (h Host) Ensure(ctx context.Context) error {
	if has, err := h.Has(Profile); has || err != nil {
		return err
	}
	return h.Load(ctx)
}

// Unload takes a profile away, which needs no program. One that is not loaded is not found.
func (h Host) Unload(name string) error {
	has, err := h.Has(name)
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("profile %s: AppArmor has not loaded it: %w", name, errdefs.ErrNotFound)
	}
	return os.WriteFile(filepath.Join(h.Security, ".remove"), []byte(name), 0)
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/format"
)

// apparmorProfile is the name of the profile that "load" loads: --security-opt apparmor=mini-default.
const apparmorProfile = "mini-default"

// apparmorText is Docker's profile for containers (moby/profiles/apparmor), which denies what reaches the host.
const apparmorText = `#include <tunables/global>

profile mini-default flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>

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

// apparmor is where the kernel shows what AppArmor has (securityfs).
type apparmor struct{ module, security string }

func hostAppArmor() apparmor {
	return apparmor{module: "/sys/module/apparmor/parameters/enabled", security: "/sys/kernel/security/apparmor"}
}

// enabled refuses a machine without AppArmor.
func (a apparmor) enabled() error {
	data, err := os.ReadFile(a.module)
	if err != nil || !strings.HasPrefix(string(data), "Y") {
		return fmt.Errorf("the kernel of this machine has no AppArmor, or it is switched off: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// profileRow is a profile that is loaded.
type profileRow struct{ Name, Mode string }

// profiles are those that are loaded: "NAME (MODE)", one a line.
func (a apparmor) profiles() ([]profileRow, error) {
	if err := a.enabled(); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(a.security, "profiles"))
	if err != nil {
		return nil, fmt.Errorf("list the profiles of AppArmor: %w", err)
	}
	defer f.Close()
	var rows []profileRow
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, mode, _ := strings.Cut(lines.Text(), " (")
		rows = append(rows, profileRow{name, strings.TrimSuffix(mode, ")")})
	}
	return rows, lines.Err()
}

func apparmorCommand() *cli.Command {
	host := hostAppArmor()
	return &cli.Command{
		Name: "apparmor", Usage: "work with AppArmor's profiles on this machine",
		Subcommands: []*cli.Command{
			{Name: "inspect", Usage: "print the profile for containers", Action: func(c *cli.Context) error {
				_, err := fmt.Fprint(c.App.Writer, apparmorText)
				return err
			}},
			{Name: "load", Usage: "load the profile for containers, " + apparmorProfile, Action: func(c *cli.Context) error {
				if err := icli.Args(c, 0, 0, ""); err != nil {
					return err
				}
				return host.load(c)
			}},
			{
				Name: "ls", Aliases: []string{"list"}, Usage: "list the profiles that are loaded", Flags: []cli.Flag{formatFlag(), quietFlag("print the names only")},
				Action: func(c *cli.Context) error {
					rows, err := host.profiles()
					if err != nil {
						return err
					}
					text := c.String("format")
					if c.Bool("quiet") && text == "" {
						text = "{{.Name}}"
					}
					return format.List(c.App.Writer, text, `{{.Name}}\t{{.Mode}}`, profileRow{"NAME", "MODE"}, rows)
				},
			},
			{Name: "unload", Usage: "unload a profile, " + apparmorProfile + " by default", ArgsUsage: "[PROFILE]", Action: func(c *cli.Context) error {
				if err := icli.Args(c, 0, 1, "[PROFILE]"); err != nil {
					return err
				}
				name := c.Args().First()
				if name == "" {
					name = apparmorProfile
				}
				return host.unload(name)
			}},
		},
	}
}

func (a apparmor) load(c *cli.Context) error {
	if err := a.enabled(); err != nil {
		return err
	}
	parser := exec.CommandContext(c.Context, "apparmor_parser", "-Kr")
	parser.Stdin = strings.NewReader(apparmorText)
	out, err := parser.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("apparmor_parser, which loads profiles, is not installed: install the package apparmor: %w", errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("apparmor_parser: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unload asks the kernel, which needs no program for it.
func (a apparmor) unload(name string) error {
	rows, err := a.profiles()
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Name == name {
			return os.WriteFile(filepath.Join(a.security, ".remove"), []byte(name), 0)
		}
	}
	return fmt.Errorf("profile %s: AppArmor has not loaded it: %w", name, errdefs.ErrNotFound)
}

package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const sysctlRoot = "/proc/sys/net"

// sysctls sets what forwarding for the bridge needs. All but forwarding itself is set on the bridge alone.
func sysctls(bridge string) error {
	set := [][2]string{
		{"ipv4/ip_forward", "1"},
		// Ports published on 127.0.0.1; the table guards what this opens (see package rules).
		{"ipv4/conf/" + bridge + "/route_localnet", "1"},
	}
	if haveIPv6() {
		if err := keepRouterAdvertisements(); err != nil {
			return err
		}
		set = append(set, [][2]string{
			{"ipv6/conf/all/forwarding", "1"},
			// Nobody on the bridge tells the host its routes.
			{"ipv6/conf/" + bridge + "/accept_ra", "0"},
			// Its link-local address would rest for a second while duplicates are looked for; until then the host cannot ask
			// for a pod's neighbour address when it forwards to it, and a pod's first packets were lost.
			{"ipv6/conf/" + bridge + "/accept_dad", "0"},
		}...)
	}
	for _, s := range set {
		if err := setSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// keepRouterAdvertisements makes links whose routes come from router advertisements keep them: with forwarding on, the
// kernel ignores advertisements unless accept_ra is 2 (Documentation/networking/ip-sysctl.rst), and the host would lose
// its default route when the last one expires.
func keepRouterAdvertisements() error {
	if value, err := readSysctl("ipv6/conf/all/forwarding"); err != nil || value == "1" {
		return err
	}
	paths, err := filepath.Glob(sysctlRoot + "/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, path := range paths {
		name := strings.TrimPrefix(path, sysctlRoot+"/")
		if value, err := readSysctl(name); err == nil && value == "1" {
			if err := setSysctl(name, "2"); err != nil {
				return err
			}
		}
	}
	return nil
}

// setSysctl writes only what is not so already: where /proc/sys is read-only, someone else has set it.
func setSysctl(name, value string) error {
	if now, err := readSysctl(name); err == nil && now == value {
		return nil
	}
	if err := os.WriteFile(filepath.Join(sysctlRoot, name), []byte(value), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set net/%s to %s (allow it, or set it before the daemon starts): %w", name, value, err)
	}
	return nil
}

func readSysctl(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(sysctlRoot, name))
	return strings.TrimSpace(string(data)), err
}

// haveIPv6 is false on kernels without IPv6 and where it is switched off.
func haveIPv6() bool {
	value, err := readSysctl("ipv6/conf/all/disable_ipv6")
	return err == nil && value == "0"
}

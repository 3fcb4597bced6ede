package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Settings are what the options of a network say.
type Settings struct {
	MTU          int        // 0: that of the uplink
	Isolated     bool       // its containers do not reach each other
	NoMasquerade bool       // what leaves it keeps its address
	Bridge       string     // name of the link; empty: made from the id
	HostIP       netip.Addr // where ports are published that name no address
	Parent       string     // of macvlan and ipvlan; empty: a dummy link
	Mode         uint32     // of macvlan and ipvlan, as the kernel has it (linux/if_link.h)
	Flags        uint16     // of ipvlan
	layer3       bool       // ipvlan routes, instead of switching
}

// Layer3 says whether everything is sent to the link and nothing to a gateway: ipvlan that routes.
func (s Settings) Layer3() bool { return s.layer3 }

// setting is one option under all of its names: Docker's and the short one.
type setting struct {
	names []string
	read  func(s *Settings, value string) error
}

const dockerBridge = "com.docker.network.bridge."

// settings are those of a driver.
func settings(driver string) []setting {
	switch driver {
	case DriverMacvlan:
		return append(parentSettings(), modeSetting([]string{"macvlan_mode", "mode"}, macvlanModes()))
	case DriverIPvlan:
		return append(parentSettings(), modeSetting([]string{"ipvlan_mode", "mode"}, ipvlanModes()), flagSetting())
	}
	return append([]setting{mtuSetting()}, bridgeSettings()...)
}

func mtuSetting() setting {
	return setting{[]string{"mtu", "com.docker.network.driver.mtu"}, func(s *Settings, value string) (err error) {
		if s.MTU, err = strconv.Atoi(value); err == nil && (s.MTU < minMTU || s.MTU > maxMTU) {
			err = fmt.Errorf("not between %d and %d", minMTU, maxMTU)
		}
		return err
	}}
}

func parentSettings() []setting {
	return []setting{mtuSetting(), {[]string{"parent"}, func(s *Settings, value string) error {
		s.Parent = value
		return CheckLink(value)
	}}}
}

// mode is how the kernel calls one.
type mode struct {
	name  string
	value uint32
}

// macvlanModes are MACVLAN_MODE_… of linux/if_link.h, Docker's default first.
func macvlanModes() []mode {
	return []mode{{"bridge", 4}, {"private", 1}, {"vepa", 2}, {"passthru", 8}}
}

// ipvlanModes are IPVLAN_MODE_… of linux/if_link.h.
func ipvlanModes() []mode { return []mode{{"l2", 0}, {"l3", 1}, {"l3s", 2}} }

func modeSetting(names []string, modes []mode) setting {
	return setting{names, func(s *Settings, value string) error {
		var known []string
		for _, m := range modes {
			if m.name == value {
				s.Mode, s.layer3 = m.value, strings.HasPrefix(value, "l3")
				return nil
			}
			known = append(known, m.name)
		}
		return fmt.Errorf("use one of %s", strings.Join(known, ", "))
	}}
}

// flagSetting is IPVLAN_F_… of linux/if_link.h: who reaches whom.
func flagSetting() setting {
	return setting{[]string{"ipvlan_flag"}, func(s *Settings, value string) error {
		i := slices.Index([]string{"bridge", "private", "vepa"}, value)
		if i < 0 {
			return fmt.Errorf("use one of bridge, private, vepa")
		}
		s.Flags = uint16(i)
		return nil
	}}
}

func bridgeSettings() []setting {
	return []setting{
		{[]string{"icc", dockerBridge + "enable_icc"}, func(s *Settings, value string) error {
			icc, err := strconv.ParseBool(value)
			s.Isolated = !icc
			return err
		}},
		{[]string{"masquerade", dockerBridge + "enable_ip_masquerade"}, func(s *Settings, value string) error {
			masquerade, err := strconv.ParseBool(value)
			s.NoMasquerade = !masquerade
			return err
		}},
		{[]string{"bridge", dockerBridge + "name"}, func(s *Settings, value string) error {
			s.Bridge = value
			return CheckLink(value)
		}},
		{[]string{"host_ip", dockerBridge + "host_binding_ipv4"}, func(s *Settings, value string) (err error) {
			s.HostIP, err = netip.ParseAddr(value)
			return err
		}},
	}
}

// The bounds of an MTU: IPv4's smallest (RFC 791, 3.1), and that of the largest packet.
const (
	minMTU = 68
	maxMTU = 65535
)

// CheckLink holds a name against dev_valid_name of the kernel.
func CheckLink(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r\"") {
		return fmt.Errorf("not the name of a link: at most 15 characters, without / : and blanks")
	}
	return nil
}

// SettingsOf reads the options of a network. ErrInvalidArgument names an option that is not known or cannot be.
func SettingsOf(r Record) (Settings, error) {
	var s Settings
	if r.Driver == DriverMacvlan {
		s.Mode = macvlanModes()[0].value
	}
	all := settings(r.Driver)
	for key, value := range r.Options {
		i := slices.IndexFunc(all, func(o setting) bool { return slices.Contains(o.names, key) })
		if i < 0 {
			return Settings{}, fmt.Errorf("option %s of a %s network: not known; there are %s: %w", key, r.Driver, strings.Join(optionNames(all), ", "), errdefs.ErrInvalidArgument)
		}
		if err := all[i].read(&s, value); err != nil {
			return Settings{}, fmt.Errorf("option %s=%s: %w: %w", key, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return s, nil
}

func optionNames(all []setting) []string {
	var names []string
	for _, o := range all {
		names = append(names, o.names...)
	}
	return names
}

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
}

// setting is one option under all of its names: Docker's and the short one.
type setting struct {
	names []string
	read  func(s *Settings, value string) error
}

const dockerBridge = "com.docker.network.bridge."

func settings() []setting {
	return []setting{
		{[]string{"mtu", "com.docker.network.driver.mtu"}, func(s *Settings, value string) (err error) {
			if s.MTU, err = strconv.Atoi(value); err == nil && (s.MTU < minMTU || s.MTU > maxMTU) {
				err = fmt.Errorf("not between %d and %d", minMTU, maxMTU)
			}
			return err
		}},
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
	for key, value := range r.Options {
		i := slices.IndexFunc(settings(), func(o setting) bool { return slices.Contains(o.names, key) })
		if i < 0 {
			return Settings{}, fmt.Errorf("option %s of a %s network: not known; there are %s: %w", key, r.Driver, strings.Join(optionNames(), ", "), errdefs.ErrInvalidArgument)
		}
		if err := settings()[i].read(&s, value); err != nil {
			return Settings{}, fmt.Errorf("option %s=%s: %w: %w", key, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return s, nil
}

func optionNames() []string {
	var names []string
	for _, o := range settings() {
		names = append(names, o.names...)
	}
	return names
}

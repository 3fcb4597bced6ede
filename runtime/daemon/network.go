package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/bridge"
	"github.com/minirt/mini/runtime/network/cni"
	"github.com/minirt/mini/runtime/network/outside"
)

// openNetwork makes the networks of pods: CNI where it is configured, else the built-in one.
func (d *Daemon) openNetwork() error {
	c := d.Config
	subnets, err := parseSubnets(c.Network.Subnets)
	if err != nil {
		return err
	}
	o := bridge.Config{Name: c.Name, Subnets: subnets, MTU: c.Network.MTU, File: filepath.Join(c.Root, "network", "pod-subnets"), Log: d.Log}
	if d.outside = outside.FromEnvironment(); d.outside != nil {
		o.Outside = d.outside
	}
	builtin, err := bridge.New(o)
	if err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error { return builtin.Close() })
	plugins, err := cni.New(d.cniConfig(c))
	if err != nil {
		return err
	}
	d.network, err = network.New(network.Options{Provider: c.Network.Provider, Spares: c.Network.Spares, Log: d.Log}, plugins, builtin)
	if err != nil {
		return err
	}
	d.closers.Add(d.closeNetwork)
	return d.setOwnNetworks(c)
}

func (d *Daemon) cniConfig(c Config) cni.Config {
	return cni.Config{
		Name: c.Name, ConfDir: c.CNI.ConfDir, BinDirs: c.CNI.BinDirs, CacheDir: filepath.Join(c.Root, "cni"),
		First: c.CNI.DefaultNetwork, MaxConfNum: c.CNI.MaxConfNum, ConfTemplate: c.CNI.ConfTemplate, IPPref: c.CNI.IPPref, Log: d.Log,
	}
}

// setOwnNetworks gives the pods of runtimes the networks that are configured for them alone.
func (d *Daemon) setOwnNetworks(c Config) error {
	own := map[string]network.Configurable{}
	for name, r := range c.allRuntimes() {
		if r.CNIConfDir == "" {
			continue
		}
		config := d.cniConfig(c)
		config.ConfDir, config.First, config.MaxConfNum, config.ConfTemplate = r.CNIConfDir, "", r.CNIMaxConfNum, ""
		plugins, err := cni.New(config)
		if err != nil {
			return err
		}
		own[name] = plugins
	}
	d.network.SetOwn(own)
	return nil
}

// closeNetwork leaves pods and containers their network; without them, nothing of it stays.
func (d *Daemon) closeNetwork(ctx context.Context) error {
	if d.engine == nil {
		return d.network.Close()
	}
	pods, err := d.engine.ListPods(ctx, "")
	if err == nil && len(pods) == 0 && !d.engine.Attached() {
		return d.network.Destroy(ctx)
	}
	return errors.Join(err, d.network.Close())
}

func parseSubnets(texts []string) ([]netip.Prefix, error) {
	subnets := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("network.subnets: %q is not a subnet like 10.88.0.0/16: %w", text, err)
		}
		subnets = append(subnets, p)
	}
	return subnets, nil
}

// networks is what is known of the networks of pods, for people.
func (d *Daemon) networks() map[string]any {
	ctx := context.Background()
	status := d.network.Status(ctx)
	load := "OK"
	if !status.Ready {
		load = status.Message
	}
	return map[string]any{"cniconfig": d.network.Config(ctx), "lastCNILoadStatus": load}
}

// showStreaming opens the port of the CRI's streams on the machine, where the daemon is in a namespace of its own: there
// clients are.
func (d *Daemon) showStreaming(at net.Addr) {
	address, err := netip.ParseAddrPort(at.String())
	if d.outside == nil || err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), outsideTimeout)
	defer cancel()
	port := network.Port{Protocol: "tcp", HostIP: address.Addr(), HostPort: address.Port(), ContainerPort: address.Port()}
	if err := d.outside.Keep(ctx, port); err != nil {
		d.Log.Warn("streams of the CRI (exec, attach, port-forward) cannot be reached", "address", at, "error", err)
	}
}

// outsideTimeout bounds the opening of a port on the machine.
const outsideTimeout = 10 * time.Second

// Package cni attaches pods by CNI plugins, as containerd does: the first valid configuration of a directory, which may
// change at any time, the same capability arguments, the same arguments of kubelet's. The loopback interface is up
// already and needs no plugin. ADD, DEL and CHECK are called for pods, STATUS and GC where the configuration's version
// (1.1) has them.
//
// DEL is called with the configuration that ADD was called with, from the pod's record; when there is no record, with
// what libcni keeps in its cache, and when that has nothing either, with what the directory says now.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
)

// DefaultTimeout is how long the plugins of one pod may take; kubelet waits four minutes for a pod.
const DefaultTimeout = 2 * time.Minute

// Config says where configurations and plugins are.
type Config struct {
	Name         string   // the daemon's, for the file written from the template
	ConfDir      string   // /etc/cni/net.d
	BinDirs      []string // /opt/cni/bin, /usr/lib/cni
	CacheDir     string   // of the daemon's own, and as lasting as the pods' records
	First        string   // the network that pods are in as eth0; empty: that of the first file
	MaxConfNum   int      // how many configurations a pod joins: eth0, eth1, …; 0: all
	ConfTemplate string   // path of a template for a configuration, written when the pod subnets are known; empty: none
	IPPref       string   // which address of a pod is its main one: ipv4 (also when empty), ipv6 or cni
	Timeout      time.Duration
	Log          *slog.Logger
}

// Network is a network.Configurable.
type Network struct {
	config   Config
	cni      *libcni.CNIConfig
	template *template.Template

	mu       sync.Mutex
	loaded   configuration
	attached map[string][]types.GCAttachment // by pod
}

// New makes the provider. The directories may appear later.
func New(c Config) (*Network, error) {
	if !slices.Contains([]string{"", "ipv4", "ipv6", "cni"}, c.IPPref) {
		return nil, fmt.Errorf("cni: ip_pref %q: want ipv4, ipv6 or cni: %w", c.IPPref, errdefs.ErrInvalidArgument)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	n := &Network{config: c, attached: map[string][]types.GCAttachment{}}
	// Given here, because libcni otherwise makes it at the first call, and two calls would race.
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}, PluginDecoder: version.PluginDecoder{}}
	n.cni = libcni.NewCNIConfigWithCacheDir(c.BinDirs, c.CacheDir, exec)
	if c.ConfTemplate != "" {
		t, err := template.ParseFiles(c.ConfTemplate)
		if err != nil {
			return nil, fmt.Errorf("cni: conf_template: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		n.template = t
	}
	return n, nil
}

// Configured is true when the directory has a configuration, valid or not, or one will be written from the template.
func (n *Network) Configured(context.Context) bool {
	if n.template != nil {
		return true
	}
	names, _, err := look(n.config.ConfDir)
	return err != nil || len(names) > 0
}

// usable returns the configurations to use, or an error that says what to do.
func (n *Network) usable() ([]list, error) {
	c, err := n.load()
	switch {
	case err != nil:
		return nil, err
	case len(c.lists) > 0:
		return c.lists, nil
	case len(c.problems) > 0:
		return nil, fmt.Errorf("no valid network configuration in %s: mend it: %w: %w", n.config.ConfDir, errors.Join(c.problems...), errdefs.ErrUnavailable)
	case n.template != nil:
		return nil, fmt.Errorf("no network configuration yet: it is written when the node is given a pod subnet: %w", errdefs.ErrUnavailable)
	}
	return nil, fmt.Errorf("no network configuration in %s: put a .conflist there: %w", n.config.ConfDir, errdefs.ErrUnavailable)
}

// Attach calls ADD of each configuration. When one fails, DEL is called for all that were begun.
func (n *Network) Attach(ctx context.Context, r network.Request) (network.Attachment, error) {
	lists, err := n.usable()
	if err != nil {
		return network.Attachment{}, fmt.Errorf("cni: pod %s: %w", r.ID, err)
	}
	a := network.Attachment{ID: r.ID, Pod: r.Namespace + "/" + r.Name, Provider: network.ProviderCNI, Ports: r.Ports}
	n.remember(r.ID, len(lists)) // before ADD, lest GC takes it for one that is gone
	for i, l := range lists {
		one, err := n.add(ctx, l, runtimeConf(r, i), &a)
		a.CNI = append(a.CNI, one) // also of one that failed, to be undone
		if err != nil {
			err = fmt.Errorf("cni: pod %s: network %s (%s): %w", r.ID, l.Name, l.file, n.explain(err))
			return network.Attachment{}, errors.Join(err, n.undo(ctx, r, a))
		}
	}
	a.IPs = order(a.IPs, n.config.IPPref)
	return a, nil
}

// add calls the plugins of one list and notes their result. Only the first network's addresses are the pod's own.
func (n *Network) add(ctx context.Context, l list, rt *libcni.RuntimeConf, a *network.Attachment) (network.CNIRecord, error) {
	config, err := record(l.NetworkConfigList)
	if err != nil {
		return network.CNIRecord{}, err
	}
	one := network.CNIRecord{Network: l.Name, Interface: rt.IfName, Config: config}
	// The record's list, not the file's: libcni caches the bytes of the list, which do not have plugins of other files.
	used, err := libcni.NetworkConfFromBytes(config)
	if err != nil {
		return one, err
	}
	if one.Capabilities, err = json.Marshal(rt.CapabilityArgs); err != nil {
		return one, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	raw, err := n.cni.AddNetworkList(ctx, used, rt)
	if err != nil {
		return one, errors.Join(err, context.Cause(ctx))
	}
	if one.Result, err = json.Marshal(raw); err != nil {
		return one, err
	}
	result, err := current.NewResultFromResult(raw)
	if err != nil {
		return one, fmt.Errorf("its result: %w", err)
	}
	a.Links = append(a.Links, linksOf(l.Name, result)...)
	if len(a.CNI) == 0 {
		a.IPs = ipsOf(result)
		a.DNS = network.DNS{Servers: result.DNS.Nameservers, Searches: result.DNS.Search, Options: result.DNS.Options}
	}
	return one, nil
}

func (n *Network) undo(ctx context.Context, r network.Request, a network.Attachment) error {
	if err := n.del(context.WithoutCancel(ctx), r, a); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	n.forget(r.ID)
	return nil
}

// Detach calls DEL of what ADD was called with.
func (n *Network) Detach(ctx context.Context, r network.Request, a *network.Attachment) error {
	var err error
	if a != nil {
		err = n.del(ctx, r, *a)
	} else {
		err = n.delUnknown(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("cni: pod %s: %w", r.ID, err)
	}
	n.forget(r.ID)
	return nil
}

// del calls DEL for the records, the last one first, all of them whatever fails.
func (n *Network) del(ctx context.Context, r network.Request, a network.Attachment) error {
	var errs []error
	for _, one := range slices.Backward(a.CNI) {
		l, err := libcni.NetworkConfFromBytes(one.Config)
		if err != nil {
			errs = append(errs, fmt.Errorf("network %s: the record's configuration: %w", one.Network, err))
			continue
		}
		rt := runtimeConf(r, 0)
		rt.IfName = one.Interface
		if len(one.Capabilities) > 0 {
			rt.CapabilityArgs = nil
			if err := json.Unmarshal(one.Capabilities, &rt.CapabilityArgs); err != nil {
				errs = append(errs, fmt.Errorf("network %s: the record's capabilities: %w", one.Network, err))
				continue
			}
		}
		errs = append(errs, n.delList(ctx, l, rt, one.Result))
	}
	return errors.Join(errs...)
}

// delList calls DEL of each plugin by itself: libcni stops at the first that fails, and what those before it made would
// be left for good.
func (n *Network) delList(ctx context.Context, l *libcni.NetworkConfigList, rt *libcni.RuntimeConf, result json.RawMessage) error {
	ctx, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	if ns, err := netns.Open(rt.NetNS); err == nil {
		ns.Close()
	} else if errdefs.IsNotFound(err) {
		rt.NetNS = "" // DEL of what is gone (CNI spec, section 2)
	}
	if with04, _ := version.GreaterThanOrEqualTo(l.CNIVersion, "0.4.0"); with04 {
		if cached, err := n.cni.GetNetworkListCachedResult(l, rt); err == nil && cached != nil {
			if result, err = json.Marshal(cached); err != nil {
				return err
			}
		}
		if err := withResult(l, result); err != nil {
			return err
		}
	}
	var errs []error
	for _, p := range slices.Backward(l.Plugins) {
		one := *l
		one.Plugins = []*libcni.PluginConfig{p}
		if err := n.cni.DelNetworkList(ctx, &one, rt); err != nil {
			errs = append(errs, fmt.Errorf("network %s: %w", l.Name, n.explain(errors.Join(err, context.Cause(ctx)))))
		}
	}
	return errors.Join(errs...)
}

// delUnknown is for a pod without a record: what libcni remembers of it, or else the configuration of now.
func (n *Network) delUnknown(ctx context.Context, r network.Request) error {
	cached, err := n.cni.GetCachedAttachments(r.ID)
	if err != nil {
		return fmt.Errorf("read the cache of attachments: %w", err)
	}
	var errs []error
	for _, c := range cached {
		errs = append(errs, n.delCached(ctx, c))
	}
	if len(cached) > 0 || r.NetNS == "" {
		return errors.Join(errs...)
	}
	c, err := n.load()
	if err != nil {
		return err
	}
	for i, l := range slices.Backward(c.lists) {
		config, err := record(l.NetworkConfigList)
		if err != nil {
			return err
		}
		own, err := libcni.NetworkConfFromBytes(config)
		if err != nil {
			return err
		}
		errs = append(errs, n.delList(ctx, own, runtimeConf(r, i), nil))
	}
	return errors.Join(errs...)
}

func (n *Network) delCached(ctx context.Context, c *libcni.NetworkAttachment) error {
	l, err := parse(c.Config)
	if err != nil {
		return fmt.Errorf("cached attachment of %s: %w", c.ContainerID, err)
	}
	return n.delList(ctx, l, &libcni.RuntimeConf{
		ContainerID: c.ContainerID, NetNS: c.NetNS, IfName: c.IfName, Args: c.CniArgs, CapabilityArgs: c.CapabilityArgs,
	}, nil)
}

// explain adds what to do, and the class, to an error of a plugin.
func (n *Network) explain(err error) error {
	var plugin *types.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: its plugins did not end within %s: look for what they wait for", err, n.config.Timeout)
	case strings.Contains(err.Error(), "failed to find plugin"):
		return fmt.Errorf("%w: install the plugin, or name its directory in bin_dirs (now %s): %w", err, strings.Join(n.config.BinDirs, ", "), errdefs.ErrFailedPrecondition)
	case errors.As(err, &plugin) && plugin.Code == types.ErrTryAgainLater:
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	return err
}

// missing is a plugin of the list that is in none of the directories.
func (n *Network) missing(l list) string {
	for _, p := range l.Plugins {
		if !slices.ContainsFunc(n.config.BinDirs, func(dir string) bool {
			info, err := os.Stat(filepath.Join(dir, p.Network.Type))
			return err == nil && info.Mode().IsRegular()
		}) {
			return p.Network.Type
		}
	}
	return ""
}

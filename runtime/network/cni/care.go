package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/runtime/network"
)

// Check calls CHECK of the plugins. Configurations older than CHECK (0.4.0) pass.
func (n *Network) Check(ctx context.Context, r network.Request, a network.Attachment) error {
	ctx, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	for _, one := range a.CNI {
		l, err := libcni.NetworkConfFromBytes(one.Config)
		if err != nil {
			return fmt.Errorf("cni: pod %s: network %s: the record's configuration: %w", r.ID, one.Network, err)
		}
		rt := runtimeConf(r, 0)
		rt.IfName = one.Interface
		for _, p := range l.Plugins {
			single := *l
			single.Plugins = []*libcni.PluginConfig{p} // libcni's error does not say whose it is
			if err := n.cni.CheckNetworkList(ctx, &single, rt); err != nil && !errors.Is(err, libcni.ErrorCheckNotSupp) {
				return fmt.Errorf("cni: pod %s: network %s: plugin %s: %w", r.ID, one.Network, p.Network.Type, n.explain(errors.Join(err, context.Cause(ctx))))
			}
		}
	}
	return nil
}

// Restore remembers which attachments there are; the plugins have nothing to restore.
func (n *Network) Restore(_ context.Context, all []network.Attachment) error {
	for _, a := range all {
		if a.Provider == network.ProviderCNI {
			n.remember(a.ID, len(a.CNI))
		}
	}
	return nil
}

// remember notes the interfaces of a pod, as GC is told of them.
func (n *Network) remember(id string, interfaces int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []types.GCAttachment
	for i := range interfaces {
		all = append(all, types.GCAttachment{ContainerID: id, IfName: interfaceName(i)})
	}
	n.attached[id] = all
}

func (n *Network) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, id)
}

// Collect calls DEL for what libcni remembers of pods that are no more, and GC of the configurations that have it.
func (n *Network) Collect(ctx context.Context) error {
	cached, err := n.cni.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("cni: read the cache of attachments: %w", err)
	}
	// Read after the cache: what is being attached has its place there last.
	n.mu.Lock()
	known := map[string]bool{}
	var valid []types.GCAttachment
	for id, all := range n.attached {
		known[id] = true
		valid = append(valid, all...)
	}
	n.mu.Unlock()
	var errs []error
	for _, c := range cached {
		if !known[c.ContainerID] {
			errs = append(errs, n.delCached(ctx, c))
		}
	}
	loaded, err := n.load()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	for _, l := range loaded.lists {
		if err := n.cni.GCNetworkList(ctx, l.NetworkConfigList, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
			errs = append(errs, fmt.Errorf("cni: network %s (%s): collect garbage: %w", l.Name, l.file, n.explain(err)))
		}
	}
	return errors.Join(errs...)
}

// notReady is the reason kubelet knows.
const notReady = "NetworkPluginNotReady"

// Status says whether there is a valid configuration, its plugins exist, and, from version 1.1 on, say they are ready.
func (n *Network) Status(ctx context.Context) network.Status {
	lists, err := n.usable()
	if err != nil {
		return network.Status{Reason: notReady, Message: "cni: " + err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.Timeout)
	defer cancel()
	for _, l := range lists {
		if plugin := n.missing(l); plugin != "" {
			return network.Status{Reason: notReady, Message: fmt.Sprintf("cni: network %s (%s): plugin %s is in none of the directories %v: install it, or name its directory in bin_dirs",
				l.Name, l.file, plugin, n.config.BinDirs)}
		}
		if err := n.cni.GetStatusNetworkList(ctx, l.NetworkConfigList); err != nil {
			return network.Status{Reason: notReady, Message: fmt.Sprintf("cni: network %s (%s): %v", l.Name, l.file, n.explain(err))}
		}
	}
	return network.Status{Ready: true}
}

// templateData is what a template sees; the names are containerd's.
type templateData struct {
	PodCIDR       string   // the first one
	PodCIDRRanges []string // all
	Routes        []string // default routes of their families
}

// SetPodCIDR writes the configuration from the template, if there is one. A configuration of someone else is left to do
// its work.
func (n *Network) SetPodCIDR(_ context.Context, cidrs []netip.Prefix) error {
	if n.template == nil {
		return nil
	}
	own := "10-" + n.config.Name + "-net.conflist"
	loaded, err := n.load()
	if err != nil {
		return err
	}
	for _, l := range loaded.lists {
		if l.file != own {
			return nil
		}
	}
	text, err := n.render(cidrs)
	if err != nil {
		return err
	}
	path := filepath.Join(n.config.ConfDir, own)
	if before, err := os.ReadFile(path); err == nil && bytes.Equal(before, text) {
		return nil
	}
	if err := os.MkdirAll(n.config.ConfDir, 0o755); err != nil {
		return fmt.Errorf("cni: write the configuration: %w", err)
	}
	if err := atomicfile.Write(path, text, 0o644); err != nil {
		return fmt.Errorf("cni: write the configuration: %w", err)
	}
	return nil
}

func (n *Network) render(cidrs []netip.Prefix) ([]byte, error) {
	data := templateData{}
	for i, p := range cidrs {
		if i == 0 {
			data.PodCIDR = p.String()
		}
		data.PodCIDRRanges = append(data.PodCIDRRanges, p.String())
		route := "0.0.0.0/0"
		if p.Addr().Is6() {
			route = "::/0"
		}
		data.Routes = append(data.Routes, route)
	}
	var text bytes.Buffer
	if err := n.template.Execute(&text, data); err != nil {
		return nil, fmt.Errorf("cni: template %s: %w: %w", n.config.ConfTemplate, err, errdefs.ErrInvalidArgument)
	}
	if _, err := parse(text.Bytes()); err != nil {
		return nil, fmt.Errorf("cni: template %s gives no valid configuration: %w", n.config.ConfTemplate, err)
	}
	return text.Bytes(), nil
}

// Info is the configuration for people.
type Info struct {
	ConfDir  string     `json:"conf_dir"`
	BinDirs  []string   `json:"bin_dirs"`
	Networks []ListInfo `json:"networks,omitempty"`
	Problems []string   `json:"problems,omitempty"`
	Pods     int        `json:"pods"`
}

// ListInfo is one configuration in use.
type ListInfo struct {
	File   string          `json:"file"`
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"`
}

// Config describes what is in use.
func (n *Network) Config(context.Context) any {
	info := Info{ConfDir: n.config.ConfDir, BinDirs: n.config.BinDirs}
	c, err := n.load()
	if err != nil {
		info.Problems = append(info.Problems, err.Error())
	}
	for _, l := range c.lists {
		config, err := record(l.NetworkConfigList)
		if err != nil {
			c.problems = append(c.problems, err)
		}
		info.Networks = append(info.Networks, ListInfo{File: l.file, Name: l.Name, Config: config})
	}
	for _, p := range c.problems {
		info.Problems = append(info.Problems, p.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	info.Pods = len(n.attached)
	return info
}

// Destroy deletes the configuration that was written from the template. What the plugins have made is theirs.
func (n *Network) Destroy(context.Context) error {
	if n.template == nil {
		return nil
	}
	err := os.Remove(filepath.Join(n.config.ConfDir, "10-"+n.config.Name+"-net.conflist"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cni: %w", err)
	}
	return nil
}

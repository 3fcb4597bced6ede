package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
)

// confFile is one file of the configuration directory.
type confFile struct {
	name string
	data []byte
}

// list is a usable configuration and the file it is from.
type list struct {
	file string
	*libcni.NetworkConfigList
}

// isConf says whether a file's name is that of a configuration.
func isConf(name string) bool {
	return slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name))
}

// choose takes the valid configurations among the files, which are in the order of their names, up to the limit (0: all);
// with the name of a network, that one is the first, and without it there are none.
// A file that is not valid is passed over; what is wrong with it is told. more loads the plugins of a network that has
// them in a directory of its own (CNI spec 1.1).
func choose(files []confFile, limit int, first string, more func(network string) ([]*libcni.PluginConfig, error)) ([]list, []error) {
	var lists []list
	var problems []error
	for _, f := range files {
		if limit > 0 && len(lists) == limit && first == "" {
			break
		}
		l, err := parse(f.data)
		if err == nil && !l.LoadOnlyInlinedPlugins {
			var plugins []*libcni.PluginConfig
			plugins, err = more(l.Name)
			l.Plugins = append(l.Plugins, plugins...)
		}
		if err == nil && len(l.Plugins) == 0 {
			err = fmt.Errorf("it names no plugin: %w", errdefs.ErrInvalidArgument)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("cni configuration %s: %w", f.name, err))
			continue
		}
		lists = append(lists, list{f.name, l})
	}
	if first == "" {
		return lists, problems
	}
	i := slices.IndexFunc(lists, func(l list) bool { return l.Name == first })
	if i < 0 {
		return nil, append(problems, fmt.Errorf("cni configuration: there is no network %q (cni.default_network): %w", first, errdefs.ErrNotFound))
	}
	lists = slices.Concat(lists[i:i+1], lists[:i], lists[i+1:])
	if limit > 0 {
		lists = lists[:min(limit, len(lists))]
	}
	return lists, problems
}

// parse reads a list of plugins, or a single plugin, which becomes a list of one.
func parse(data []byte) (*libcni.NetworkConfigList, error) {
	var kind struct {
		Type    string          `json:"type"`
		Plugins json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	var l *libcni.NetworkConfigList
	var err error
	if kind.Plugins == nil && kind.Type != "" {
		l = &libcni.NetworkConfigList{LoadOnlyInlinedPlugins: true}
		var single *libcni.PluginConfig
		if single, err = libcni.NetworkPluginConfFromBytes(data); err == nil {
			l.Name, l.CNIVersion, l.Plugins = single.Network.Name, single.Network.CNIVersion, []*libcni.PluginConfig{single}
		}
	} else {
		l, err = libcni.NetworkConfFromBytes(data)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := utils.ValidateNetworkName(l.Name); err != nil {
		return nil, fmt.Errorf("network name %q: %w: %w", l.Name, err, errdefs.ErrInvalidArgument)
	}
	for _, p := range l.Plugins {
		if strings.ContainsRune(p.Network.Type, filepath.Separator) {
			return nil, fmt.Errorf("plugin type %q: not the name of a program: %w", p.Network.Type, errdefs.ErrInvalidArgument)
		}
	}
	return l, nil
}

// configuration is what the directory says, and what it looked like then.
type configuration struct {
	seen     string
	lists    []list
	problems []error
	files    int
}

// load reads the directory again if it has changed. Looking at it costs a few system calls, and no watch.
func (n *Network) load() (configuration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names, seen, err := look(n.config.ConfDir)
	if err != nil {
		return configuration{}, fmt.Errorf("cni configuration: %w", err)
	}
	if n.loaded.seen == seen {
		return n.loaded, nil
	}
	var files []confFile
	var problems []error
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(n.config.ConfDir, name))
		if err != nil {
			problems = append(problems, fmt.Errorf("cni configuration: %w", err))
			continue
		}
		files = append(files, confFile{name, data})
	}
	lists, bad := choose(files, n.config.MaxConfNum, n.config.First, func(network string) ([]*libcni.PluginConfig, error) {
		return libcni.NetworkPluginConfsFromFiles(n.config.ConfDir, network)
	})
	n.loaded = configuration{seen: seen, lists: lists, problems: append(problems, bad...), files: len(names)}
	for _, err := range n.loaded.problems {
		n.config.Log.Warn("a network configuration is passed over", "error", err)
	}
	return n.loaded, nil
}

// look lists the configurations, and says in one text what would change when one of them did. A directory that does not
// exist is an empty one.
func look(dir string) ([]string, string, error) {
	entries, err := os.ReadDir(dir) // in the order of the names
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "none", nil
	}
	if err != nil {
		return nil, "", err
	}
	var names []string
	var seen strings.Builder
	seen.WriteString("some")
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // through links
		if err != nil {
			continue // it went meanwhile, or leads nowhere
		}
		if info.Mode().IsRegular() && isConf(e.Name()) {
			names = append(names, e.Name())
		}
		if info.Mode().IsRegular() && isConf(e.Name()) || info.IsDir() {
			fmt.Fprintf(&seen, "\x00%s %d %d", e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return names, seen.String(), nil
}

// record writes a list as it was used, with the plugins from wherever they came.
func record(l *libcni.NetworkConfigList) (json.RawMessage, error) {
	plugins := make([]json.RawMessage, len(l.Plugins))
	for i, p := range l.Plugins {
		plugins[i] = p.Bytes
	}
	return json.Marshal(map[string]any{
		"cniVersion": l.CNIVersion, "name": l.Name, "disableCheck": l.DisableCheck, "disableGC": l.DisableGC,
		"loadOnlyInlinedPlugins": true, "plugins": plugins,
	})
}

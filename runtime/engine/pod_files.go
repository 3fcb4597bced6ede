package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
)

const defaultShm = 64 << 20 // bytes, as containers have it

func podShm(dir string) string { return filepath.Join(dir, "shm") }

// podFile is one of hosts, hostname and resolv.conf, which the pod's containers see in /etc.
func podFile(dir, name string) string { return filepath.Join(dir, name) }

// makePodDir makes a pod's directory, and in it the POSIX shared memory of its containers, which goes with their IPC
// namespace.
func makePodDir(dir string, rec Pod) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if rec.LogDir != "" {
		if err := os.MkdirAll(rec.LogDir, 0o755); err != nil {
			return fmt.Errorf("make the log directory of the pod: %w", err)
		}
	}
	if rec.PID == ModePod {
		if err := makePauseRoot(podFile(dir, RolePause)); err != nil {
			return err
		}
	}
	if rec.IPC != ModePod {
		return nil
	}
	shm := podShm(dir)
	if err := os.MkdirAll(shm, 0o711); err != nil {
		return err
	}
	size := rec.ShmSize
	if size <= 0 {
		size = defaultShm
	}
	options := fmt.Sprintf("mode=1777,size=%d", size)
	if len(rec.UIDMap) > 0 {
		options += fmt.Sprintf(",uid=%d,gid=%d", rec.UIDMap[0].HostID, rec.GIDMap[0].HostID)
	}
	if rec.SELinuxFiles != "" {
		options += fmt.Sprintf(`,context="%s"`, rec.SELinuxFiles) // it has commas
	}
	if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("make the shared memory of the pod: %w", err)
	}
	return nil
}

// makePauseRoot makes the root filesystem of the holder of the PID namespace: what is mounted there has to be there
// before, for root of a user namespace may not make it.
func makePauseRoot(root string) error {
	for _, dir := range []string{"proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "pause"), nil, 0o755)
}

// writePodFiles writes what the pod's containers find in /etc.
func (e *Engine) writePodFiles(rec Pod, a *network.Attachment) error {
	dir := e.podDir(rec)
	name := podHostname(rec, e.Host.Hostname)
	hosts, err := podHosts(rec, name, a)
	if err != nil {
		return err
	}
	resolv, err := podResolv(rec, a)
	if err != nil {
		return err
	}
	for file, text := range map[string]string{"hosts": hosts, "hostname": name + "\n", "resolv.conf": resolv} {
		if err := atomicfile.WriteNoSync(podFile(dir, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const maxLabel = 63 // characters of a part of a DNS name: RFC 1035, section 2.3.4

// podHostname is the name in the pod's UTS namespace, or the host's where they share it.
func podHostname(rec Pod, host string) string {
	switch {
	case rec.Network == ModeNode:
		return host
	case rec.Hostname != "":
		return rec.Hostname
	}
	for _, name := range []string{strings.ToLower(rec.Name), rec.ID} {
		if len(name) > maxLabel {
			name = name[:maxLabel]
		}
		if name = strings.TrimRight(name, "-."); name != "" {
			return name
		}
	}
	return ""
}

// podHosts is the hosts file: the host's where the pod shares its network.
func podHosts(rec Pod, name string, a *network.Attachment) (string, error) {
	if rec.Network == ModeNode {
		return readOr("/etc/hosts", "127.0.0.1\tlocalhost\n")
	}
	var b strings.Builder
	b.WriteString(localHosts)
	if a != nil {
		for _, ip := range a.IPs {
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		}
	}
	return b.String(), nil
}

// localHosts are the names that every network namespace has.
const localHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// podResolv is the resolver's configuration (resolv.conf(5)): what the client asks for, else what the network wants, else
// the host's.
func podResolv(rec Pod, a *network.Attachment) (string, error) {
	dns := network.DNS{}
	if a != nil {
		dns = a.DNS
	}
	if d := rec.DNS; d != nil && len(d.Servers)+len(d.Searches)+len(d.Options) > 0 {
		dns = *d
	}
	if text := resolvText(dns); text != "" {
		return text, nil
	}
	return readOr("/etc/resolv.conf", "")
}

func resolvText(dns network.DNS) string {
	var b strings.Builder
	if len(dns.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Searches, " "))
	}
	for _, server := range dns.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return b.String()
}

func readOr(path, otherwise string) (string, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return otherwise, nil
	}
	return string(data), err
}

// pinned are the namespaces that are pinned for a pod, but for the network's where no user namespace owns it.
func pinned(rec Pod) []string {
	var kinds []string
	if rec.Network == ModePod {
		kinds = append(kinds, pin.UTS)
		if len(rec.UIDMap) > 0 {
			kinds = append(kinds, pin.Network)
		}
	}
	if rec.IPC == ModePod {
		kinds = append(kinds, pin.IPC)
	}
	return kinds
}

// isPinned says whether a pod still has all its namespaces. A reboot takes them, and a stop that was cut off some.
func (e *Engine) isPinned(rec Pod) bool {
	kinds := pinned(rec)
	if rec.Network == ModePod && len(rec.UIDMap) == 0 {
		kinds = append(kinds, pin.Network)
	}
	if len(rec.UIDMap) > 0 {
		kinds = append(kinds, pin.User)
	}
	if len(kinds) == 0 { // it has only the host's: its directory tells
		_, err := os.Stat(podFile(e.podDir(rec), "hosts"))
		return err == nil
	}
	for _, kind := range kinds {
		if !pin.Pinned(e.pinDir(rec), kind) {
			return false
		}
	}
	return true
}

func mountMap(in []specs.LinuxIDMapping) []mount.IDMap {
	out := make([]mount.IDMap, 0, len(in))
	for _, m := range in {
		out = append(out, mount.IDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
	}
	return out
}

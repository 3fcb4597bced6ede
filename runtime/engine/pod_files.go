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
	if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("make the shared memory of the pod: %w", err)
	}
	return nil
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

// podHostname is the name in the pod's UTS namespace, or the host's where they share it.
func podHostname(rec Pod, host string) string {
	switch {
	case rec.Network == ModeNode:
		return host
	case rec.Hostname != "":
		return rec.Hostname
	}
	name := strings.ToLower(rec.Name)
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// podHosts is the hosts file: the host's where the pod shares its network.
func podHosts(rec Pod, name string, a *network.Attachment) (string, error) {
	if rec.Network == ModeNode {
		return readOr("/etc/hosts", "127.0.0.1\tlocalhost\n")
	}
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	if a != nil {
		for _, ip := range a.IPs {
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		}
	}
	return b.String(), nil
}

// podResolv is the resolver's configuration (resolv.conf(5)): what the client asks for, else what the network wants, else
// the host's.
func podResolv(rec Pod, a *network.Attachment) (string, error) {
	dns := network.DNS{}
	if a != nil {
		dns = a.DNS
	}
	if rec.DNS != nil {
		dns = *rec.DNS
	}
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
	if b.Len() == 0 {
		return readOr("/etc/resolv.conf", "")
	}
	return b.String(), nil
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

// isPinned says whether a pod still has its namespaces, of which one stands for all: a reboot takes them together.
func (e *Engine) isPinned(rec Pod) bool {
	kinds := pinned(rec)
	if len(rec.UIDMap) > 0 {
		kinds = append(kinds, pin.User)
	}
	if len(kinds) == 0 { // it has only the host's: its directory tells
		_, err := os.Stat(podFile(e.podDir(rec), "hosts"))
		return err == nil
	}
	return pin.Pinned(e.pinDir(rec), kinds[0])
}

func mountMap(in []specs.LinuxIDMapping) []mount.IDMap {
	out := make([]mount.IDMap, 0, len(in))
	for _, m := range in {
		out = append(out, mount.IDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
	}
	return out
}

package engine

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/network"
)

func TestPodHostname(t *testing.T) {
	long := strings.Repeat("a", 62)
	for _, row := range []struct {
		o    PodOptions
		want string
	}{
		{PodOptions{Network: ModePod, Name: "Web", ID: "1"}, "web"},
		{PodOptions{Network: ModePod, Name: "web", Hostname: "Given"}, "Given"},
		{PodOptions{Network: ModePod, Name: long + "bcd"}, long + "b"},
		{PodOptions{Network: ModePod, Name: long + "-d"}, long},
		{PodOptions{Network: ModePod, Name: "...", ID: "1f"}, "1f"},
		{PodOptions{Network: ModePod, ID: long + "xyz"}, long + "x"},
		{PodOptions{Network: ModeNode, Name: "web"}, "the-host"},
		{PodOptions{Network: ModeNode, Name: "web", Hostname: "given"}, "the-host"},
	} {
		if got := podHostname(Pod{PodOptions: row.o}, "the-host"); got != row.want {
			t.Errorf("%+v: %q", row, got)
		}
	}
}

func TestPodHosts(t *testing.T) {
	own := Pod{PodOptions: PodOptions{Network: ModePod}}
	four, six := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")
	for name, row := range map[string]struct {
		a    *network.Attachment
		want []string // the last lines
	}{
		"not attached": {nil, []string{"ff02::2\tip6-allrouters"}},
		"one address":  {&network.Attachment{IPs: []netip.Addr{four}}, []string{"10.1.0.2\tweb"}},
		"two":          {&network.Attachment{IPs: []netip.Addr{six, four}}, []string{"fd00::2\tweb", "10.1.0.2\tweb"}},
	} {
		text, err := podHosts(own, "web", row.a)
		if err != nil || !strings.HasPrefix(text, "127.0.0.1\tlocalhost\n::1\tlocalhost ") || !strings.HasSuffix(text, "\n"+strings.Join(row.want, "\n")+"\n") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	host, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := podHosts(Pod{PodOptions: PodOptions{Network: ModeNode}}, "web", nil); err != nil || text != string(host) {
		t.Errorf("of the host: %v\n%s", err, text)
	}
}

func TestPodResolv(t *testing.T) {
	host, err := readOr("/etc/resolv.conf", "")
	if err != nil {
		t.Fatal(err)
	}
	asked := &network.DNS{Servers: []string{"10.0.0.10", "fd00::a"}, Searches: []string{"shop.svc", "svc"}, Options: []string{"ndots:5", "edns0"}}
	wants := &network.Attachment{DNS: network.DNS{Servers: []string{"10.1.0.1"}}}
	whole := "search shop.svc svc\nnameserver 10.0.0.10\nnameserver fd00::a\noptions ndots:5 edns0\n"
	for name, row := range map[string]struct {
		dns  *network.DNS
		a    *network.Attachment
		want string
	}{
		"nobody says":                 {nil, nil, host},
		"the network has no opinion":  {nil, &network.Attachment{}, host},
		"the client asks for nothing": {&network.DNS{}, nil, host},
		"the client":                  {asked, nil, whole},
		"the client, not the network": {asked, wants, whole},
		"the network":                 {nil, wants, "nameserver 10.1.0.1\n"},
		"the network, for a client that asks for nothing": {&network.DNS{}, wants, "nameserver 10.1.0.1\n"},
		"options alone": {&network.DNS{Options: []string{"rotate"}}, nil, "options rotate\n"},
	} {
		if got, err := podResolv(Pod{PodOptions: PodOptions{DNS: row.dns}}, row.a); err != nil || got != row.want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	if got, err := readOr("/not/there", "otherwise"); got != "otherwise" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPodDir has the pod's files and its shared memory, and the log directory its client wants.
func TestPodDir(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.podOptions("p")
		o.ShmSize, o.LogDir, o.Hostname = 1<<20, w.dir+"/logs/p", "here"
		o.UIDMap = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
		o.GIDMap = []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}}
		dir := w.podDir(w.run(o))
		for name, want := range map[string]string{"hosts": "\there\n", "hostname": "here\n", "resolv.conf": ""} {
			text, err := os.ReadFile(podFile(dir, name))
			if info, statErr := os.Stat(podFile(dir, name)); err != nil || statErr != nil || !strings.HasSuffix(string(text), want) || info.Mode().Perm() != 0o644 {
				t.Errorf("%s: %v, %v\n%s", name, err, statErr, text)
			}
		}
		var fs unix.Statfs_t
		var st unix.Stat_t
		w.ok(unix.Statfs(podShm(dir), &fs))
		w.ok(unix.Stat(podShm(dir), &st))
		if fs.Type != unix.TMPFS_MAGIC || int64(fs.Blocks)*fs.Bsize != 1<<20 || st.Mode&0o7777 != 0o1777 || st.Uid != 100000 || st.Gid != 200000 {
			t.Errorf("shared memory: %+v, mode %o, of %d:%d", fs, st.Mode, st.Uid, st.Gid)
		}
		w.gone("p")
		if !isDir(o.LogDir) {
			t.Error("the log directory is its client's, and is gone")
		}
	})
}

package mount

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name string
		in   Mount
		want parsed
	}{
		{"bind ro", Mount{Type: "bind", Options: []string{"rbind", "ro"}},
			parsed{bind: true, rbind: true, attr: change{set: unix.MOUNT_ATTR_RDONLY}, superblock: []string{"ro"}}},
		{"bind by option alone", Mount{Options: []string{"bind"}}, parsed{bind: true}},
		{"recursive", Mount{Type: "bind", Options: []string{"rro", "rnosuid", "rslave", "shared"}},
			parsed{bind: true, tree: change{set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID},
				propagation: []propagation{{unix.MS_SLAVE, true}, {unix.MS_SHARED, false}}}},
		{"the last wins", Mount{Type: "tmpfs", Options: []string{"nosuid", "suid", "dev", "nodev"}},
			parsed{attr: change{set: unix.MOUNT_ATTR_NODEV, clear: unix.MOUNT_ATTR_NOSUID}}},
		{"atime is a field", Mount{Type: "tmpfs", Options: []string{"noatime", "strictatime"}},
			parsed{attr: change{set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME}}},
		{"rw and relatime are not recursive", Mount{Type: "tmpfs", Options: []string{"rw", "relatime"}},
			parsed{attr: change{clear: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR__ATIME}}},
		{"data", Mount{Type: "tmpfs", Options: []string{"size=1m", "huge", "sync"}},
			parsed{data: []string{"size=1m", "huge"}, superblock: []string{"sync"}}},
		{"idmap", Mount{Type: "bind", Options: []string{"uidmap=0:1000:1,1:100000:65535", "gidmap=0:5:1", "ridmap"}},
			parsed{bind: true, uid: []IDMap{{0, 1000, 1}, {1, 100000, 65535}}, gid: []IDMap{{0, 5, 1}}, mapTree: true}},
	} {
		got, err := parse(test.in)
		test.want.Mount = test.in
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: parse = %+v, %v\nwant %+v", test.name, got, err, test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, m := range []Mount{
		{},
		{Type: "bind", Options: []string{"size=3"}},
		{Type: "bind", Options: []string{"uidmap=0:1:1"}},
		{Type: "tmpfs", Options: []string{"uidmap=0:1:1", "gidmap=0:1:1"}},
		{Type: "bind", Options: []string{"uidmap=0:1"}},
		{Type: "bind", Options: []string{"uidmap=0:1:0"}},
		{Type: "bind", Options: []string{"uidmap=0:4294967295:2"}},
		{Type: "bind", Options: []string{"uidmap=-1:0:2"}},
	} {
		if _, err := parse(m); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%v: %v, want ErrInvalidArgument", m, err)
		}
	}
}

func TestSplitOverlay(t *testing.T) {
	got := splitOverlay([]string{`lowerdir=/a:/b\:c:/d\\e::/data1::/data2`, "upperdir=/u", "workdir=/w", "index=off", "lowerdir+=/f"})
	want := stack{lower: []string{"/a", "/b:c", `/d\e`, "/f"}, data: []string{"/data1", "/data2"}, upper: "/u", work: "/w", rest: []string{"index=off"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	dirs := []string{"/x:y", `/z\`, "/plain"}
	if again := splitOverlay([]string{"lowerdir=" + LowerDirs(dirs)}).lower; !reflect.DeepEqual(again, dirs) {
		t.Errorf("LowerDirs does not survive: %q", again)
	}
}

func TestRelativeTo(t *testing.T) {
	for _, test := range []struct{ in, base, want string }{
		{"/a/b/1/fs /a/b/2/fs", "/a/b", "1/fs 2/fs"},
		{"/a/bc/1 /a/b/2", "/a", "bc/1 b/2"},
		{"/a /b", "/", "a b"},
		{"/a/b", "/a", "b"},
		{"a /b", ".", "a /b"},
	} {
		base, names := relativeTo(strings.Fields(test.in))
		if base != test.base || strings.Join(names, " ") != test.want {
			t.Errorf("relativeTo(%s) = %s, %q", test.in, base, names)
		}
	}
}

func TestReadOnly(t *testing.T) {
	got := ReadOnly([]Mount{
		{Type: "overlay", Options: []string{"lowerdir=/a:/b", "upperdir=/u:1", "workdir=/w", "index=off"}},
		{Type: "bind", Options: []string{"rbind", "rw"}},
	})
	want := []Mount{
		{Type: "overlay", Options: []string{`lowerdir=/u\:1:/a:/b`, "index=off", "ro"}},
		{Type: "bind", Options: []string{"rbind", "ro"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("lowerdir=/a:/b,upperdir=/c", "overlay")
	f.Add("rbind,ro,uidmap=0:1:1,gidmap=0:1:1", "bind")
	f.Fuzz(func(t *testing.T, options, fstype string) {
		p, err := parse(Mount{Type: fstype, Options: strings.Split(options, ",")})
		if err != nil {
			return
		}
		if p.attr.set&unix.MOUNT_ATTR_RDONLY != 0 && p.attr.clear&unix.MOUNT_ATTR_RDONLY != 0 {
			t.Errorf("%q sets and clears ro", options)
		}
		splitOverlay(p.data)
	})
}

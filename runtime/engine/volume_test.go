package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/spec"
)

// mountText writes mounts as SOURCE:TARGET[:OPTIONS], with a mark for what is known of the volume.
func mountText(mounts []spec.Mount) string {
	var all []string
	for _, m := range mounts {
		text := m.Source + ":" + m.Target
		if len(m.Options) > 0 {
			text += ":" + strings.Join(m.Options, ",")
		}
		if v := volumeOf(m); v.Anonymous {
			text += "*"
		} else if v.NoCopy {
			text += "!"
		}
		if m.Inherited {
			text += "^"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// mountsOf reads them: a source that is no path is a volume's name, and no source a new volume.
func mountsOf(text string) []spec.Mount {
	var all []spec.Mount
	for _, word := range strings.Fields(text) {
		source, target, _ := strings.Cut(word, ":")
		m := spec.Mount{Type: "bind", Source: source, Target: target}
		if !filepath.IsAbs(source) {
			m.Type = MountVolume
		}
		all = append(all, m)
	}
	return all
}

func TestPlanMounts(t *testing.T) {
	for _, c := range []struct {
		asked, tmpfs, from, declared string
		empty                        bool
		want                         string
	}{
		{want: ""},
		{asked: "/h:/a data:/b", want: "/h:/a data:/b"},
		{asked: ":/a :/b", want: "1:/a* 2:/b*"},
		{declared: "/a b/ /", want: "1:/a:rbind,rw* 2:/b:rbind,rw*"},
		{asked: "data:/a/", declared: "/a /b", want: "data:/a/ 1:/b:rbind,rw*"},
		{asked: ":/a", declared: "/a", want: "1:/a*"},
		{tmpfs: "/a/", declared: "/a", want: ""},
		{from: "x:/a /h:/b", want: "x:/a /h:/b"},
		{asked: "data:/a", from: "x:/a y:/b", want: "y:/b data:/a"},
		{asked: ":/a", from: "x:/a", declared: "/a", want: "x:/a"},
		{from: "x:/a y:/a", want: "x:/a"},
		{from: "x:/a", tmpfs: "/a", want: ""},
	} {
		s := mountSources{asked: mountsOf(c.asked), from: mountsOf(c.from), declared: strings.Fields(c.declared), empty: c.empty, tmpfs: map[string]string{}}
		for _, target := range strings.Fields(c.tmpfs) {
			s.tmpfs[target] = ""
		}
		made := 0
		got := mountText(planMounts(s, func() string { made++; return fmt.Sprint(made) }))
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestMountAgain(t *testing.T) {
	volume := spec.Mount{Type: MountVolume, Source: "data", Target: "/a", Options: []string{"rbind", "rw"}, Volume: &spec.Volume{Anonymous: true, Options: map[string]string{"type": "tmpfs"}}}
	bind := spec.Mount{Type: "bind", Source: "/h", Target: "/b", Options: []string{"rbind", "rro"}}
	for _, c := range []struct {
		readOnly bool
		want     string
	}{{false, "data:/a:rbind,rw*^ /h:/b:rbind,rro^"}, {true, "data:/a:rbind,ro*^ /h:/b:rbind,rro^"}} {
		got := []spec.Mount{mountAgain(volume, c.readOnly), mountAgain(bind, c.readOnly)}
		if text := mountText(got); text != c.want || got[0].Volume.Options != nil {
			t.Errorf("%t: %s", c.readOnly, text)
		}
	}
	if volume.Options[1] != "rw" || volume.Inherited {
		t.Error("the other's mount was changed")
	}
}

// withVolume are options of a container with volumes.
func (w *world) withVolume(id, mounts string) CreateOptions {
	o := w.imaged(id)
	o.Request.Mounts = mountsOf(mounts)
	return o
}

func (w *world) volumes() string {
	w.t.Helper()
	list, err := w.ListVolumes(w.t.Context(), ns, false)
	w.ok(err)
	var names []string
	for _, v := range list {
		names = append(names, fmt.Sprintf("%s/%d", v.Name, len(v.Users)))
	}
	return strings.Join(names, " ")
}

func TestVolumesOfContainers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.withVolume("one", "data:/a data:/b"))
		w.create(w.withVolume("two", "data:/a other:/b"))
		if got := w.volumes(); got != "data/2 other/1" {
			t.Errorf("volumes %s", got)
		}
		err := w.RemoveVolume(t.Context(), ns, "data")
		w.is(err, errdefs.ErrFailedPrecondition)
		if !strings.Contains(err.Error(), "volume is in use by container one, two") {
			t.Error(err)
		}
		for _, id := range []string{"one", "two"} {
			_, err := w.Delete(t.Context(), ns, id, DeleteOptions{Volumes: true})
			w.ok(err)
		}
		if got := w.volumes(); got != "data/0 other/0" {
			t.Errorf("volumes %s", got)
		}
		removed, err := w.PruneVolumes(t.Context(), ns, func(v VolumeInfo) bool { return v.Name == "data" })
		if err != nil || len(removed) != 1 || removed[0].Usage.Size == 0 {
			t.Errorf("%v, %v", removed, err)
		}
		w.ok(w.RemoveVolume(t.Context(), ns, "other"))
		w.is(w.RemoveVolume(t.Context(), ns, "other"), errdefs.ErrNotFound)
		w.clean()
	})
}

// TestVolumeThatIsNot starts a container whose volume somebody has taken away by force.
func TestVolumeThatIsNot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.withVolume("one", "data:/a"))
		w.ok(w.Volumes.Delete(ns, "data"))
		_, err := w.Start(t.Context(), ns, "one", StartOptions{})
		w.is(err, errdefs.ErrNotFound)
		problems, _, err := w.Check(t.Context(), false, true)
		w.ok(err)
		if len(problems) != 2 || problems[0].Problem != "files of a volume without a record" || !strings.Contains(problems[1].Problem, "its volume data is gone") {
			t.Fatalf("problems %+v", problems)
		}
		if problems, _, err = w.Check(t.Context(), true, true); err != nil || len(problems) != 1 || !problems[0].Repaired {
			t.Fatalf("problems %+v", problems)
		}
		w.start("one")
		_, err = w.Delete(t.Context(), ns, "one", DeleteOptions{Force: true})
		w.ok(err)
		w.ok(os.RemoveAll(filepath.Join(w.dir, "root/volumes/default/data")))
		if problems, _, err = w.Check(t.Context(), true, true); err != nil || len(problems) != 1 || !problems[0].Repaired {
			t.Errorf("problems %+v, %v", problems, err)
		}
		w.ok(w.RemoveVolume(t.Context(), ns, "data"))
		w.clean()
	})
}

// TestVolumeOptionsMounted wants a volume that is a mount to be one while a container runs, over restarts of the daemon.
func TestVolumeOptionsMounted(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		_, err := w.CreateVolume(t.Context(), ns, NewVolume{Name: "memory", Volume: spec.Volume{Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}})
		w.ok(err)
		mounted := func(want bool) {
			t.Helper()
			w.settled()
			if got, err := mount.Mounted(w.VolumePath(ns, "memory")); err != nil || got != want {
				t.Fatalf("mounted: %t, %v", got, err)
			}
		}
		w.create(w.withVolume("one", "memory:/a"))
		w.create(w.withVolume("two", "memory:/a"))
		mounted(false)
		w.start("one")
		w.start("two")
		w.sandboxes.exit(t, "one", "", 0)
		mounted(true)
		w.again()
		w.recover()
		mounted(true)
		w.is(w.RemoveVolume(t.Context(), ns, "memory"), errdefs.ErrFailedPrecondition)
		w.sandboxes.exit(t, "two", "", 0)
		mounted(false)
		w.sandboxes.setFail("start", errBroken)
		_, err = w.Start(t.Context(), ns, "one", StartOptions{})
		w.is(err, errBroken)
		mounted(false)
		for _, id := range []string{"one", "two"} {
			_, err := w.Delete(t.Context(), ns, id, DeleteOptions{})
			w.ok(err)
		}
		w.ok(w.RemoveVolume(t.Context(), ns, "memory"))
		w.clean()
	})
}

func TestRefusedVolumes(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, c := range []struct {
			o     NewVolume
			class error
		}{
			{NewVolume{Name: "a/b"}, errdefs.ErrInvalidArgument},
			{NewVolume{Name: "data", Volume: spec.Volume{Driver: "nfs"}}, errdefs.ErrNotFound},
			{NewVolume{Name: "data", Volume: spec.Volume{Options: map[string]string{"type": "tmpfs"}}}, errdefs.ErrInvalidArgument},
			{NewVolume{Name: "data", Volume: spec.Volume{Labels: map[string]string{"": "x"}}}, errdefs.ErrInvalidArgument},
		} {
			_, err := w.CreateVolume(t.Context(), ns, c.o)
			w.is(err, c.class)
			o := w.withVolume("c", "x:/a")
			o.Request.Mounts[0].Source, o.Request.Mounts[0].Volume = c.o.Name, &c.o.Volume
			_, err = w.Create(t.Context(), ns, o)
			w.is(err, c.class)
		}
		o := w.withVolume("c", "")
		o.VolumesFrom = []string{"nobody"}
		_, err := w.Create(t.Context(), ns, o)
		w.is(err, errdefs.ErrNotFound)
		o = w.withVolume("c", "")
		o.ImageVolumes = "some"
		_, err = w.Create(t.Context(), ns, o)
		w.is(err, errdefs.ErrInvalidArgument)
		if got := w.volumes(); got != "" {
			t.Errorf("volumes %s", got)
		}
		w.clean()
	})
}

// TestMakeIn makes a directory in a root whose links would lead out of it.
func TestMakeIn(t *testing.T) {
	root := testenv.Dir(t)
	for _, link := range [][2]string{{"/real", "absolute"}, {"../../../../../../../../real", "up"}} {
		if err := os.Symlink(link[0], filepath.Join(root, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{"/a/b/c": "a/b/c", "/absolute/x": "real/x", "/up/y/z": "real/y/z"} {
		for range 2 {
			if err := makeIn(root, target, os.Getuid(), os.Getgid()); err != nil {
				t.Fatal(err)
			}
		}
		if !isDir(filepath.Join(root, want)) {
			t.Errorf("%s is not at %s", target, want)
		}
	}
}

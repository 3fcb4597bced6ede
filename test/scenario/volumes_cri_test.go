package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestCRIImageVolumes runs an image that declares volumes, by each of the settings.
func TestCRIImageVolumes(t *testing.T) {
	testenv.Image(t, "volumes")
	const look = "cat /content/file; stat -c '%a %u' /content /empty; touch /content/x && echo written"
	for setting, want := range map[string]string{
		"copy":   "of the image\n750 0\n1777 0\nwritten\n",
		"bind":   "755 0\n755 0\nwritten\n",
		"mkdir":  "of the image\n750 0\n1777 0\nwritten\n",
		"ignore": "of the image\n750 0\n1777 0\nwritten\n",
	} {
		t.Run(setting, func(t *testing.T) {
			s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: "[cri]\nimage_volumes = \"" + setting + "\"\n"})
			n := newNerd(t, s.Daemon)
			n.args = append(n.args, "-n", "k8s.io")
			image := s.Registry.Ref("volumes")
			s.Pull(image)
			pod := s.RunPod("volumes")
			id := pod.Create(testenv.ContainerConfig("main", image, "sleep", "600"))
			s.Start(id)
			if out := s.Exec(id, "sh", "-c", look); strings.TrimPrefix(out, "cat: can't open '/content/file': No such file or directory\n") != want {
				t.Errorf("printed %q, want %q", out, want)
			}
			mounts := s.Exec(id, "cat", "/proc/mounts")
			made := len(strings.Fields(n.do("volume", "ls", "-q")))
			if volumes := setting == "copy" || setting == "bind"; volumes != strings.Contains(mounts, " /content ") || volumes != (made == 2) {
				t.Errorf("%d volumes, mounts\n%s", made, mounts)
			}
			t.Log("what the client mounts there is enough, and is not filled")
			config := testenv.ContainerConfig("mounted", image, "sleep", "600")
			host := filepath.Join(testenv.Dir(t), "made")
			config.Mounts = []*runtimeapi.Mount{{HostPath: host, ContainerPath: "/content"}, {HostPath: host, ContainerPath: "/empty"}}
			pod.Create(config)
			if entries, err := os.ReadDir(host); err != nil || len(entries) > 0 {
				t.Errorf("the directory of the host has %v, %v", entries, err)
			}
			if again := len(strings.Fields(n.do("volume", "ls", "-q"))); again != made {
				t.Errorf("%d volumes, and %d before", again, made)
			}
			pod.Remove()
			if out := n.do("volume", "ls", "-q"); out != "" {
				t.Errorf("the pod is gone, and the volumes are not: %s", out)
			}
		})
	}
}

// TestCRIVolumesMapped has a pod with a user namespace: it finds the files of volumes under its own ids, and what is on
// the disk are those that any other container finds.
func TestCRIVolumesMapped(t *testing.T) {
	testenv.Image(t, "volumes")
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid"})
	image := s.Registry.Ref("volumes")
	s.Pull(image)
	ids := []*runtimeapi.IDMapping{{HostId: 100000, Length: 65536}}
	pod := s.RunPod("mapped", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}
	})
	config := testenv.ContainerConfig("main", image, "sleep", "600")
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = pod.Config.Linux.SecurityContext.NamespaceOptions.UsernsOptions
	id := pod.Create(config)
	s.Start(id)
	if out := s.Exec(id, "sh", "-c", "stat -c '%u %g' /content /content/file; touch /content/new"); out != "0 0\n7 8\n" {
		t.Errorf("owners %q", out)
	}
	found, err := filepath.Glob(filepath.Join(s.Daemon.Root, "volumes/k8s.io/*/_data/new"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if out := testenv.Run(t, "stat", "-c", "%u %g", found[0], filepath.Join(filepath.Dir(found[0]), "file")); out != "0 0\n7 8\n" {
		t.Errorf("owners on the disk %q", out)
	}
}

// TestCRIAbsentSources makes a missing directory of the host, but for the paths that the configuration names.
func TestCRIAbsentSources(t *testing.T) {
	dir := testenv.Dir(t)
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: "[cri]\nabsent_mount_sources_to_reject = [\"" + dir + "/hostname\"]\n"})
	pod := s.RunPod("absent")
	mounting := func(name string) *runtimeapi.CreateContainerRequest {
		config := testenv.ContainerConfig(name, testenv.SuiteBusybox, "sleep", "600")
		config.Mounts = []*runtimeapi.Mount{{HostPath: filepath.Join(dir, name), ContainerPath: "/m"}}
		return &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config}
	}
	_, err := s.Runtime.CreateContainer(t.Context(), mounting("made"))
	check(t, err)
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Error(err)
	}
	_, err = s.Runtime.CreateContainer(t.Context(), mounting("hostname"))
	declined(t, "a source that is not made", err, codes.NotFound, dir+"/hostname", "make it first")
	check(t, os.WriteFile(filepath.Join(dir, "hostname"), nil, 0o644))
	_, err = s.Runtime.CreateContainer(t.Context(), mounting("hostname"))
	check(t, err)
}

// TestCRIImageMount mounts an image, and takes it away with the container.
func TestCRIImageMount(t *testing.T) {
	testenv.Image(t, "volumes")
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid"})
	image := s.Registry.Ref("volumes")
	s.Pull(image)
	pod := s.RunPod("image")
	config := testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600")
	config.Mounts = []*runtimeapi.Mount{{Image: &runtimeapi.ImageSpec{Image: image}, ContainerPath: "/i", ImageSubPath: "content"}}
	id := pod.Create(config)
	s.Start(id)
	if out := s.Exec(id, "cat", "/i/file"); out != "of the image\n" {
		t.Errorf("printed %q", out)
	}
	pod.Remove()
}

package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// rsaKey makes a private key in a directory, and its public half elsewhere.
func rsaKey(t *testing.T, dir, name string) (public string) {
	t.Helper()
	private := filepath.Join(dir, name+".pem")
	public = filepath.Join(testenv.Dir(t), name+".pub")
	testenv.Run(t, "openssl", "genrsa", "-out", private, "2048")
	testenv.Run(t, "openssl", "rsa", "-in", private, "-pubout", "-out", public)
	return public
}

// TestImageEncrypted pulls and runs images whose layers skopeo has encrypted, with the key and without.
func TestImageEncrypted(t *testing.T) {
	testenv.Need(t, "skopeo", "openssl")
	testenv.Binary(t, "minid-trust")
	keys := filepath.Join(testenv.Dir(t), "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	public := rsaKey(t, keys, "right")
	right := filepath.Join(keys, "right.pem")
	aside := filepath.Join(testenv.Dir(t), "right.pem")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", InNetwork: true, Config: fmt.Sprintf("[image]\ndecryption_keys_path = %q\n", keys)})
	plain, ref := s.Registry.Ref("busybox"), s.Registry.Ref("secret")
	testenv.Run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "--encryption-key", "jwe:"+public, "docker://"+plain, "docker://"+ref)

	pull := func() error {
		_, err := s.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		return err
	}
	move(right, aside)
	declined(t, "a pull without a key", pull(), codes.PermissionDenied, "is encrypted", keys)
	rsaKey(t, keys, "wrong")
	declined(t, "a pull with another's key", pull(), codes.PermissionDenied, "is encrypted", keys)
	refused(t, s.Daemon.Try("images", "pull", ref), "is encrypted", keys)
	move(aside, right)
	if err := pull(); err != nil {
		t.Fatalf("a pull with the key: %v", err)
	}
	pod := s.RunPod("secret", testenv.HostNetwork)
	c := testenv.ContainerConfig("c", ref, "echo", "it is open")
	id := pod.Create(c)
	s.Start(id)
	if e := s.WaitExit(id); e.ExitCode != 0 || !strings.Contains(pod.Log("c"), "it is open") {
		t.Errorf("a container of it: exit code %d, log %q", e.ExitCode, pod.Log("c"))
	}
	if got := s.Daemon.Minictr("-n", "k8s.io", "images", "inspect", "--content", ref); !strings.Contains(got, "+encrypted") {
		t.Errorf("the content has other layers than the registry:\n%s", got)
	}

	// The layers are unpacked, here and for whoever asks: to use them is to have the key.
	move(right, aside)
	config := testenv.ContainerConfig("later", ref, "true")
	_, err := s.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	declined(t, "a container without the key", err, codes.PermissionDenied, "is encrypted")
	refused(t, s.Daemon.Try("images", "pull", ref), "is encrypted")
	if got := s.Daemon.Minictr("images", "ls", "-q"); got != "" {
		t.Errorf("an image that was refused has a name: %s", got)
	}
	s.Daemon.Minictr("images", "pull", "--no-unpack", "-q", ref)
	refused(t, s.Daemon.Try("run", "--rm", ref, "x", "true"), "is encrypted")
	move(aside, right)
	if got := s.Daemon.Minictr("run", "--rm", ref, "x", "echo", "open"); got != "open\n" {
		t.Errorf("run printed %q", got)
	}

	// The command line encrypts for another key, which this machine does not have; skopeo and the command line decrypt it.
	program := testenv.Binary(t, "mininerd")
	mininerd := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(testenv.Run(t, program, append([]string{"--address", s.Daemon.Address}, args...)...))
	}
	mininerd("pull", "-q", plain)
	elsewhere := testenv.Dir(t)
	theirs := rsaKey(t, elsewhere, "theirs")
	key, locked := filepath.Join(elsewhere, "theirs.pem"), s.Registry.Ref("locked")
	mininerd("image", "encrypt", "--recipient", "jwe:"+theirs, plain, locked)
	mininerd("push", "-q", locked)
	if err := testenv.Try(t, program, "--address", s.Daemon.Address, "run", "--rm", locked, "true"); err == nil {
		t.Error("an image ran without its key")
	}
	testenv.Run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "--decryption-key", key, "docker://"+locked, "docker://"+s.Registry.Ref("opened"))
	mininerd("image", "decrypt", "--key", key, locked, "again:1")
	for _, ref := range []string{"again:1", s.Registry.Ref("opened")} {
		if got := mininerd("run", "--rm", "--pull", "missing", ref, "echo", "opened"); got != "opened" {
			t.Errorf("%s: printed %q", ref, got)
		}
	}
}

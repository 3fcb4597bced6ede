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

// keyProvider is a program of the test that keeps keys (ocicrypt, docs/keyprovider.md): it gives them back as it got them,
// with a mark, unless there is a file "shut" beside it.
const keyProvider = `#!/bin/sh
dir=${0%/*}
[ ! -e $dir/shut ] || { echo "the safe is shut" >&2; exit 1; }
input=$(cat)
case $input in
*'"op":"keywrap"'*) key=$(printf %s "$input" | sed 's/.*"optsdata":"\([^"]*\)".*/\1/' | base64 -d)
	printf '{"keywrapresults":{"annotation":"%s"}}' "$(printf 'marked:%s' "$key" | base64 -w0)" ;;
*) key=$(printf %s "$input" | sed 's/.*"annotation":"\([^"]*\)".*/\1/' | base64 -d)
	printf '{"keyunwrapresults":{"optsdata":"%s"}}' "$(printf %s "${key#marked:}" | base64 -w0)" ;;
esac
`

// TestImageKeyProvider encrypts an image for a key provider, and pulls and runs it where that opens it.
func TestImageKeyProvider(t *testing.T) {
	testenv.Binary(t, "minid-trust")
	dir := testenv.Dir(t)
	program := write(t, dir, "provider", keyProvider)
	check(t, os.Chmod(program, 0o755))
	config := write(t, dir, "keyproviders.json", fmt.Sprintf(`{"key-providers":{"tests":{"cmd":{"path":%q,"args":[]}}}}`, program))
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", InNetwork: true, Config: fmt.Sprintf("[image]\nkey_provider_config = %q\n", config)})
	plain, ref := s.Registry.Ref("busybox"), s.Registry.Ref("kept")
	mininerd := func(args ...string) {
		t.Helper()
		testenv.Run(t, testenv.Binary(t, "mininerd"), append([]string{"--address", s.Daemon.Address}, args...)...)
	}
	mininerd("pull", "-q", plain)
	mininerd("image", "encrypt", "--recipient", "provider:tests:any", plain, ref)
	mininerd("push", "-q", ref)
	if got := s.Daemon.Minictr("images", "inspect", "--content", ref); !strings.Contains(got, "org.opencontainers.image.enc.keys.provider.tests") {
		t.Errorf("the layers do not say who has their key:\n%s", got)
	}

	pull := func() error {
		_, err := s.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		return err
	}
	shut := write(t, dir, "shut", "")
	declined(t, "a pull while the provider refuses", pull(), codes.PermissionDenied, "is encrypted")
	check(t, os.Remove(shut))
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	pod := s.RunPod("kept", testenv.HostNetwork)
	id := pod.Create(testenv.ContainerConfig("c", ref, "echo", "it is open"))
	s.Start(id)
	if e := s.WaitExit(id); e.ExitCode != 0 || !strings.Contains(pod.Log("c"), "it is open") {
		t.Errorf("a container of it: exit code %d, log %q", e.ExitCode, pod.Log("c"))
	}
	check(t, os.Rename(program, filepath.Join(dir, "away")))
	declined(t, "a pull without the provider", pull(), codes.PermissionDenied, "is encrypted")
}

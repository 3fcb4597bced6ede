package scenario_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// pushArtifact puts a file into a registry as an OCI artifact.
func pushArtifact(t *testing.T, registry, repo, mediaType string, file []byte) {
	t.Helper()
	send := func(method, url, contentType string, body []byte) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(string(body)))
		check(t, err)
		request.Header.Set("Content-Type", contentType)
		conn, err := net.Dial("tcp", request.URL.Host) // by this thread, which has the namespace
		check(t, err)
		defer conn.Close()
		check(t, request.Write(conn))
		answer, err := http.ReadResponse(bufio.NewReader(conn), request)
		check(t, err)
		check(t, answer.Body.Close())
		if answer.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s", method, url, answer.Status)
		}
		return answer.Header.Get("Location")
	}
	blob := func(data []byte) digest.Digest {
		t.Helper()
		d := digest.FromBytes(data)
		at := send(http.MethodPost, registry+"/v2/"+repo+"/blobs/uploads/", "", nil)
		if strings.HasPrefix(at, "/") {
			at = registry + at
		}
		separator := "?"
		if strings.Contains(at, "?") {
			separator = "&"
		}
		send(http.MethodPut, at+separator+"digest="+d.String(), "application/octet-stream", data)
		return d
	}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: mediaType, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{{MediaType: mediaType, Digest: blob(file), Size: int64(len(file))}},
	}
	m.SchemaVersion = 2
	blob(ocispec.DescriptorEmptyJSON.Data)
	data, err := json.Marshal(m)
	check(t, err)
	send(http.MethodPut, registry+"/v2/"+repo+"/manifests/latest", ocispec.MediaTypeImageManifest, data)
}

// TestCRIRowsSeccomp: a profile that comes out of a registry, and system calls of which the owner of a node is told.
func TestCRIRowsSeccomp(t *testing.T) {
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: fmt.Sprintf(`[metrics]
address = %q
[runtimes.watched]
inherit_default_runtime = true
allowed_annotations = ["seccomp-notifier-action.crio.io", "seccomp-profile.crio.io"]
`, filepath.Join(testenv.Dir(t), "metrics.sock"))})
	c := s.CRI.In(t)
	watched := func(action string) (*testenv.CRIPod, string) {
		pod := mustHandled(t, s, "watched", map[string]string{"io.kubernetes.cri-o.seccompNotifierAction": action})
		return pod, started(pod, sleeper(func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
		}))
	}
	try := func(id string) {
		t.Helper()
		if got := c.Exec(id, "sh", "-c", "unshare -m true 2>&1 || true; echo after"); !strings.Contains(got, "not permitted") || !strings.Contains(got, "after") {
			t.Errorf("a forbidden call: %q", got)
		}
	}
	_, logged := watched("log")
	_, stopped := watched("stop")
	try(logged)
	testenv.Eventually(t, 10*time.Second, "the call is in the daemon's log", func() bool {
		log := s.Daemon.Log()
		return strings.Contains(log, "call=unshare") && strings.Contains(log, logged)
	})
	try(stopped)
	status := c.WaitExit(stopped)
	if status.Reason != "seccomp killed" || status.Message != "Used forbidden syscalls: unshare (1x)" {
		t.Errorf("reason %q, message %q", status.Reason, status.Message)
	}
	if state := c.Status(logged).State; state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("the container of which is only told is %s", state)
	}
	s.Daemon.Restart() // whoever is not asked any more is refused all the same
	if got := c.Exec(logged, "sh", "-c", "unshare -m true 2>&1 || true"); !strings.Contains(got, "unshare") {
		t.Errorf("a forbidden call after a restart: %q", got)
	}
	_, again := watched("log")
	try(again)
	dance := mustHandled(t, s, "watched", map[string]string{"seccomp-notifier-action.crio.io": "dance"})
	declined(t, "an unknown action", refusedContainer(t, dance, sleeper()), codes.InvalidArgument, "log and stop")

	pushArtifact(t, s.Registry.URL(), "profiles/no-mkdir", "application/vnd.cncf.seccomp-profile.config.v1+json", []byte(noMkdir))
	artifact := mustHandled(t, s, "watched", map[string]string{
		"seccomp-profile.crio.io/main": "registry.k8s.io/profiles/no-mkdir:latest", "seccomp-profile.kubernetes.cri-o.io/other": "registry.k8s.io/no/such:latest",
		"seccomp-profile.crio.io/image": testenv.SuiteBusybox,
	})
	id := started(artifact, sleeper())
	if got := c.Exec(id, "sh", "-c", "mkdir /tmp/x 2>&1 || true"); !strings.Contains(got, "not permitted") {
		t.Errorf("the profile of a registry: %q", got)
	}
	named := func(name string) *runtimeapi.ContainerConfig {
		return sleeper(func(c *runtimeapi.ContainerConfig) { c.Metadata.Name = name })
	}
	declined(t, "a profile that is not there", refusedContainer(t, artifact, named("other")), codes.NotFound, "no/such")
	declined(t, "an image for containers", refusedContainer(t, artifact, named("image")), codes.InvalidArgument, "OCI artifact")
	c.Exec(started(artifact, named("free")), "mkdir", "/tmp/x")
}

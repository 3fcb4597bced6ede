package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

// fake is a small native API in this process: it has the containers and images that the test gives it, and notes what it
// is asked to do.
type fake struct {
	mu         sync.Mutex
	containers []*api.Container
	images     []*api.Image
	created    []*api.CreateContainerRequest
	asked      []string
}

// The services of a fake: some of their methods have the same name.
type (
	fakeContainers struct {
		api.UnimplementedContainersServer
		*fake
	}
	fakeImages struct {
		api.UnimplementedImagesServer
		*fake
	}
	fakeProcesses struct {
		api.UnimplementedProcessesServer
		*fake
	}
)

// serve starts the fake and returns its socket.
func (f *fake) serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	api.RegisterContainersServer(s, fakeContainers{fake: f})
	api.RegisterImagesServer(s, fakeImages{fake: f})
	api.RegisterProcessesServer(s, fakeProcesses{fake: f})
	api.RegisterNetworksServer(s, api.UnimplementedNetworksServer{})
	api.RegisterVolumesServer(s, api.UnimplementedVolumesServer{})
	go func() { _ = s.Serve(l) }() // until Stop
	t.Cleanup(s.Stop)
	return path
}

// note remembers what was asked; lock it first.
func (f *fake) note(format string, args ...any) {
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

// find finds a container by name or the beginning of its id.
func (f *fake) find(word string) (*api.Container, error) {
	for _, c := range f.containers {
		if c.Name == word || strings.HasPrefix(c.Id, word) {
			return c, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "container %s: not in namespace default", word)
}

func (f fakeContainers) List(context.Context, *api.ListContainersRequest) (*api.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &api.ListContainersResponse{Containers: slices.Clone(f.containers)}, nil
}

func (f fakeContainers) Get(_ context.Context, r *api.ContainerRequest) (*api.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(r.Id)
}

func (f fakeContainers) Create(_ context.Context, r *api.CreateContainerRequest) (*api.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.images, func(i *api.Image) bool { return i.Name == r.Image }) {
		return nil, status.Errorf(codes.NotFound, "image %s: not in namespace default", r.Image)
	}
	f.created = append(f.created, r)
	c := &api.Container{Id: "made", Name: r.Name, State: "created"}
	f.containers = append(f.containers, c)
	return c, nil
}

func (f fakeContainers) Start(_ context.Context, r *api.ContainerRequest) (*api.StartResponse, error) {
	return &api.StartResponse{Pid: 7}, f.act("start", r.Id, func(c *api.Container) { c.State = "running" })
}

func (f fakeContainers) Stop(_ context.Context, r *api.StopRequest) (*api.ContainerActionResponse, error) {
	timeout := "unset"
	if r.Timeout != nil {
		timeout = fmt.Sprint(*r.Timeout)
	}
	return &api.ContainerActionResponse{}, f.act("stop "+r.Signal+" "+timeout, r.Id, func(c *api.Container) { c.State = "exited" })
}

func (f fakeContainers) Delete(_ context.Context, r *api.DeleteContainerRequest) (*api.DeleteContainerResponse, error) {
	return &api.DeleteContainerResponse{}, f.act(fmt.Sprintf("delete %v", r.Force), r.Id, func(gone *api.Container) {
		f.containers = slices.DeleteFunc(f.containers, func(c *api.Container) bool { return c == gone })
	})
}

func (f fakeContainers) Update(_ context.Context, r *api.UpdateContainerRequest) (*api.ContainerActionResponse, error) {
	return &api.ContainerActionResponse{}, f.act("update "+string(r.Resources), r.Id, func(*api.Container) {})
}

// act does something to a container and notes it.
func (f *fake) act(what, word string, do func(*api.Container)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.find(word)
	if err == nil {
		f.note("%s %s", what, c.Id)
		do(c)
	}
	return err
}

func (f fakeImages) Get(_ context.Context, r *api.GetImageRequest) (*api.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.images {
		if i.Name == r.Name || i.Id == r.Name {
			return i, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "image %s: not in namespace default", r.Name)
}

func (f fakeImages) List(context.Context, *api.ListImagesRequest) (*api.ListImagesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &api.ListImagesResponse{Images: slices.Clone(f.images)}, nil
}

func (f fakeImages) Pull(r *api.PullRequest, stream grpc.ServerStreamingServer[api.Progress]) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("pull %s", r.Name)
	if strings.Contains(r.Name, "missing") {
		return status.Errorf(codes.NotFound, "pull %s: not found", r.Name)
	}
	i := &api.Image{Name: r.Name, Target: &api.Descriptor{Digest: "sha256:1"}}
	f.images = append(f.images, i)
	return stream.Send(&api.Progress{Item: r.Name, Kind: "image", Stage: "done", Image: i})
}

func (f fakeProcesses) Signal(_ context.Context, r *api.SignalRequest) (*api.SignalResponse, error) {
	return &api.SignalResponse{}, f.act(fmt.Sprintf("signal %d", r.Signal), r.Id, func(*api.Container) {})
}

func (f fakeProcesses) Wait(_ context.Context, r *api.ProcessRequest) (*api.Exit, error) {
	return &api.Exit{Code: 3}, f.act("wait", r.Id, func(*api.Container) {})
}

// output is what a command line gave.
type output struct {
	out, errs string
	code      int
}

// call runs a command line in this process.
func (f *fake) call(t *testing.T, socket string, args ...string) output {
	t.Helper()
	t.Setenv("MININERD_TOML", os.DevNull)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	return callPlain(t, append([]string{"--address", socket}, args...)...)
}

func callPlain(t *testing.T, args ...string) output {
	t.Helper()
	var out, errs strings.Builder
	app := newApp(nil)
	app.Writer, app.ErrWriter, app.Reader = &out, &errs, strings.NewReader("")
	icli.Complete(app)
	err := app.RunContext(t.Context(), icli.Posix(app, append([]string{program}, args...), literal()...))
	var report strings.Builder
	code := icli.Report(&report, program, err)
	return output{out.String(), errs.String() + report.String(), code}
}

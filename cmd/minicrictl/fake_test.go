package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// fake is a small CRI runtime in this process: it has what the test gives it, notes what it is asked, and answers over a
// real socket.
type fake struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer

	containers []*cri.Container
	statuses   map[string]*cri.ContainerStatusResponse
	pods       []*cri.PodSandbox
	images     []*cri.Image
	streams    bool // it has the streaming lists
	exec       *cri.ExecSyncResponse

	mu     sync.Mutex
	asked  []string
	broken map[string]int // how often a method answers UNAVAILABLE before it works
	used   uint64
}

// serve starts the fake, and returns its endpoint.
func (f *fake) serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		name := info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:]
		f.mu.Lock()
		f.asked = append(f.asked, name+" "+text(req.(proto.Message)))
		broken := f.broken[name] > 0
		f.broken[name]--
		f.mu.Unlock()
		if broken {
			return nil, status.Error(codes.Unavailable, "not just now")
		}
		return handler(ctx, req)
	}), grpc.MaxSendMsgSize(1<<30))
	cri.RegisterRuntimeServiceServer(s, f)
	cri.RegisterImageServiceServer(s, f)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	if f.broken == nil {
		f.broken = map[string]int{}
	}
	return "unix://" + path
}

// requests are the calls of a method, each as its JSON without spaces.
func (f *fake) requests(method string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, a := range f.asked {
		if name, body, _ := strings.Cut(a, " "); name == method {
			all = append(all, strings.ReplaceAll(body, " ", ""))
		}
	}
	return all
}

// output is what a command line gave.
type output struct {
	out, errs string
	err       error
	code      int
}

// call runs a command line in this process.
func call(t *testing.T, endpoint string, args ...string) output {
	t.Helper()
	t.Setenv("CRI_CONFIG_FILE", filepath.Join(t.TempDir(), "none")) // the machine's own configuration is not the test's
	var out, errs strings.Builder
	app, finish := newApp()
	defer finish()
	app.Writer, app.ErrWriter, app.Reader = &out, &errs, strings.NewReader("")
	icli.Complete(app)
	full := []string{program, "--config", emptyConfig(t)}
	if endpoint != "" {
		full = append(full, "--runtime-endpoint", endpoint)
	}
	err := app.RunContext(t.Context(), append(full, args...))
	var report strings.Builder
	code := icli.Report(&report, program, err)
	return output{out.String(), errs.String() + report.String(), err, code}
}

// emptyConfig is a configuration file without options.
func emptyConfig(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "crictl.yaml")
	d := &document{}
	if err := d.write(name); err != nil {
		t.Fatal(err)
	}
	return name
}

func (f *fake) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: "fake", RuntimeVersion: "9", RuntimeApiVersion: "v1"}, nil
}

func (f *fake) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{
		Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}}},
		Info:   map[string]string{"config": `{"n":12345678901234567890,"a":"<b>"}`, "note": `"text"`}, Features: &cri.RuntimeFeatures{SupplementalGroupsPolicy: true},
		RuntimeHandlers: []*cri.RuntimeHandler{{Name: "runc"}},
	}, nil
}

func (f *fake) chosen(filter *cri.ContainerFilter) []*cri.Container {
	var all []*cri.Container
	for _, c := range f.containers {
		if filter.GetState() == nil || filter.State.State == c.State {
			all = append(all, c)
		}
	}
	return all
}

func (f *fake) ListContainers(_ context.Context, r *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	return &cri.ListContainersResponse{Containers: f.chosen(r.Filter)}, nil
}

func (f *fake) StreamContainers(r *cri.StreamContainersRequest, s grpc.ServerStreamingServer[cri.StreamContainersResponse]) error {
	if !f.streams {
		return status.Error(codes.Unimplemented, "unknown method StreamContainers")
	}
	f.mu.Lock()
	f.asked = append(f.asked, "StreamContainers "+text(r))
	broken := f.broken["StreamContainers"] > 0
	f.broken["StreamContainers"]--
	f.mu.Unlock()
	for i, c := range f.chosen(r.Filter) {
		if broken && i == 1 { // in the middle
			return status.Error(codes.Unavailable, "not just now")
		}
		if err := s.Send(&cri.StreamContainersResponse{Containers: []*cri.Container{c}}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	var all []*cri.PodSandbox
	for _, p := range f.pods {
		if r.Filter.GetState() == nil || r.Filter.State.State == p.State {
			all = append(all, p)
		}
	}
	return &cri.ListPodSandboxResponse{Items: all}, nil
}

func (f *fake) PodSandboxStatus(_ context.Context, r *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	for _, p := range f.pods {
		if p.Id == r.PodSandboxId {
			return &cri.PodSandboxStatusResponse{
				Status: &cri.PodSandboxStatus{Id: p.Id, Metadata: p.Metadata, State: p.State, CreatedAt: p.CreatedAt,
					Network: &cri.PodSandboxNetworkStatus{Ip: "10.0.0.2", AdditionalIps: []*cri.PodIP{{Ip: "fd00::2"}}}},
				Info: map[string]string{"info": `{"config":{"port_mappings":[{"container_port":80,"host_port":8080}]}}`},
			}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "pod %s: not there", r.PodSandboxId)
}

func (f *fake) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.statuses[r.ContainerId]; s != nil {
		s = proto.Clone(s).(*cri.ContainerStatusResponse)
		if !r.Verbose {
			s.Info = nil
		}
		return s, nil
	}
	return nil, status.Errorf(codes.NotFound, "container %s: not there", r.ContainerId)
}

func (f *fake) RunPodSandbox(context.Context, *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	return &cri.RunPodSandboxResponse{PodSandboxId: "new-pod"}, nil
}

func (f *fake) StopPodSandbox(context.Context, *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	return &cri.StopPodSandboxResponse{}, nil
}

func (f *fake) RemovePodSandbox(context.Context, *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	return &cri.RemovePodSandboxResponse{}, nil
}

func (f *fake) CreateContainer(context.Context, *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	return &cri.CreateContainerResponse{ContainerId: "new-container"}, nil
}

func (f *fake) StartContainer(context.Context, *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	return &cri.StartContainerResponse{}, nil
}

func (f *fake) StopContainer(context.Context, *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	return &cri.StopContainerResponse{}, nil
}

func (f *fake) RemoveContainer(context.Context, *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	return &cri.RemoveContainerResponse{}, nil
}

func (f *fake) UpdateContainerResources(context.Context, *cri.UpdateContainerResourcesRequest) (*cri.UpdateContainerResourcesResponse, error) {
	return &cri.UpdateContainerResourcesResponse{}, nil
}

func (f *fake) CheckpointContainer(context.Context, *cri.CheckpointContainerRequest) (*cri.CheckpointContainerResponse, error) {
	return &cri.CheckpointContainerResponse{}, nil
}

func (f *fake) ReopenContainerLog(context.Context, *cri.ReopenContainerLogRequest) (*cri.ReopenContainerLogResponse, error) {
	return &cri.ReopenContainerLogResponse{}, nil
}

func (f *fake) UpdateRuntimeConfig(context.Context, *cri.UpdateRuntimeConfigRequest) (*cri.UpdateRuntimeConfigResponse, error) {
	return &cri.UpdateRuntimeConfigResponse{}, nil
}

func (f *fake) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: cri.CgroupDriver_CGROUPFS}}, nil
}

func (f *fake) ExecSync(_ context.Context, r *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	if f.exec == nil {
		return nil, status.Errorf(codes.NotFound, "container %s: not there", r.ContainerId)
	}
	return f.exec, nil
}

func (f *fake) ListContainerStats(_ context.Context, r *cri.ListContainerStatsRequest) (*cri.ListContainerStatsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used += 5e8
	var all []*cri.ContainerStats
	for _, c := range f.containers {
		if pod := r.Filter.GetPodSandboxId(); pod != "" && pod != c.PodSandboxId {
			continue
		}
		s := &cri.ContainerStats{Attributes: &cri.ContainerAttributes{Id: c.Id, Metadata: c.Metadata}}
		if c.State == cri.ContainerState_CONTAINER_RUNNING {
			s.Cpu = &cri.CpuUsage{Timestamp: int64(f.used) * 2, UsageCoreNanoSeconds: &cri.UInt64Value{Value: f.used}}
			s.Memory = &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{Value: 2e6}}
		}
		all = append(all, s)
	}
	return &cri.ListContainerStatsResponse{Stats: all}, nil
}

func (f *fake) ListPodSandboxMetrics(context.Context, *cri.ListPodSandboxMetricsRequest) (*cri.ListPodSandboxMetricsResponse, error) {
	return &cri.ListPodSandboxMetricsResponse{PodMetrics: []*cri.PodSandboxMetrics{{PodSandboxId: "p1"}}}, nil
}

func (f *fake) ListMetricDescriptors(context.Context, *cri.ListMetricDescriptorsRequest) (*cri.ListMetricDescriptorsResponse, error) {
	return &cri.ListMetricDescriptorsResponse{Descriptors: []*cri.MetricDescriptor{{Name: "container_cpu"}}}, nil
}

func (f *fake) GetContainerEvents(_ *cri.GetEventsRequest, s grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	return s.Send(&cri.ContainerEventResponse{ContainerId: "c1", ContainerEventType: cri.ContainerEventType_CONTAINER_STARTED_EVENT})
}

func (f *fake) ListImages(context.Context, *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return &cri.ListImagesResponse{Images: f.images}, nil
}

func (f *fake) ImageStatus(_ context.Context, r *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	for _, i := range f.images {
		if i.Id == r.Image.Image || fmt.Sprint(i.RepoTags) == "["+r.Image.Image+"]" {
			return &cri.ImageStatusResponse{Image: i}, nil
		}
	}
	return &cri.ImageStatusResponse{}, nil
}

func (f *fake) PullImage(_ context.Context, r *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	return &cri.PullImageResponse{ImageRef: "sha256:pulled"}, nil
}

func (f *fake) RemoveImage(context.Context, *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	return &cri.RemoveImageResponse{}, nil
}

func (f *fake) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	return &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{{FsId: &cri.FilesystemIdentifier{Mountpoint: "/var/lib/x"}, UsedBytes: &cri.UInt64Value{Value: 1000}}}}, nil
}

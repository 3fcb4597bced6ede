package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/logs/driver"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/stats"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

type containersServer struct {
	api.UnsafeContainersServer
	Deps
}

// decode reads a document of a request, strictly: a field that is misspelled would be lost silently.
func decode(what string, data []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(data)))
	if what != "spec" { // clients may know newer specs than we
		d.DisallowUnknownFields()
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: not the JSON it should be: %w: %w", what, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func logOf(l *api.LogConfig) wire.Log {
	return wire.Log{Driver: l.GetDriver(), Path: l.GetPath(), MaxSize: l.GetMaxSize(), MaxFiles: int(l.GetMaxFiles())}
}

// loggingOf is the log of a new container: cri as it is given, the others as a choice of driver and options.
func loggingOf(l *api.LogConfig) (wire.Log, driver.Choice) {
	if l.GetDriver() == logs.DriverCRI {
		return logOf(l), driver.Choice{}
	}
	c := driver.Choice{Driver: l.GetDriver(), Options: maps.Clone(l.GetOptions())}
	set := func(key, value string) {
		if c.Options == nil {
			c.Options = map[string]string{}
		}
		if c.Options[key] == "" {
			c.Options[key] = value
		}
	}
	if c.Driver == "" || c.Driver == logs.DriverJSON {
		if l.GetPath() != "" {
			set("log-path", l.Path)
		}
		if l.GetMaxSize() > 0 {
			set("max-size", strconv.FormatInt(l.MaxSize, 10))
		}
		if l.GetMaxFiles() > 0 {
			set("max-file", strconv.Itoa(int(l.MaxFiles)))
		}
	}
	return wire.Log{}, c
}

func (s *containersServer) List(ctx context.Context, r *api.ListContainersRequest) (*api.ListContainersResponse, error) {
	filter, err := events.ParseFilterOf(r.Filters, "id", "name", "image", "state", "health", "runtime", "snapshotter", "labels.")
	if err != nil {
		return nil, err
	}
	list, err := s.Engine.List(ctx, namespace(r))
	if err != nil {
		return nil, err
	}
	out := &api.ListContainersResponse{}
	for _, c := range list {
		if !filter.Match(containerKey(c)) {
			continue
		}
		one := s.member(ctx, c, s.listed(c, r.Brief))
		if r.Size {
			if one.Size, err = s.written(ctx, c); err != nil && !errdefs.IsNotFound(err) { // it is being made or removed
				return nil, err
			}
		}
		out.Containers = append(out.Containers, one)
	}
	return out, nil
}

func containerKey(c engine.Container) func(string) (string, bool) {
	return func(key string) (string, bool) {
		switch key {
		case "id":
			return c.ID, true
		case "name":
			return c.Name, true
		case "image":
			return c.Image, true
		case "health":
			return healthOf(c).GetStatus(), true
		case "state":
			return string(c.State), true
		case "runtime":
			return c.Runtime, true
		case "snapshotter":
			return c.Snapshotter, true
		}
		return label(c.Labels, key)
	}
}

func label(labels map[string]string, key string) (string, bool) {
	v, ok := labels[strings.TrimPrefix(key, "labels.")]
	return v, ok
}

func (s *containersServer) Get(ctx context.Context, r *api.ContainerRequest) (*api.Container, error) {
	c, err := s.Engine.Get(ctx, namespace(r), r.Id)
	if err != nil {
		return nil, err
	}
	out := s.member(ctx, c, s.view(c))
	if r.Size {
		if out.Size, err = s.written(ctx, c); err != nil {
			return nil, err
		}
	}
	if !r.Spec {
		return out, nil
	}
	if c.Pod == "" { // else it is the CRI's
		out.Kept = c.Front
	}
	if c.Request != nil {
		if out.Request, err = json.Marshal(c.Request); err != nil {
			return nil, err
		}
	}
	if out.ImageConfig, err = json.Marshal(c.ImageConfig); err != nil {
		return nil, err
	}
	document, err := s.Engine.Spec(ctx, namespace(r), c.ID)
	if err != nil {
		return nil, err
	}
	out.Spec, err = json.Marshal(document)
	return out, err
}

// member adds what a container is in its pod.
func (s *containersServer) member(ctx context.Context, c engine.Container, out *api.Container) *api.Container {
	if c.Pod == "" {
		return out
	}
	out.Member = &api.PodMember{Name: c.InPod}
	if c.Role != "" {
		out.Member.Name = c.Role
	}
	if pod, err := s.Engine.Pod(ctx, c.Namespace, c.Pod); err == nil { // else it is being removed
		out.Member.Pod, out.Member.PodNamespace = pod.Name, pod.PodNamespace
	}
	return out
}

// CheckHealth does a container's health check now.
func (s *containersServer) CheckHealth(ctx context.Context, r *api.ContainerRequest) (*api.HealthResult, error) {
	h, err := s.Engine.CheckHealth(ctx, namespace(r), r.Id)
	if err != nil {
		return nil, err
	}
	return resultOf(h), nil
}

// written is the size of what a container has changed of its image; nil when it has none.
func (s *containersServer) written(ctx context.Context, c engine.Container) (*api.SnapshotUsage, error) {
	if c.Snapshot == "" {
		return nil, nil
	}
	sn, err := s.snapshotter(c.Snapshotter)
	if err != nil {
		return nil, err
	}
	u, err := sn.Usage(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot})
	if err != nil {
		return nil, fmt.Errorf("size of container %s: %w", c.ID, err)
	}
	return &api.SnapshotUsage{Size: u.Size, Inodes: u.Inodes}, nil
}

func (s *containersServer) SetLabels(ctx context.Context, r *api.SetContainerLabelsRequest) (*api.Container, error) {
	c, err := s.Engine.SetLabels(ctx, namespace(r), r.Id, r.Labels, r.Replace)
	if err != nil {
		return nil, err
	}
	return s.view(c), nil
}

func (s *containersServer) Delete(ctx context.Context, r *api.DeleteContainerRequest) (*api.DeleteContainerResponse, error) {
	exit, err := s.Engine.Delete(ctx, namespace(r), r.Id, engine.DeleteOptions{Force: r.Force, KeepSnapshot: r.KeepSnapshot, Volumes: r.Volumes})
	if err != nil {
		return nil, err
	}
	return &api.DeleteContainerResponse{Exit: exitOf(exit)}, nil
}

func (s *containersServer) Start(ctx context.Context, r *api.ContainerRequest) (*api.StartResponse, error) {
	return started(s.Engine.Start(ctx, namespace(r), r.Id, engine.StartOptions{}))
}

func started(p engine.Process, err error) (*api.StartResponse, error) {
	if err != nil {
		return nil, err
	}
	return &api.StartResponse{Pid: int64(p.PID), Warnings: p.Warnings}, nil
}

func (s *containersServer) Pause(ctx context.Context, r *api.ContainerRequest) (*api.ContainerActionResponse, error) {
	return &api.ContainerActionResponse{}, s.Engine.Pause(ctx, namespace(r), r.Id)
}

func (s *containersServer) Resume(ctx context.Context, r *api.ContainerRequest) (*api.ContainerActionResponse, error) {
	return &api.ContainerActionResponse{}, s.Engine.Resume(ctx, namespace(r), r.Id)
}

func (s *containersServer) Update(ctx context.Context, r *api.UpdateContainerRequest) (*api.ContainerActionResponse, error) {
	if r.Restart != nil {
		policy := engine.RestartPolicy{Name: r.Restart.Name, MaxRetries: int(r.Restart.MaxRetries)}
		if err := s.Engine.SetRestart(ctx, namespace(r), r.Id, policy); err != nil || len(r.Resources) == 0 {
			return &api.ContainerActionResponse{}, err
		}
	}
	resources := &specs.LinuxResources{}
	if err := decode("resources", r.Resources, resources); err != nil {
		return nil, err
	}
	return &api.ContainerActionResponse{}, s.Engine.Update(ctx, namespace(r), r.Id, resources)
}

func (s *containersServer) Stats(ctx context.Context, r *api.StatsRequest) (*api.StatsResponse, error) {
	all, err := s.Engine.Stats(ctx, namespace(r), r.Ids, stats.All)
	if err != nil {
		return nil, err
	}
	out := &api.StatsResponse{Stats: make([]*api.ContainerStats, 0, len(all))}
	for _, id := range sortedKeys(all) {
		data, err := json.Marshal(all[id])
		if err != nil {
			return nil, err
		}
		out.Stats = append(out.Stats, &api.ContainerStats{Id: id, Stats: data})
	}
	return out, nil
}

func (s *containersServer) Top(ctx context.Context, r *api.TopRequest) (*api.TopResponse, error) {
	if len(r.PsOptions) > 0 {
		table, err := s.Engine.TopBy(ctx, namespace(r), r.Id, r.PsOptions)
		if err != nil {
			return nil, err
		}
		out := &api.TopResponse{Titles: table.Titles}
		for _, row := range table.Rows {
			out.Rows = append(out.Rows, &api.TopRow{Cells: row})
		}
		return out, nil
	}
	list, err := s.Engine.Top(ctx, namespace(r), r.Id)
	if err != nil {
		return nil, err
	}
	out := &api.TopResponse{}
	for _, p := range list {
		out.Processes = append(out.Processes, &api.ProcessInfo{
			Pid: int64(p.PID), ContainerPid: int64(p.ContainerPID), ExecId: p.ExecID, Command: p.Command, Ppid: int64(p.PPID),
			User: p.User, StartedAt: nanos(p.StartedAt), Rss: p.RSS,
		})
	}
	return out, nil
}

func (s *containersServer) Logs(r *api.LogsRequest, stream grpc.ServerStreamingServer[api.LogEntry]) error {
	o := engine.LogOptions{Follow: r.Follow, Tail: r.Tail, Since: moment(r.Since), Until: moment(r.Until)}
	ctx, cancel := s.whileServing(stream.Context())
	defer cancel()
	err := s.Engine.Logs(ctx, namespace(r), r.Id, o, func(e logs.Entry) error {
		out := &api.LogEntry{Time: nanos(e.Time), Stream: e.Stream, Data: e.Data, Partial: e.Partial}
		if r.Details {
			out.Attributes = e.Attrs
		}
		return stream.Send(out)
	})
	return orStopping(ctx, err)
}

func (s *containersServer) ReopenLog(ctx context.Context, r *api.ContainerRequest) (*api.ContainerActionResponse, error) {
	return &api.ContainerActionResponse{}, s.Engine.ReopenLog(ctx, namespace(r), r.Id)
}

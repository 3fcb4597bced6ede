package server

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/volume"
)

func (e *fakeEngine) CreateVolume(_ context.Context, ns string, o engine.NewVolume) (engine.VolumeInfo, error) {
	e.note("create volume %s/%s", ns, o.Name)
	return engine.VolumeInfo{Path: "/v/" + o.Name, Record: volume.Record{
		Name: o.Name, Namespace: ns, Driver: "local", Labels: o.Labels, Options: o.Options, CreatedAt: time.Unix(7, 0),
	}}, nil
}

func (e *fakeEngine) ListVolumes(_ context.Context, ns string, sizes bool) ([]engine.VolumeInfo, error) {
	data := engine.VolumeInfo{Record: volume.Record{Name: "data", Namespace: ns, Driver: "local", Labels: map[string]string{"a": "b"}}, Users: []engine.VolumeUser{{ID: "c1", Name: "web"}}}
	if sizes {
		data.Usage = &snapshot.Usage{Size: 4096, Inodes: 1}
	}
	return []engine.VolumeInfo{data, {Record: volume.Record{Name: "0123", Namespace: ns, Driver: "local", MadeFor: "c2"}}}, nil
}

func (e *fakeEngine) InspectVolume(ctx context.Context, ns, name string, size bool) (engine.VolumeInfo, error) {
	e.note("inspect volume %s/%s", ns, name)
	all, err := e.ListVolumes(ctx, ns, size)
	return all[0], err
}

func (e *fakeEngine) RemoveVolume(_ context.Context, ns, name string) error {
	e.note("remove volume %s/%s", ns, name)
	return nil
}

func (e *fakeEngine) PruneVolumes(ctx context.Context, ns string, match func(engine.VolumeInfo) bool) ([]engine.VolumeInfo, error) {
	all, err := e.ListVolumes(ctx, ns, true)
	return slices.DeleteFunc(all, func(v engine.VolumeInfo) bool { return !match(v) }), err
}

func (e *fakeEngine) VolumePath(ns, name string) string { return "/v/" + ns + "/" + name }

func TestVolumes(t *testing.T) {
	c, _ := serve(t, &fakeEngine{})
	ctx := t.Context()
	made, err := c.Volumes.Create(ctx, &api.CreateVolumeRequest{Name: "new", Labels: map[string]string{"a": "b"}, Options: map[string]string{"type": "tmpfs"}})
	if err != nil || made.Namespace != "default" || made.Labels["a"] != "b" || made.Options["type"] != "tmpfs" || made.Mountpoint != "/v/new" || made.CreatedAt != 7e9 || made.Anonymous {
		t.Errorf("%v, %v", made, err)
	}
	for want, r := range map[string]*api.ListVolumesRequest{
		"[data 0123]": {}, "[data]": {Filters: []string{"labels.a==b"}}, "[0123]": {Filters: []string{"dangling==true", "anonymous==true"}}, "[]": {Filters: []string{"name==other"}},
	} {
		list, err := c.Volumes.List(ctx, r)
		if got := names(list.GetVolumes()); err != nil || got != want {
			t.Errorf("%v: %s, %v", r, got, err)
		}
	}
	if _, err := c.Volumes.List(ctx, &api.ListVolumesRequest{Filters: []string{"colour==red"}}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	one, err := c.Volumes.Inspect(ctx, &api.VolumeRequest{Namespace: "other", Name: "data", Size: true})
	if err != nil || one.Namespace != "other" || one.Usage.GetSize() != 4096 || len(one.Containers) != 1 || one.Containers[0].Name != "web" {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := c.Volumes.Remove(ctx, &api.VolumeRequest{Name: "data"}); err != nil {
		t.Error(err)
	}
	for want, r := range map[string]*api.PruneVolumesRequest{"[0123]": {}, "[data 0123]": {All: true}, "[data]": {All: true, Names: []string{"data"}}, "[]": {Names: []string{"data"}}} {
		pruned, err := c.Volumes.Prune(ctx, r)
		if got := names(pruned.GetRemoved()); err != nil || got != want {
			t.Errorf("%v: %s, %v", r, got, err)
		}
	}
}

func names(list []*api.Volume) string {
	all := "["
	for i, v := range list {
		if i > 0 {
			all += " "
		}
		all += v.Name
	}
	return all + "]"
}

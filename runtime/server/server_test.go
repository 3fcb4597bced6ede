package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/events"
)

func TestContainers(t *testing.T) {
	e := newFakeEngine(cat)
	c, _ := serve(t, e)
	made, err := c.Containers.Create(t.Context(), &api.CreateContainerRequest{
		Image: "i", Request: []byte(`{"args":["a"]}`), Log: &api.LogConfig{Driver: "cri", MaxSize: 9}, StdinOnce: true,
	})
	if err != nil || made.Bundle != "/bundles/abcdef" {
		t.Fatalf("made %v, %v", made, err)
	}
	if o := e.created; o.Image != "i" || o.Request.Args[0] != "a" || o.Log.Driver != "cri" || o.Log.MaxSize != 9 || !o.StdinOnce || o.Spec != nil {
		t.Errorf("options %+v", o)
	}
	if _, err := c.Containers.Create(t.Context(), &api.CreateContainerRequest{Request: []byte(`{"argz":[]}`)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("misspelled request: %v", err)
	}
	for filter, want := range map[string]int{"": 2, "id==abcdef": 1, "state==exited": 1, "labels.a==b": 1, "labels.a": 1, "id~=.": 2} {
		r := &api.ListContainersRequest{}
		if filter != "" {
			r.Filters = []string{filter}
		}
		list, err := c.Containers.List(t.Context(), r)
		if err != nil || len(list.Containers) != want {
			t.Errorf("filter %q: %d containers, %v; want %d", filter, len(list.GetContainers()), err, want)
		}
	}
	if _, err := c.Containers.List(t.Context(), &api.ListContainersRequest{Filters: []string{"nmae==x"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a filter with an unknown key: %v", err)
	}
	if _, err := c.Containers.Get(t.Context(), &api.ContainerRequest{Namespace: "other", Id: "abc"}); !errdefs.IsNotFound(err) {
		t.Errorf("another namespace: %v", err)
	}
}

func TestContent(t *testing.T) {
	c, _ := serve(t, newFakeEngine(cat))
	data := bytes.Repeat([]byte("mini"), 200_000)
	want := digest.FromBytes(data)

	// A write that is cut off is resumed where it ended.
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := c.Content.Write(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&api.WriteContentRequest{Ref: "r", Data: data[:1000]}); err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.Offset != 0 {
		t.Fatalf("answer %v, %v", m, err)
	}
	stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("end: %v", err)
	}
	cancel()
	active, err := c.Content.Active(t.Context(), &api.ActiveRequest{})
	if err != nil || len(active.Ingests) != 1 || active.Ingests[0].Offset != 1000 {
		t.Fatalf("ingests %v, %v", active, err)
	}
	got, err := c.WriteBlob(t.Context(), &api.WriteContentRequest{Ref: "r", Total: int64(len(data)), Expected: want.String(), Labels: map[string]string{"k": "v"}}, bytes.NewReader(data))
	if err != nil || got != want.String() {
		t.Fatalf("digest %s, %v", got, err)
	}

	info, err := c.Content.Info(t.Context(), &api.ContentInfoRequest{Digest: got})
	if err != nil || info.Size != int64(len(data)) || info.Labels["k"] != "v" {
		t.Errorf("info %v, %v", info, err)
	}
	var back bytes.Buffer
	if err := c.ReadBlob(t.Context(), &api.ReadContentRequest{Digest: got}, &back); err != nil || !bytes.Equal(back.Bytes(), data) {
		t.Errorf("read %d bytes, %v", back.Len(), err)
	}
	back.Reset()
	if err := c.ReadBlob(t.Context(), &api.ReadContentRequest{Digest: got, Offset: 3, Size: 4}, &back); err != nil || back.String() != "imin" {
		t.Errorf("a part: %q, %v", back.String(), err)
	}
	if err := c.ReadBlob(t.Context(), &api.ReadContentRequest{Digest: got, Offset: 1 << 30}, &back); !errdefs.IsOutOfRange(err) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := c.WriteBlob(t.Context(), &api.WriteContentRequest{Ref: "bad", Expected: digest.FromString("other").String()}, strings.NewReader("x")); !errdefs.IsDataLoss(err) {
		t.Errorf("wrong bytes: %v", err)
	}
	if _, err := c.Content.Info(t.Context(), &api.ContentInfoRequest{Digest: "sha256:x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no digest: %v", err)
	}
	if _, err := c.Content.Delete(t.Context(), &api.DeleteContentRequest{Digest: got}); err != nil {
		t.Error(err)
	}
	if _, err := c.Content.Info(t.Context(), &api.ContentInfoRequest{Digest: got}); !errdefs.IsNotFound(err) {
		t.Errorf("deleted: %v", err)
	}
}

func TestSnapshotsAndLeases(t *testing.T) {
	e := newFakeEngine(cat)
	e.container.Snapshotter, e.container.Snapshot = "native", "used"
	c, _ := serve(t, e)
	ctx := t.Context()
	if _, err := c.Snapshots.Remove(ctx, &api.SnapshotRequest{Snapshotter: "native", Name: "used"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a container's root filesystem: %v", err)
	}
	m, err := c.Snapshots.Prepare(ctx, &api.PrepareSnapshotRequest{Name: "a", Labels: map[string]string{"l": "1"}})
	if err != nil || len(m.Mounts) == 0 {
		t.Fatalf("mounts %v, %v", m, err)
	}
	if _, err := c.Snapshots.Prepare(ctx, &api.PrepareSnapshotRequest{Name: "a"}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	s, err := c.Snapshots.Commit(ctx, &api.CommitSnapshotRequest{Active: "a", Name: "layer"})
	if err != nil || s.Kind != "committed" {
		t.Errorf("committed %v, %v", s, err)
	}
	list, err := c.Snapshots.List(ctx, &api.ListSnapshotsRequest{Filters: []string{"kind==committed"}})
	if err != nil || len(list.Snapshots) != 1 {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := c.Snapshots.Info(ctx, &api.SnapshotRequest{Snapshotter: "none", Name: "layer"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no such snapshotter: %v", err)
	}
	lease, err := c.Leases.Create(ctx, &api.CreateLeaseRequest{Id: "l", ExpireAfter: int64(time.Hour)})
	if err != nil || lease.ExpiresAt <= lease.CreatedAt {
		t.Errorf("lease %v, %v", lease, err)
	}
	lease, err = c.Leases.AddResource(ctx, &api.LeaseResourceRequest{Id: "l", Resource: &api.LeaseResource{Type: "content", Id: "sha256:1"}})
	if err != nil || len(lease.Resources) != 1 {
		t.Errorf("lease %v, %v", lease, err)
	}
	if _, err := c.Leases.Delete(ctx, &api.DeleteLeaseRequest{Id: "l", Sync: true}); err != nil {
		t.Error(err)
	}
	if _, err := c.Leases.Delete(ctx, &api.DeleteLeaseRequest{Id: "l"}); !errdefs.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestNamespacesAndEvents(t *testing.T) {
	c, d := serve(t, newFakeEngine(cat))
	ctx := t.Context()
	got := make(chan *api.Event, 8)
	stop := errors.New("enough")
	done := make(chan error, 1)
	since := time.Now().UnixNano()
	if _, err := c.Namespaces.Create(ctx, &api.CreateNamespaceRequest{Name: "n", Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- c.Events(ctx, &api.SubscribeRequest{Filters: []string{"type==namespace"}, Since: since}, func(e *api.Event) error {
			got <- e
			if e.Action == "delete" {
				return stop
			}
			return nil
		})
	}()
	if e := <-got; e.Action != "create" || e.Id != "n" {
		t.Errorf("event %v", e)
	}
	d.Events.Publish(events.Event{Type: "image", Action: "pull"})
	if n, err := c.Namespaces.SetLabels(ctx, &api.SetNamespaceLabelsRequest{Name: "n", Labels: map[string]string{"a": ""}}); err != nil || len(n.Labels) != 0 {
		t.Errorf("labels %v, %v", n, err)
	}
	if _, err := c.Namespaces.Delete(ctx, &api.DeleteNamespaceRequest{Name: "n"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("events ended with %v", err)
	}
	if e := <-got; e.Action != "update" {
		t.Errorf("event %v", e)
	}
	if err := c.Events(ctx, &api.SubscribeRequest{Filters: []string{"x==y"}}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad filter: %v", err)
	}
}

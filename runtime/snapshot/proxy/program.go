package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc/metadata"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
)

// Labels of the program's snapshots. Those that containerd's metadata lets through to a snapshotter begin with
// containerd.io/snapshot.
const (
	targetLabel    = "containerd.io/snapshot.ref" // the layer that a Prepare is for
	ownerLabel     = "containerd.io/snapshot/minid.owner"
	numberLabel    = "containerd.io/snapshot/minid.number"
	inheritedLabel = "containerd.io/snapshot"
)

// program is the backing: the snapshotter of somebody else. Its snapshots are called
//
//	minid/OWNER/N/active   what Prepare and View have made
//	minid/OWNER/N/layer    what Commit has made of it
//	CHAIN-ID               a layer that it has by itself
type program struct {
	api           snapshots.SnapshotsClient
	name, address string
	owner         string
}

func (r program) String() string { return r.name + " at " + r.address }

func (r program) prefix() string { return "minid/" + r.owner + "/" }

func (r program) of(n uint64, kind string) string {
	return r.prefix() + strconv.FormatUint(n, 10) + "/" + kind
}

func (r program) active(s snapshot.Record) string { return r.of(s.Dir, "active") }

// layer is the name that a committed snapshot has.
func (r program) layer(s snapshot.Record) string {
	if s.Backend != "" {
		return s.Backend
	}
	return r.of(s.Dir, "layer")
}

func (r program) key(s snapshot.Record) string {
	if s.Kind == snapshot.Committed {
		return r.layer(s)
	}
	return r.active(s)
}

func (r program) parent(chain []snapshot.Record) string {
	if len(chain) == 0 {
		return ""
	}
	return r.layer(chain[0])
}

// labels are those of a new snapshot of the program's: whose it is, and those of ours that are for it.
func (r program) labels(s snapshot.Record, more map[string]string) map[string]string {
	out := map[string]string{ownerLabel: r.owner, numberLabel: strconv.FormatUint(s.Dir, 10)}
	for k, v := range more {
		if strings.HasPrefix(k, inheritedLabel) {
			out[k] = v
		}
	}
	return out
}

// outgoing adds the namespace, which containerd's services want. It is always the same: the names are unique.
func outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "minid")
}

// explain gives an answer its class; of a program that does not answer it says what to do.
func (r program) explain(err error) error {
	err = grpcx.Error(err)
	if errdefs.IsUnavailable(err) {
		return fmt.Errorf("snapshotter %s does not answer at %s: start it: %w", r.name, r.address, err)
	}
	return err
}

// lost turns the program's ErrNotFound of what has a record into ErrDataLoss.
func lost(err error) error {
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("its snapshotter has lost it: %s: %w", err, errdefs.ErrDataLoss)
	}
	return err
}

func (r program) stat(ctx context.Context, key string) (*snapshots.Info, error) {
	a, err := r.api.Stat(outgoing(ctx), &snapshots.StatSnapshotRequest{Key: key})
	if err != nil {
		return nil, r.explain(err)
	}
	return a.Info, nil
}

func (r program) mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	a, err := r.api.Mounts(outgoing(ctx), &snapshots.MountsRequest{Key: key})
	if err != nil {
		return nil, r.explain(err)
	}
	return mountsOf(a.Mounts), nil
}

// drop removes one of the program's snapshots; that there is none is no error.
func (r program) drop(ctx context.Context, key string) error {
	_, err := r.api.Remove(outgoing(ctx), &snapshots.RemoveSnapshotRequest{Key: key})
	if err = r.explain(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// List implements snapshot.Backing.
func (r program) List(ctx context.Context) ([]snapshot.Held, error) {
	stream, err := r.api.List(outgoing(ctx), &snapshots.ListSnapshotsRequest{
		Filters: []string{fmt.Sprintf("labels.%q==%q", ownerLabel, r.owner)},
	})
	if err != nil {
		return nil, r.explain(err)
	}
	var all []snapshot.Held
	for {
		some, err := stream.Recv()
		if err = r.explain(err); errors.Is(err, io.EOF) || errdefs.IsNotFound(err) { // so stargz calls a store that is empty
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		for _, info := range some.Info {
			if info.Labels[ownerLabel] == r.owner { // not every program obeys filters
				all = append(all, r.held(info))
			}
		}
	}
}

func (r program) held(info *snapshots.Info) snapshot.Held {
	n, _ := strconv.ParseUint(info.Labels[numberLabel], 10, 64)
	h := snapshot.Held{Dir: n, Place: info.Name, Whole: true}
	if info.Name != r.of(n, "active") && info.Name != r.of(n, "layer") {
		h.Backend = info.Name
	}
	return h
}

// Make implements snapshot.Backing.
func (r program) Make(_ context.Context, _ snapshot.Record, do func(at string) error) error {
	return do("")
}

// Doom implements snapshot.Backing: what is half removed is removed again.
func (r program) Doom(context.Context, snapshot.Record) error { return nil }

// Delete implements snapshot.Backing. A layer that the program has made for somebody else is left.
func (r program) Delete(ctx context.Context, s snapshot.Record) error {
	if s.Backend == "" {
		if err := r.drop(ctx, r.active(s)); err != nil {
			return err
		}
		return r.drop(ctx, r.layer(s))
	}
	info, err := r.stat(ctx, s.Backend)
	if errdefs.IsNotFound(err) || err == nil && info.Labels[ownerLabel] != r.owner {
		return nil
	}
	if err != nil {
		return err
	}
	return r.drop(ctx, s.Backend)
}

// Discard implements snapshot.Backing.
func (r program) Discard(ctx context.Context, h snapshot.Held) error { return r.drop(ctx, h.Place) }

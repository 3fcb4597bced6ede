package image

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/snapshot"
)

// Problem is something wrong with content, images or snapshots.
type Problem struct {
	Kind     string // content, image, snapshot
	Object   string
	Problem  string
	Remedy   string
	Repaired bool
}

// Problems looks for blobs whose bytes are not what their digest says (unless quick), for images that are not whole, and
// for snapshots without directories or directories without snapshots. With repair, wrong blobs and what is left over are
// deleted; an image that has lost a blob by that needs to be pulled again.
func (s *Service) Problems(ctx context.Context, repair, quick bool) ([]Problem, error) {
	var all []Problem
	var errs []error
	if !quick {
		found, err := s.contentProblems(ctx, repair)
		all, errs = append(all, found...), append(errs, err)
	}
	for _, part := range []func(context.Context, bool) ([]Problem, error){s.imageProblems, s.snapshotProblems} {
		found, err := part(ctx, repair)
		all, errs = append(all, found...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// Count is how many blobs there are.
func (s *Service) Count(ctx context.Context) (int, error) {
	n := 0
	err := s.Content.List(ctx, func(content.Info) error { n++; return nil })
	return n, err
}

func (s *Service) contentProblems(ctx context.Context, repair bool) ([]Problem, error) {
	var digests []digest.Digest
	if err := s.Content.List(ctx, func(i content.Info) error { digests = append(digests, i.Digest); return nil }); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var problems []Problem
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.config.MaxUnpacks)
	for _, d := range digests {
		g.Go(func() error {
			err := s.Content.Verify(gctx, d)
			if err == nil || errdefs.IsNotFound(err) {
				return nil
			}
			if gctx.Err() != nil {
				return gctx.Err()
			}
			p := Problem{Kind: "content", Object: d.String(), Problem: err.Error(), Remedy: "delete the blob and pull the image again"}
			if repair && errdefs.IsDataLoss(err) {
				if p.Repaired, err = s.pins.sweep(contentPin(d.String()), func() error { return s.Content.Delete(gctx, d) }); err != nil {
					p.Problem += "; it was not deleted: " + err.Error()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, p)
			return nil
		})
	}
	err := g.Wait()
	return problems, err
}

func (s *Service) imageProblems(ctx context.Context, _ bool) ([]Problem, error) {
	entries, err := s.Images.List("")
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, e := range entries {
		st := s.status(ctx, e.Namespace, e.Value, s.Snapshotters[s.Default])
		if st.Status == Complete || st.Status == Incomplete && s.unpackedAnywhere(ctx, e.Namespace, e.Value) {
			continue // its layers were discarded on purpose, or are fetched as they are read
		}
		problems = append(problems, Problem{Kind: "image", Object: e.Namespace + "/" + e.Key,
			Problem: fmt.Sprintf("%s: %d of %d blobs are there: %s", st.Status, st.Present, st.Required, st.Problem),
			Remedy:  "pull it again, or delete it"})
	}
	return problems, nil
}

func (s *Service) unpackedAnywhere(ctx context.Context, ns string, img Image) bool {
	r, err := s.resolve(ctx, ns, img, "")
	if err != nil {
		return false
	}
	for _, sn := range s.Snapshotters {
		if s.isUnpacked(ctx, sn, ns, r.ChainID) {
			return true
		}
	}
	return false
}

func (s *Service) snapshotProblems(ctx context.Context, repair bool) ([]Problem, error) {
	var problems []Problem
	var errs []error
	for n, sn := range s.Snapshotters {
		infos, err := sn.List(ctx, "")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, i := range infos {
			k := snapshot.Key{Namespace: i.Namespace, Name: i.Name}
			_, err := sn.Usage(ctx, k)
			if errdefs.IsUnavailable(err) {
				problems = append(problems, Problem{Kind: "snapshot", Object: n, Problem: err.Error(), Remedy: "start it"})
				break
			}
			if errdefs.IsDataLoss(err) {
				problems = append(problems, Problem{Kind: "snapshot", Object: n + "/" + k.String(), Problem: err.Error(),
					Remedy: "remove the containers on it, and unpack the image again"})
			}
		}
		if !repair {
			continue
		}
		freed, err := sn.Cleanup(ctx)
		if !errdefs.IsUnavailable(err) {
			errs = append(errs, err)
		}
		if freed > 0 {
			problems = append(problems, Problem{Kind: "snapshot", Object: n, Problem: fmt.Sprintf("%d directories or records were left over", freed),
				Remedy: "remove them", Repaired: err == nil})
		}
	}
	return problems, errors.Join(errs...)
}

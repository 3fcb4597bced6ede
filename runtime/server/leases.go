package server

import (
	"context"
	"time"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/store"
)

type leasesServer struct {
	api.UnsafeLeasesServer
	Deps
}

func (s *leasesServer) Create(_ context.Context, r *api.CreateLeaseRequest) (*api.Lease, error) {
	ns := namespace(r)
	if err := s.Namespaces.Ensure(ns); err != nil {
		return nil, err
	}
	l, err := s.Leases.Create(ns, r.Id, r.Labels, time.Duration(r.ExpireAfter))
	if err != nil {
		return nil, err
	}
	s.Events.Publish(events.Event{Namespace: ns, Type: "lease", Action: "create", ID: l.ID})
	return leaseOf(l), nil
}

func (s *leasesServer) List(_ context.Context, r *api.ListLeasesRequest) (*api.ListLeasesResponse, error) {
	filter, err := events.ParseFilterOf(r.Filters, "id", "labels.")
	if err != nil {
		return nil, err
	}
	list, err := s.Leases.List(namespace(r))
	if err != nil {
		return nil, err
	}
	out := &api.ListLeasesResponse{}
	for _, l := range list {
		match := filter.Match(func(key string) (string, bool) {
			if key == "id" {
				return l.ID, true
			}
			return label(l.Labels, key)
		})
		if match {
			out.Leases = append(out.Leases, leaseOf(l))
		}
	}
	return out, nil
}

func (s *leasesServer) Delete(ctx context.Context, r *api.DeleteLeaseRequest) (*api.DeleteLeaseResponse, error) {
	ns := namespace(r)
	if _, err := s.Leases.Get(ns, r.Id); err != nil {
		return nil, err
	}
	if err := s.Leases.Delete(ns, r.Id); err != nil {
		return nil, err
	}
	s.Events.Publish(events.Event{Namespace: ns, Type: "lease", Action: "delete", ID: r.Id})
	if r.Sync {
		if _, err := s.Engine.CollectGarbage(ctx, false); err != nil {
			return nil, err
		}
	}
	return &api.DeleteLeaseResponse{}, nil
}

func (s *leasesServer) AddResource(_ context.Context, r *api.LeaseResourceRequest) (*api.Lease, error) {
	l, err := s.Leases.Add(namespace(r), r.Id, store.Resource{Type: r.GetResource().GetType(), ID: r.GetResource().GetId()})
	if err != nil {
		return nil, err
	}
	return leaseOf(l), nil
}

func leaseOf(l store.Lease) *api.Lease {
	out := &api.Lease{Id: l.ID, Labels: l.Labels, CreatedAt: nanos(l.CreatedAt), ExpiresAt: nanos(l.ExpiresAt)}
	for _, r := range l.Resources {
		out.Resources = append(out.Resources, &api.LeaseResource{Type: r.Type, Id: r.ID})
	}
	return out
}

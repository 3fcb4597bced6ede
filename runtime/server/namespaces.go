package server

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/store"
)

type namespacesServer struct {
	api.UnsafeNamespacesServer
	Deps
}

func (s *namespacesServer) Create(_ context.Context, r *api.CreateNamespaceRequest) (*api.Namespace, error) {
	return s.changed("create")(s.Namespaces.Create(r.Name, r.Labels))
}

func (s *namespacesServer) List(context.Context, *api.ListNamespacesRequest) (*api.ListNamespacesResponse, error) {
	list, err := s.Namespaces.List()
	if err != nil {
		return nil, err
	}
	out := &api.ListNamespacesResponse{}
	for _, n := range list {
		out.Namespaces = append(out.Namespaces, namespaceOf(n))
	}
	return out, nil
}

// Delete refuses a namespace that is not empty. What is only garbage in it, such as the layers of images that were
// removed, is collected first.
func (s *namespacesServer) Delete(ctx context.Context, r *api.DeleteNamespaceRequest) (*api.DeleteNamespaceResponse, error) {
	err := s.Namespaces.Delete(r.Name)
	if errdefs.IsFailedPrecondition(err) {
		if _, err := s.Engine.CollectGarbage(ctx, false); err != nil {
			return nil, err
		}
		err = s.Namespaces.Delete(r.Name)
	}
	if err != nil {
		return nil, err
	}
	s.Events.Publish(events.Event{Namespace: r.Name, Type: "namespace", Action: "delete", ID: r.Name})
	return &api.DeleteNamespaceResponse{}, nil
}

func (s *namespacesServer) SetLabels(_ context.Context, r *api.SetNamespaceLabelsRequest) (*api.Namespace, error) {
	return s.changed("update")(s.Namespaces.SetLabels(r.Name, r.Labels, r.Replace))
}

// changed publishes a change of a namespace and translates its record.
func (s *namespacesServer) changed(action string) func(store.Namespace, error) (*api.Namespace, error) {
	return func(n store.Namespace, err error) (*api.Namespace, error) {
		if err != nil {
			return nil, err
		}
		s.Events.Publish(events.Event{Namespace: n.Name, Type: "namespace", Action: action, ID: n.Name})
		return namespaceOf(n), nil
	}
}

func namespaceOf(n store.Namespace) *api.Namespace {
	return &api.Namespace{Name: n.Name, Labels: n.Labels, CreatedAt: nanos(n.CreatedAt)}
}

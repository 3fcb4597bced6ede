package engine

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// The networks of users, as far as the engine sees of them: what is attached is remembered by container and network.

func (n *pods) NewBareNamespace(ctx context.Context, path string) error {
	return n.NewNamespace(ctx, path)
}

func (n *pods) PlanNetwork(ctx context.Context, wanted network.Record, others []network.Record) (network.Record, error) {
	if len(wanted.Subnets) == 0 {
		wanted.Subnets = []network.Subnet{{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(18 + len(others))}), 16)}}
	}
	return wanted, n.enter(ctx, "PlanNetwork")
}

func (n *pods) MakeNetwork(ctx context.Context, r network.Record) error {
	if err := n.enter(ctx, "MakeNetwork"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made[r.ID] = true
	return nil
}

func (n *pods) RemoveNetwork(ctx context.Context, r network.Record) error {
	if err := n.enter(ctx, "RemoveNetwork"); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.made, r.ID)
	return nil
}

func (n *pods) DefaultNetwork(context.Context) (network.Record, error) {
	return network.Record{ID: network.PredefinedID(network.Default), Name: network.Default, Driver: network.DriverBridge, State: network.NetworkReady}, nil
}

func (n *pods) AttachTo(ctx context.Context, to network.Record, r network.Request) (network.Attachment, error) {
	if err := n.enter(ctx, "AttachTo"); err != nil {
		return network.Attachment{}, err
	}
	if r.NetNS == "" {
		return network.Attachment{}, fmt.Errorf("container %s has no network namespace: %w", r.ID, errdefs.ErrInvalidArgument)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ip := netip.AddrFrom4([4]byte{10, 0, 1, byte(len(n.attached) + 2)})
	a := network.Attachment{
		ID: r.ID, Provider: network.ProviderBuiltin, Network: to.ID, IPs: []netip.Addr{ip}, Ports: r.Ports, Names: append([]string{r.Name}, r.Aliases...),
		Links: []network.Link{{Network: to.Name, Interface: r.Interface, Addresses: []netip.Prefix{netip.PrefixFrom(ip, 24)}}},
	}
	n.attached[inNetwork(r.ID, to.ID)] = a
	return a, nil
}

func (n *pods) DetachFrom(ctx context.Context, r network.Request, a network.Attachment) ([]network.Attachment, error) {
	return nil, n.Detach(ctx, r, &a)
}

func (n *pods) SetNames(ctx context.Context, _ network.Attachment) error {
	return n.enter(ctx, "SetNames")
}

// inNetwork names an attachment; of the default network, as that of a pod.
func inNetwork(id, of string) string {
	if of == "" || of == network.PredefinedID(network.Default) {
		return id
	}
	return id + " " + of
}

// Command stargz is upstream's lazy-pulling snapshotter, made of its library as its own program is, and what makes layers
// for it. It is a tool of the scenario tests, in a module of its own.
//
//	stargz serve ROOT SOCKET    serve containerd's snapshots service; nothing is fetched before it is read
//	stargz build TAR BLOB       make an eStargz layer of a tar; prints its diff ID and the digest of its table of contents
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/service"
	"google.golang.org/grpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stargz:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want serve ROOT SOCKET or build TAR BLOB")
	}
	switch args[0] {
	case "serve":
		return serve(args[1], args[2])
	case "build":
		return build(args[1], args[2])
	}
	return fmt.Errorf("no command %q", args[0])
}

func serve(root, socket string) error {
	c := &service.Config{Config: config.Config{NoBackgroundFetch: true, NoPrefetch: true, NoPrometheus: true}}
	s, err := service.NewStargzSnapshotterService(context.Background(), root, c)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	g := grpc.NewServer()
	snapshots.RegisterSnapshotsServer(g, snapshotservice.FromSnapshotter(s))
	return g.Serve(l)
}

func build(from, to string) error {
	tar, err := os.Open(from)
	if err != nil {
		return err
	}
	defer tar.Close()
	info, err := tar.Stat()
	if err != nil {
		return err
	}
	blob, err := estargz.Build(io.NewSectionReader(tar, 0, info.Size()))
	if err != nil {
		return err
	}
	defer blob.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, blob); err != nil {
		return err
	}
	fmt.Println(blob.DiffID(), blob.TOCDigest())
	return out.Close()
}

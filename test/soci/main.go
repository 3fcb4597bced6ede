// Command soci is upstream's SOCI snapshotter, made of its library as its own program is, and what makes indexes for it. It
// is a tool of the scenario tests, in a module of its own.
//
//	soci serve ROOT SOCKET            serve containerd's snapshots service; nothing is fetched before it is read
//	soci index LAYOUT MANIFEST DIR    make the index of an image of an OCI layout; its blobs are in DIR/content/blobs
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/awslabs/soci-snapshotter/config"
	"github.com/awslabs/soci-snapshotter/fs"
	"github.com/awslabs/soci-snapshotter/metadata"
	"github.com/awslabs/soci-snapshotter/service"
	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/awslabs/soci-snapshotter/soci/store"
	"github.com/awslabs/soci-snapshotter/ztoc"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soci:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(ctx, args[1], args[2])
	case len(args) == 4 && args[0] == "index":
		return index(ctx, args[1], digest.Digest(args[2]), args[3])
	}
	return fmt.Errorf("want serve ROOT SOCKET or index LAYOUT MANIFEST DIR")
}

func serve(ctx context.Context, root, socket string) error {
	c := config.NewConfig()
	c.NoPrometheus = true
	c.BackgroundFetchConfig.Disable = true
	c.ContentStoreConfig.Type = config.SociContentStoreType
	c.PullModes.SOCIv1.Enable = true
	c.MinLayerSize = 0
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(root, "metadata.db"), 0o600, nil)
	if err != nil {
		return err
	}
	files := func(layer *io.SectionReader, toc ztoc.TOC, opts ...metadata.Option) (metadata.Reader, error) {
		return metadata.NewReader(db, layer, toc, opts...)
	}
	s, err := service.NewSociSnapshotterService(ctx, root, &c.ServiceConfig, service.WithFilesystemOptions(fs.WithMetadataStore(files)))
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

func index(ctx context.Context, layout string, manifest digest.Digest, dir string) error {
	from, err := local.NewStore(layout)
	if err != nil {
		return err
	}
	info, err := from.Info(ctx, manifest)
	if err != nil {
		return err
	}
	to, err := store.NewContentStore(store.WithType(store.SociContentStoreType), store.WithSnapshotterRoot(dir))
	if err != nil {
		return err
	}
	db, err := soci.NewDB(dir + "/artifacts.db")
	if err != nil {
		return err
	}
	b, err := soci.NewIndexBuilder(from, to, soci.WithMinLayerSize(0), soci.WithSpanSize(64<<10), soci.WithArtifactsDb(db))
	if err != nil {
		return err
	}
	i, err := b.Build(ctx, images.Image{Name: "it", Target: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: manifest, Size: info.Size}})
	if err != nil {
		return err
	}
	fmt.Println(i.Desc.Digest)
	return nil
}

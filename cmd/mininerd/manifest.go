package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/manifests"
	"github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
)

func manifestCommand() *cli.Command {
	return &cli.Command{
		Name: "manifest", Usage: "put images of several platforms together under one name of a registry",
		Subcommands: []*cli.Command{
			manifestCreateCommand(), manifestAnnotateCommand(), manifestInspectCommand(), manifestPushCommand(), manifestRemoveCommand(),
		},
	}
}

func insecureFlag() cli.Flag {
	return &cli.BoolFlag{Name: "insecure", Usage: "talk to the registry without TLS, or without verifying it"}
}

// lists are this user's.
func lists() manifests.Store { return manifests.Store{Dir: manifests.Dir(os.Getenv)} }

func manifestCreateCommand() *cli.Command {
	const usage = "MANIFEST_LIST MANIFEST [MANIFEST...]"
	return &cli.Command{
		Name: "create", Usage: "begin a list, on this machine, of images that registries have", ArgsUsage: usage,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "amend", Aliases: []string{"a"}, Usage: "add to a list that is there"}, insecureFlag()},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, -1, usage); err != nil {
				return err
			}
			ref, err := name.Parse(c.Args().First())
			if err != nil {
				return err
			}
			l, err := lists().Load(ref)
			switch {
			case errdefs.IsNotFound(err):
				l = &manifests.List{Name: ref.String()}
			case err != nil:
				return err
			case !c.Bool("amend"):
				return fmt.Errorf("refusing to amend an existing manifest list with no --amend flag: %w", errdefs.ErrAlreadyExists)
			}
			client := registryClient(c)
			defer client.Close()
			for _, text := range c.Args().Tail() {
				items, err := remoteItems(c.Context, client, text)
				if err != nil {
					return err
				}
				if len(items) != 1 {
					return fmt.Errorf("%s is a manifest list: name the images of single platforms: %w", text, errdefs.ErrInvalidArgument)
				}
				l.Add(items[0])
			}
			if err := lists().Save(ref, l); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, "Created manifest list", ref)
			return nil
		},
	}
}

// remoteItems are the images that a reference leads to in its registry: one, or those of an index.
func remoteItems(ctx context.Context, client *registry.Client, text string) ([]manifests.Item, error) {
	ref, err := name.Parse(text)
	if err != nil {
		return nil, err
	}
	desc, err := client.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	read := func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		return readRemote(ctx, client, ref, d)
	}
	data, err := read(ctx, desc)
	if err != nil {
		return nil, err
	}
	if image.KindOf(desc.MediaType) != image.KindIndex {
		if desc.Platform, err = image.PlatformOf(ctx, read, desc); err != nil {
			return nil, err
		}
		return []manifests.Item{{Ref: ref.String(), Descriptor: desc, Manifest: data}}, nil
	}
	index, err := image.ParseIndex(desc.MediaType, data)
	if err != nil {
		return nil, err
	}
	var items []manifests.Item
	for _, d := range index.Manifests {
		one := ref.TrimVersion().WithDigest(d.Digest)
		if data, err = read(ctx, d); err != nil {
			return nil, err
		}
		items = append(items, manifests.Item{Ref: one.String(), Descriptor: d, Manifest: data})
	}
	return items, nil
}

// maxConfig bounds a configuration that is read for its platform, in bytes.
const maxConfig = 8 << 20

func readRemote(ctx context.Context, client *registry.Client, ref name.Ref, d ocispec.Descriptor) ([]byte, error) {
	if k := image.KindOf(d.MediaType); k == image.KindManifest || k == image.KindIndex {
		return client.Manifest(ctx, ref, d)
	}
	blob, err := client.Fetch(ctx, ref, d, 0)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	data, err := io.ReadAll(io.LimitReader(blob, maxConfig))
	if err == nil && d.Digest.Algorithm().FromBytes(data) != d.Digest {
		err = fmt.Errorf("configuration %s of %s: its bytes have another digest: %w", d.Digest, ref, errdefs.ErrDataLoss)
	}
	return data, err
}

func manifestAnnotateCommand() *cli.Command {
	const usage = "MANIFEST_LIST MANIFEST"
	return &cli.Command{
		Name: "annotate", Usage: "say what platform an image of a list is for", ArgsUsage: usage,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "arch", Usage: "`ARCHITECTURE`, for example arm64"}, &cli.StringFlag{Name: "os", Usage: "operating `SYSTEM`"},
			&cli.StringFlag{Name: "os-version", Usage: "`VERSION` of the operating system"}, &cli.StringFlag{Name: "variant", Usage: "`VARIANT` of the architecture, for example v7"},
			&cli.StringSliceFlag{Name: "os-features", Usage: "`FEATURE` of the operating system that is needed"},
		},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, 2, usage); err != nil {
				return err
			}
			ref, err := name.Parse(c.Args().First())
			if err != nil {
				return err
			}
			of, err := name.Parse(c.Args().Get(1))
			if err != nil {
				return err
			}
			l, err := lists().Load(ref)
			if err != nil {
				return err
			}
			item, err := l.Find(of.String())
			if err != nil {
				return err
			}
			p := ocispec.Platform{}
			if item.Descriptor.Platform != nil {
				p = *item.Descriptor.Platform
			}
			for flag, to := range map[string]*string{"arch": &p.Architecture, "os": &p.OS, "os-version": &p.OSVersion, "variant": &p.Variant} {
				if c.IsSet(flag) {
					*to = c.String(flag)
				}
			}
			if c.IsSet("os-features") {
				p.OSFeatures = c.StringSlice("os-features")
			}
			item.Descriptor.Platform = &p
			return lists().Save(ref, l)
		},
	}
}

func manifestInspectCommand() *cli.Command {
	const usage = "[MANIFEST_LIST] MANIFEST"
	return &cli.Command{
		Name: "inspect", Usage: "print a list of this machine, or what a registry has under a name", ArgsUsage: usage,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "with the platforms and layers of each image"}, insecureFlag()},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 2, usage); err != nil {
				return err
			}
			ref, err := name.Parse(c.Args().First())
			if err != nil {
				return err
			}
			l, err := lists().Load(ref)
			if err != nil && (!errdefs.IsNotFound(err) || c.NArg() == 2) {
				return err
			}
			if c.NArg() == 2 {
				of, err := name.Parse(c.Args().Get(1))
				if err != nil {
					return err
				}
				item, err := l.Find(of.String())
				if err != nil {
					return err
				}
				return printItems(c, []manifests.Item{*item}, item.Manifest, false)
			}
			if l != nil {
				_, data, err := l.Document()
				if err != nil {
					return err
				}
				return printItems(c, l.Items, data, true)
			}
			return inspectRemote(c, ref)
		},
	}
}

func inspectRemote(c *cli.Context, ref name.Ref) error {
	client := registryClient(c)
	defer client.Close()
	if c.Bool("verbose") {
		items, err := remoteItems(c.Context, client, ref.String())
		if err != nil {
			return noSuchManifest(err, ref)
		}
		return printItems(c, items, nil, len(items) != 1)
	}
	desc, err := client.Resolve(c.Context, ref)
	if err != nil {
		return noSuchManifest(err, ref)
	}
	data, err := client.Manifest(c.Context, ref, desc)
	if err != nil {
		return err
	}
	return printIndented(c.App.Writer, data)
}

// noSuchManifest says it in docker's words, which scripts look for.
func noSuchManifest(err error, ref name.Ref) error {
	if !errdefs.IsNotFound(err) {
		return err
	}
	return fmt.Errorf("no such manifest: %s: %w", ref.Familiar(), err)
}

func printIndented(w io.Writer, data []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(data), "", "\t"); err != nil {
		return fmt.Errorf("the manifest is not JSON: %w: %w", err, errdefs.ErrDataLoss)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// verboseManifest is what inspect -v prints of an image.
type verboseManifest struct {
	Ref              string
	Descriptor       ocispec.Descriptor
	SchemaV2Manifest json.RawMessage `json:",omitempty"`
	OCIManifest      json.RawMessage `json:",omitempty"`
}

// printItems prints the document, or with -v what it consists of: a list, or one.
func printItems(c *cli.Context, items []manifests.Item, document []byte, list bool) error {
	if !c.Bool("verbose") {
		return printIndented(c.App.Writer, document)
	}
	var all []verboseManifest
	for _, item := range items {
		v := verboseManifest{Ref: item.Ref, Descriptor: item.Descriptor}
		if image.IsDocker(item.Descriptor.MediaType) {
			v.SchemaV2Manifest = item.Manifest
		} else {
			v.OCIManifest = item.Manifest
		}
		all = append(all, v)
	}
	var data []byte
	var err error
	if list {
		data, err = json.Marshal(all)
	} else {
		data, err = json.Marshal(all[0])
	}
	return errors.Join(err, printIndented(c.App.Writer, data))
}

func manifestPushCommand() *cli.Command {
	return &cli.Command{
		Name: "push", Usage: "send a list to its registry", ArgsUsage: "MANIFEST_LIST",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "purge", Aliases: []string{"p"}, Usage: "remove the list here when it is pushed"}, insecureFlag()},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 1, "MANIFEST_LIST"); err != nil {
				return err
			}
			ref, err := name.Parse(c.Args().First())
			if err != nil {
				return err
			}
			l, err := lists().Load(ref)
			if err != nil {
				return err
			}
			desc, data, err := l.Document()
			if err != nil {
				return err
			}
			client := registryClient(c)
			defer client.Close()
			for _, item := range l.Items {
				if err := pushItem(c.Context, client, ref, item); err != nil {
					return err
				}
			}
			if err := client.PushManifest(c.Context, ref, desc, data); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, desc.Digest)
			if c.Bool("purge") {
				return lists().Remove(ref)
			}
			return nil
		},
	}
}

// pushItem brings an image of a list into the list's repository: its blobs are mounted from where they are.
func pushItem(ctx context.Context, client *registry.Client, to name.Ref, item manifests.Item) error {
	from, err := name.Parse(item.Ref)
	if err != nil {
		return err
	}
	if from.Domain() != to.Domain() {
		return fmt.Errorf("cannot use source images from a different registry than the target image: %s != %s: %w", from.Domain(), to.Domain(), errdefs.ErrInvalidArgument)
	}
	if from.Path() == to.Path() {
		return nil
	}
	m, err := image.ParseManifest(item.Descriptor.MediaType, item.Manifest)
	if err != nil {
		return err
	}
	for _, blob := range append(m.Layers, m.Config) {
		open := func(offset int64) (io.ReadCloser, error) { return client.Fetch(ctx, from, blob, offset) }
		if _, err := client.PushBlob(ctx, to, blob, open, registry.PushOptions{MountFrom: []string{from.Path()}}); err != nil {
			return err
		}
	}
	d := item.Descriptor
	d.Platform = nil
	return client.PushManifest(ctx, to.TrimVersion().WithDigest(d.Digest), d, item.Manifest)
}

func manifestRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "remove lists of this machine", ArgsUsage: "MANIFEST_LIST...",
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, -1, "MANIFEST_LIST..."); err != nil {
				return err
			}
			var failed error
			for _, text := range c.Args().Slice() {
				ref, err := name.Parse(text)
				if err == nil {
					err = lists().Remove(ref)
				}
				failed = errors.Join(failed, err)
			}
			return failed
		},
	}
}

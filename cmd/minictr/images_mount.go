package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/api"
)

func imagesMountCommand() *cli.Command {
	return &cli.Command{
		Name: "mount", Usage: "mount an image on a directory of this machine", ArgsUsage: "IMAGE DIRECTORY",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "rw", Usage: "writable; what is written stays in the snapshot"},
			&cli.StringFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]`"},
			&cli.DurationFlag{Name: "expiration", Aliases: []string{"x"}, Value: time.Hour, Usage: "after this the garbage collection may take the snapshot"},
			snapshotterFlag(), labelFlag(),
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 2, 2, "IMAGE DIRECTORY"); err != nil {
				return err
			}
			labels, err := icli.ParseLabels(c.StringSlice("label"))
			if err != nil {
				return err
			}
			target, err := filepath.Abs(c.Args().Get(1))
			if err != nil {
				return err
			}
			r, err := d.Images.Mount(c.Context, &api.MountImageRequest{
				Namespace: d.ns, Name: c.Args().First(), Writable: c.Bool("rw"), Key: target, Platform: c.String("platform"),
				Snapshotter: c.String("snapshotter"), ExpireAfter: int64(c.Duration("expiration")), Labels: labels,
			})
			if err != nil {
				return err
			}
			if err := mount.All(hostMounts(r.Mounts), target); err != nil {
				return errors.Join(err, unmountImage(c, d, target))
			}
			fmt.Fprintln(c.App.Writer, target)
			return nil
		}),
	}
}

func hostMounts(in []*api.Mount) []mount.Mount {
	out := make([]mount.Mount, 0, len(in))
	for _, m := range in {
		out = append(out, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}

func imagesUnmountCommand() *cli.Command {
	return &cli.Command{
		Name: "unmount", Aliases: []string{"umount"}, Usage: "unmount a directory that mount has made", ArgsUsage: "DIRECTORY",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "rm", Usage: "remove the snapshot too"},
			snapshotterFlag(),
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "DIRECTORY"); err != nil {
				return err
			}
			target, err := filepath.Abs(c.Args().First())
			if err != nil {
				return err
			}
			if err := mount.Unmount(target); err != nil {
				return err
			}
			if !c.Bool("rm") {
				return nil
			}
			return unmountImage(c, d, target)
		}),
	}
}

// unmountImage removes the snapshot that was made for a directory.
func unmountImage(c *cli.Context, d *daemon, target string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), 10*time.Second)
	defer cancel()
	_, err := d.Images.Unmount(ctx, &api.UnmountImageRequest{Namespace: d.ns, Key: target, Snapshotter: c.String("snapshotter")})
	return err
}

func unpackFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]`"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print no progress"},
	}
}

func imagesUnpackCommand() *cli.Command {
	return &cli.Command{
		Name: "unpack", Usage: "make the snapshots of an image's layers", ArgsUsage: "IMAGE",
		Flags: append(unpackFlags(), snapshotterFlag()), Action: with(runUnpack),
	}
}

func snapshotsUnpackCommand() *cli.Command {
	return &cli.Command{
		Name: "unpack", Usage: "make the snapshots of an image's layers", ArgsUsage: "IMAGE",
		Flags: unpackFlags(), Action: with(runUnpack),
	}
}

func runUnpack(c *cli.Context, d *daemon) error {
	if err := icli.Args(c, 1, 1, "IMAGE"); err != nil {
		return err
	}
	show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
	image, err := d.Unpack(c.Context, &api.UnpackRequest{
		Namespace: d.ns, Name: c.Args().First(), Snapshotter: c.String("snapshotter"), Platform: c.String("platform"),
	}, show.Update)
	show.Close()
	if err == nil && image != nil {
		fmt.Fprintln(c.App.Writer, image.ChainId)
	}
	return err
}

func imagesInspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Aliases: []string{"i"}, Usage: "print an image's parts as a tree", ArgsUsage: "IMAGE",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "content", Usage: "print the documents too"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "tree", Usage: "`FORMAT`: tree or json"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "IMAGE"); err != nil {
				return err
			}
			i, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: c.Args().First()})
			if err != nil {
				return err
			}
			if c.String("output") == "json" {
				return icli.PrintJSON(c.App.Writer, i)
			}
			fmt.Fprintln(c.App.Writer, i.Name)
			p := inspector{c: c, d: d}
			return p.print(ocispec.Descriptor{MediaType: i.Target.MediaType, Digest: digest.Digest(i.Target.Digest), Size: i.Target.Size}, 1)
		}),
	}
}

// inspector prints the documents of an image, each below the one that refers to it.
type inspector struct {
	c *cli.Context
	d *daemon
}

func (p inspector) print(desc ocispec.Descriptor, depth int) error {
	pad := strings.Repeat("  ", depth)
	line := fmt.Sprintf("%s%s @%s (%d bytes)", pad, desc.MediaType, desc.Digest, desc.Size)
	if desc.Platform != nil {
		line += " " + desc.Platform.OS + "/" + desc.Platform.Architecture
	}
	fmt.Fprintln(p.c.App.Writer, line)
	if !strings.Contains(desc.MediaType, "json") && !strings.Contains(desc.MediaType, "manifest") && !strings.Contains(desc.MediaType, "index") {
		return nil
	}
	var doc bytes.Buffer
	if err := p.d.ReadBlob(p.c.Context, &api.ReadContentRequest{Namespace: p.d.ns, Digest: desc.Digest.String()}, &doc); err != nil {
		fmt.Fprintln(p.c.App.Writer, pad+"  (not in the store)")
		return nil
	}
	if p.c.Bool("content") {
		var pretty bytes.Buffer
		if json.Indent(&pretty, doc.Bytes(), pad+"  ", "  ") == nil {
			_, _ = io.WriteString(p.c.App.Writer, pad+"  "+pretty.String()+"\n")
		}
	}
	var refers struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	// An image configuration has a "config" of another shape: what does not fit refers to nothing.
	if err := json.Unmarshal(doc.Bytes(), &refers); err != nil {
		return nil
	}
	children := refers.Manifests
	if refers.Config != nil && refers.Config.Digest != "" {
		children = append(children, *refers.Config)
	}
	for _, child := range append(children, refers.Layers...) {
		if err := p.print(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

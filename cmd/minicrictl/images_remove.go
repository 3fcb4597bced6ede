package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func rmiCommand() *cli.Command {
	return &cli.Command{
		Name: "rmi", Usage: "remove images", ArgsUsage: "IMAGE...",
		Description: "The CRI removes an image with all of its names, also when it is given one of them.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "all images"},
			&cli.BoolFlag{Name: "prune", Aliases: []string{"q"}, Usage: "all images that no container uses and that are not pinned"},
		},
		Action: func(c *cli.Context) error {
			wanted := imageStore
			if c.Bool("prune") {
				wanted = both
			}
			return with(wanted, runRmi)(c)
		},
	}
}

func runRmi(c *cli.Context, r *runtime) error {
	ids, err := r.imagesToRemove(c.Context, c.Args().Slice(), c.Bool("all"), c.Bool("prune"))
	if err != nil {
		return err
	}
	return atOnce(c, "images", "IMAGE...", ids, func(w io.Writer, id string) error { return r.removeImage(c, w, id) })
}

// imagesToRemove are those named, or all, or all that are not used.
func (r *runtime) imagesToRemove(ctx context.Context, named []string, all, prune bool) ([]string, error) {
	if !all && !prune {
		return named, nil
	}
	images, err := r.imageList(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	used := map[string]bool{}
	if prune {
		if used, err = r.usedImages(ctx); err != nil {
			return nil, err
		}
	}
	ids := named
	for _, i := range images {
		if prune && (i.Pinned || used[i.Id]) {
			continue
		}
		ids = append(ids, i.Id)
	}
	return ids, nil
}

// usedImages are the identifiers of the images of all containers.
func (r *runtime) usedImages(ctx context.Context) (map[string]bool, error) {
	containers, err := r.containers(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	used := map[string]bool{}
	for _, c := range containers {
		answer, err := r.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: c.GetImage().GetImage()}})
		if err != nil { // pruning an image that may be in use is worse than not pruning
			return nil, fmt.Errorf("look up the image %s of container %s: %w", c.GetImage().GetImage(), c.Id, err)
		}
		used[answer.GetImage().GetId()] = true
	}
	return used, nil
}

func (r *runtime) removeImage(c *cli.Context, w io.Writer, id string) error {
	answer, err := r.images.ImageStatus(c.Context, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: id}})
	if err != nil {
		return fmt.Errorf("status of image %s: %w", id, err)
	}
	image := answer.GetImage()
	if image == nil {
		return fmt.Errorf("there is no image %s: %s images lists them: %w", id, program, errdefs.ErrNotFound)
	}
	if byName := !strings.HasPrefix(id, "sha256:") && strings.ContainsAny(id, ":/"); byName && len(image.RepoTags) > 1 {
		warn(c, "image %s goes with all of its names: %s", id, strings.Join(image.RepoTags, ", "))
	}
	if _, err := r.images.RemoveImage(c.Context, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: id}}); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	names := image.RepoTags
	if len(names) == 0 {
		names = image.RepoDigests
	}
	for _, n := range names {
		fmt.Fprintf(w, "Deleted: %s\n", n)
	}
	return nil
}

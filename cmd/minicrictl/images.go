package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func imageFilterFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"},
		Usage: "`CONDITION`: dangling=true|false, reference=EXPRESSION, before=IMAGE, since=IMAGE; all of several hold"}
}

func imagesCommand() *cli.Command {
	const usage = "[REPOSITORY[:TAG]]"
	return &cli.Command{
		Name: "images", Aliases: []string{"image", "img"}, Usage: "list images", ArgsUsage: usage,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print the identifiers only"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print everything that is known of each"},
			&cli.BoolFlag{Name: "digests", Usage: "print digests too"},
			&cli.BoolFlag{Name: "pinned", Usage: "print whether they are kept from garbage collection"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "print whole identifiers"},
			imageFilterFlag(), outputFlag(formatTable, formatJSON, formatYAML),
		},
		Action: with(imageStore, func(c *cli.Context, r *runtime) error {
			if err := icli.Args(c, 0, 1, usage); err != nil {
				return err
			}
			return runImages(c, r)
		}),
	}
}

// chosenImages lists images by name and conditions, in order of their names.
func (r *runtime) chosenImages(ctx context.Context, name string, conditions []string) ([]*cri.Image, error) {
	all, err := r.imageList(ctx, &cri.ImageFilter{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	sortImages(all)
	return filterImages(all, conditions)
}

func runImages(c *cli.Context, r *runtime) error {
	format, err := outputOf(c, formatTable, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	all, err := r.chosenImages(c.Context, c.Args().First(), c.StringSlice("filter"))
	if err != nil {
		return err
	}
	return listed[*cri.Image]{
		message: &cri.ListImagesResponse{Images: all}, id: (*cri.Image).GetId, detail: printImage,
		table: func() error {
			t := imageTable{digests: c.Bool("digests"), pinned: c.Bool("pinned"), whole: c.Bool("no-trunc")}
			return printTable(c.App.Writer, t.header(), t.rows(all))
		},
	}.print(c, format, all)
}

// imageTable makes the rows of images.
type imageTable struct{ digests, pinned, whole bool }

func (t imageTable) header() []string {
	return t.columns("IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE", "PINNED")
}

func (t imageTable) columns(name, tag, digest, id, size, pinned string) []string {
	row := []string{name, tag}
	if t.digests {
		row = append(row, digest)
	}
	row = append(row, id, size)
	if t.pinned {
		row = append(row, pinned)
	}
	return row
}

func (t imageTable) rows(all []*cri.Image) [][]string {
	var rows [][]string
	for _, i := range all {
		repository, digest := repositoryOf(i)
		id := i.Id
		if !t.whole {
			id, digest = short(id, "sha256:"), short(digest, "sha256:")
		}
		for _, n := range namesOf(i, repository) {
			rows = append(rows, t.columns(n[0], n[1], digest, id, imageSize(i), strconv.FormatBool(i.Pinned)))
		}
	}
	return rows
}

func imageSize(i *cri.Image) string { return units.HumanSizeWithPrecision(float64(i.Size), 3) }

// printImage prints what images -v says of an image.
func printImage(w io.Writer, i *cri.Image) {
	fmt.Fprintf(w, "ID: %s\n", i.Id)
	for _, t := range i.RepoTags {
		fmt.Fprintf(w, "RepoTags: %s\n", t)
	}
	for _, d := range i.RepoDigests {
		fmt.Fprintf(w, "RepoDigests: %s\n", d)
	}
	if i.Size != 0 {
		fmt.Fprintf(w, "Size: %d\n", i.Size)
	}
	if i.Uid != nil {
		uid := "" // of root, as crictl has it: protobuf's text has no zeros
		if i.Uid.Value != 0 {
			uid = fmt.Sprintf("value:%d", i.Uid.Value)
		}
		fmt.Fprintf(w, "Uid: %s\n", uid)
	}
	if i.Username != "" {
		fmt.Fprintf(w, "Username: %v\n", i.Username)
	}
	if i.Pinned {
		fmt.Fprintf(w, "Pinned: %v\n", i.Pinned)
	}
	fmt.Fprintln(w)
}

// printImageStatus prints what inspecti -o table says of an image.
func printImageStatus(w io.Writer, i *cri.Image) {
	fmt.Fprintf(w, "ID: %s\n", i.Id)
	for _, t := range i.RepoTags {
		fmt.Fprintf(w, "Tag: %s\n", t)
	}
	for _, d := range i.RepoDigests {
		fmt.Fprintf(w, "Digest: %s\n", d)
	}
	fmt.Fprintf(w, "Size: %s\n", imageSize(i))
}

func imagefsinfoCommand() *cli.Command {
	return &cli.Command{
		Name: "imagefsinfo", Usage: "print where images and containers are stored, and what they take",
		Flags: []cli.Flag{outputFlag(formatJSON, formatYAML, formatTemplate, formatTable), templateFlag()},
		Action: noArgs(with(imageStore, func(c *cli.Context, r *runtime) error {
			format, err := outputOf(c, formatJSON, formatYAML, formatTemplate, formatTable)
			if err != nil {
				return err
			}
			answer, err := r.images.ImageFsInfo(c.Context, &cri.ImageFsInfoRequest{})
			if err != nil {
				return fmt.Errorf("filesystem of the images: %w", err)
			}
			if format == formatTable {
				printFilesystems(c.App.Writer, "Container", answer.ContainerFilesystems)
				printFilesystems(c.App.Writer, "Image", answer.ImageFilesystems)
				return nil
			}
			o, err := object(answer)
			if err != nil {
				return err
			}
			all, err := inspection(o, nil)
			if err != nil {
				return err
			}
			return printInspections(c.App.Writer, []map[string]any{all}, format, c.String("template"))
		})),
	}
}

func printFilesystems(w io.Writer, of string, all []*cri.FilesystemUsage) {
	fmt.Fprintf(w, "%s Filesystem \n", of)
	for i, f := range all {
		fmt.Fprintf(w, "TimeStamp[%d]: %d\n", i, f.Timestamp)
		fmt.Fprintf(w, "Disk[%d]: %s\n", i, units.HumanSize(float64(f.GetUsedBytes().GetValue())))
		fmt.Fprintf(w, "Inodes[%d]: %d\n", i, f.GetInodesUsed().GetValue())
		fmt.Fprintf(w, "Mountpoint[%d]: %s\n", i, f.GetFsId().GetMountpoint())
	}
}

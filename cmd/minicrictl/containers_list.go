package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name: "ps", Usage: "list containers: the running ones, unless asked otherwise",
		Flags: append(containerFlags(),
			&cli.StringFlag{Name: "id", Usage: "only the container with this `ID`"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "containers in every state"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print the identifiers only"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print labels and annotations too"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "print whole identifiers"},
			&cli.BoolFlag{Name: "resolve-image-path", Aliases: []string{"r"}, Usage: "print the names of images, not their identifiers"},
			outputFlag(formatTable, formatWide, formatJSON, formatYAML)),
		Action: noArgs(with(both, runPs)),
	}
}

// chosen lists the containers that a selection means.
func (r *runtime) chosen(ctx context.Context, s selection) ([]*cri.Container, error) {
	f, err := s.containerFilter()
	if err != nil {
		return nil, err
	}
	all, err := r.containers(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	if s.image != "" {
		if all, err = r.ofImage(ctx, all, s.image); err != nil {
			return nil, err
		}
	}
	return s.chooseContainers(all), nil
}

// ofImage keeps the containers of an image, however it is named.
func (r *runtime) ofImage(ctx context.Context, all []*cri.Container, image string) ([]*cri.Container, error) {
	ids := map[string]string{}
	idOf := func(name string) (string, error) {
		if id, known := ids[name]; known {
			return id, nil
		}
		answer, err := r.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
		if err != nil {
			return "", fmt.Errorf("look up image %s: %w", name, err)
		}
		ids[name] = answer.GetImage().GetId()
		return ids[name], nil
	}
	wanted, err := idOf(image)
	if err != nil || wanted == "" {
		return nil, err
	}
	var kept []*cri.Container
	for _, c := range all {
		id, err := idOf(c.GetImage().GetImage())
		if err != nil {
			return nil, err
		}
		if id == wanted {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

func runPs(c *cli.Context, r *runtime) error {
	format, err := outputOf(c, formatTable, formatWide, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	s, err := readSelection(c)
	if err != nil {
		return err
	}
	all, err := r.chosen(c.Context, s)
	if err != nil {
		return err
	}
	return listed[*cri.Container]{
		message: &cri.ListContainersResponse{Containers: all}, id: (*cri.Container).GetId,
		detail: func(w io.Writer, ctr *cri.Container) { printContainer(w, ctr, time.Now()) },
		table:  func() error { return r.printContainerTable(c, all, format == formatWide) },
	}.print(c, format, all)
}

func (r *runtime) printContainerTable(c *cli.Context, all []*cri.Container, wide bool) (err error) {
	t := containerTable{now: time.Now(), whole: c.Bool("no-trunc")}
	if c.Bool("resolve-image-path") {
		if t.names, err = r.imageNames(c.Context, all); err != nil {
			return err
		}
	}
	if wide {
		if t.pods, err = r.podsOf(c.Context, all); err != nil {
			return err
		}
	}
	return printTable(c.App.Writer, t.header(), t.rows(all))
}

// containerTable makes the rows of ps.
type containerTable struct {
	now   time.Time
	whole bool
	names map[string]string // of images, by what the containers call them; nil: not asked for
	pods  map[string]pod    // nil: not wide
}

func (t containerTable) header() []string {
	h := []string{"CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"}
	if t.pods != nil {
		h = append(h, "POD IP", "PORTS")
	}
	return h
}

func (t containerTable) rows(all []*cri.Container) [][]string {
	var rows [][]string
	for _, c := range all {
		id, podID, image := c.Id, c.PodSandboxId, c.GetImage().GetImage()
		if !t.whole {
			id, podID = short(id, ""), short(podID, "")
			if d, err := digest.Parse(image); err == nil {
				image = short(image, string(d.Algorithm())+":")
			}
		}
		if name := t.names[c.GetImage().GetImage()]; name != "" {
			image = name
		}
		row := []string{id, image, ago(c.CreatedAt, t.now), containerState(c.State), c.GetMetadata().GetName(),
			strconv.FormatUint(uint64(c.GetMetadata().GetAttempt()), 10), podID, labelOr(c.Labels, labelPodName), labelOr(c.Labels, labelPodNamespace)}
		if t.pods != nil {
			p := t.pods[c.PodSandboxId]
			row[7], row[8] = p.name, p.namespace
			row = append(row, dash(strings.Join(p.ips, ",")), dash(strings.Join(portsOf(p, c), ",")))
		}
		rows = append(rows, row)
	}
	return rows
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func containerState(s cri.ContainerState) string {
	name := strings.ToLower(strings.TrimPrefix(s.String(), "CONTAINER_"))
	return strings.ToUpper(name[:1]) + name[1:]
}

// imageNames looks up the first name of each container's image.
func (r *runtime) imageNames(ctx context.Context, all []*cri.Container) (map[string]string, error) {
	names := map[string]string{}
	for _, c := range all {
		image := c.GetImage().GetImage()
		if _, known := names[image]; known {
			continue
		}
		answer, err := r.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
		if err != nil {
			return nil, fmt.Errorf("look up image %s: %w", image, err)
		}
		names[image] = ""
		if tags := answer.GetImage().GetRepoTags(); len(tags) > 0 {
			names[image] = tags[0]
		}
	}
	return names, nil
}

// printContainer prints what ps -v says of a container.
func printContainer(w io.Writer, c *cri.Container, now time.Time) {
	fmt.Fprintf(w, "ID: %s\nPodID: %s\nNamespace: %s\n", c.Id, c.PodSandboxId, labelOr(c.Labels, labelPodNamespace))
	if c.Metadata != nil {
		if c.Metadata.Name != "" {
			fmt.Fprintf(w, "Name: %s\n", c.Metadata.Name)
		}
		fmt.Fprintf(w, "Attempt: %v\n", c.Metadata.Attempt)
	}
	fmt.Fprintf(w, "State: %s\n", containerState(c.State))
	if c.Image != nil {
		fmt.Fprintf(w, "Image: %s\n", c.Image.Image)
	}
	fmt.Fprintf(w, "Created: %v\n", ago(c.CreatedAt, now))
	printLabels(w, "Labels", c.Labels)
	printLabels(w, "Annotations", c.Annotations)
	fmt.Fprintln(w)
}

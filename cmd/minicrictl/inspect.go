package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func notFound(err error) bool { return errors.Is(err, errdefs.ErrNotFound) }

// inspectFlags are those of inspect, inspectp and inspecti.
func inspectFlags() []cli.Flag {
	return []cli.Flag{
		outputFlag(formatJSON, formatYAML, formatTemplate, formatTable), templateFlag(),
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "leave out what the runtime adds of its own"},
	}
}

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "print the status of containers: of those named, or of those that the flags choose", ArgsUsage: "[CONTAINER...]",
		Flags: append(append(inspectFlags(), containerFlags()...), &cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "choose among containers in every state"}),
		Action: with(both, func(c *cli.Context, r *runtime) error {
			return inspectEach(c, "containers", func() (ids []string, err error) {
				s, err := readSelection(c)
				if err != nil {
					return nil, err
				}
				all, err := r.chosen(c.Context, s)
				for _, ctr := range all {
					ids = append(ids, ctr.Id)
				}
				return ids, err
			}, r.inspectContainer)
		}),
	}
}

func inspectpCommand() *cli.Command {
	return &cli.Command{
		Name: "inspectp", Usage: "print the status of pods: of those named, or of those that the flags choose", ArgsUsage: "[POD...]",
		Flags: append(append(inspectFlags(), nameFlags("pods")...), podStateFlag()),
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			return inspectEach(c, "pods", func() (ids []string, err error) {
				all, err := r.chosenPods(c)
				for _, p := range all {
					ids = append(ids, p.Id)
				}
				return ids, err
			}, r.inspectPod)
		}),
	}
}

func inspectiCommand() *cli.Command {
	return &cli.Command{
		Name: "inspecti", Usage: "print the status of images: of those named, or of those that the flags choose", ArgsUsage: "[IMAGE...]",
		Flags: append(inspectFlags(), imageFilterFlag(), &cli.StringFlag{Name: "name", Usage: "only the image of this `NAME`"}),
		Action: with(imageStore, func(c *cli.Context, r *runtime) error {
			return inspectEach(c, "images", func() (ids []string, err error) {
				all, err := r.chosenImages(c.Context, c.String("name"), c.StringSlice("filter"))
				for _, i := range all {
					ids = append(ids, i.Id)
				}
				return ids, err
			}, r.inspectImage)
		}),
	}
}

// inspected is an object's status with two faces.
type inspected struct {
	status map[string]any
	info   map[string]string
	table  func(io.Writer)
}

// inspectEach prints the status of what the arguments name, or else choose finds.
func inspectEach(c *cli.Context, what string, choose func() ([]string, error), ask func(context.Context, string, bool) (inspected, error)) error {
	format, err := outputOf(c, formatJSON, formatYAML, formatTemplate, formatTable)
	if err != nil {
		return err
	}
	if format == formatTemplate {
		if _, err := parseTemplate(c.String("template")); err != nil {
			return err
		}
	}
	ids := c.Args().Slice()
	if len(ids) == 0 {
		if ids, err = choose(); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return fmt.Errorf("no %s: name some, or choose otherwise: see %s --help: %w", what, c.Command.HelpName, errdefs.ErrNotFound)
	}
	var all []map[string]any
	for _, id := range ids {
		i, err := ask(c.Context, id, !c.Bool("quiet"))
		if err != nil {
			return err
		}
		if format == formatTable {
			i.table(c.App.Writer)
			if i.info != nil {
				fmt.Fprintf(c.App.Writer, "Info: %v\n", i.info)
			}
			continue
		}
		o, err := inspection(i.status, i.info)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		all = append(all, o)
	}
	return printInspections(c.App.Writer, all, format, c.String("template"))
}

func (r *runtime) inspectContainer(ctx context.Context, id string, verbose bool) (inspected, error) {
	answer, err := r.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: verbose})
	if err != nil {
		return inspected{}, fmt.Errorf("status of container %s: %w", id, err)
	}
	o, err := containerObject(answer.GetStatus())
	return inspected{o, answer.GetInfo(), func(w io.Writer) { printContainerStatus(w, answer.GetStatus(), time.Now()) }}, err
}

func (r *runtime) inspectPod(ctx context.Context, id string, verbose bool) (inspected, error) {
	answer, err := r.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: verbose})
	if err != nil {
		return inspected{}, fmt.Errorf("status of pod %s: %w", id, err)
	}
	o, err := podObject(answer.GetStatus())
	return inspected{o, answer.GetInfo(), func(w io.Writer) { printPodStatus(w, answer.GetStatus()) }}, err
}

func (r *runtime) inspectImage(ctx context.Context, id string, verbose bool) (inspected, error) {
	answer, err := r.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: id}, Verbose: verbose})
	if err != nil {
		return inspected{}, fmt.Errorf("status of image %s: %w", id, err)
	}
	if answer.GetImage() == nil {
		return inspected{}, fmt.Errorf("there is no image %s: %s images lists them: %w", id, program, errdefs.ErrNotFound)
	}
	o, err := object(answer.GetImage())
	return inspected{o, answer.GetInfo(), func(w io.Writer) { printImageStatus(w, answer.GetImage()) }}, err
}

func printContainerStatus(w io.Writer, s *cri.ContainerStatus, now time.Time) {
	fmt.Fprintf(w, "ID: %s\n", s.Id)
	if name := s.GetMetadata().GetName(); name != "" {
		fmt.Fprintf(w, "Name: %s\n", name)
	}
	if n := s.GetMetadata().GetAttempt(); n != 0 {
		fmt.Fprintf(w, "Attempt: %v\n", n)
	}
	fmt.Fprintf(w, "State: %s\nCreated: %v\n", s.State, ago(s.CreatedAt, now))
	if s.State != cri.ContainerState_CONTAINER_CREATED {
		fmt.Fprintf(w, "Started: %v\n", ago(s.StartedAt, now))
	}
	if s.State == cri.ContainerState_CONTAINER_EXITED {
		if s.FinishedAt > 0 {
			fmt.Fprintf(w, "Finished: %v\n", ago(s.FinishedAt, now))
		}
		fmt.Fprintf(w, "Exit Code: %v\n", s.ExitCode)
	}
	printLabels(w, "Labels", s.Labels)
	printLabels(w, "Annotations", s.Annotations)
}

func printPodStatus(w io.Writer, s *cri.PodSandboxStatus) {
	fmt.Fprintf(w, "ID: %s\n", s.Id)
	if m := s.Metadata; m != nil {
		for _, f := range [][2]string{{"Name", m.Name}, {"UID", m.Uid}, {"Namespace", m.Namespace}} {
			if f[1] != "" {
				fmt.Fprintf(w, "%s: %s\n", f[0], f[1])
			}
		}
		fmt.Fprintf(w, "Attempt: %v\n", m.Attempt)
	}
	fmt.Fprintf(w, "Status: %s\nCreated: %v\n", s.State, time.Unix(0, s.CreatedAt))
	if s.Network != nil {
		fmt.Fprintf(w, "IP Addresses: %v\n", s.Network.Ip)
		for _, ip := range s.Network.AdditionalIps {
			fmt.Fprintf(w, "Additional IP: %v\n", ip.Ip)
		}
	}
	printLabels(w, "Labels", s.Labels)
	printLabels(w, "Annotations", s.Annotations)
}

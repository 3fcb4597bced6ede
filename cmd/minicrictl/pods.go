package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func podStateFlag() cli.Flag {
	return &cli.StringFlag{Name: "state", Aliases: []string{"s"}, Usage: "only those in this `STATE`: ready or notready"}
}

func podsCommand() *cli.Command {
	return &cli.Command{
		Name: "pods", Usage: "list pods",
		Flags: append(nameFlags("pods"), podStateFlag(),
			&cli.StringFlag{Name: "id", Usage: "only the pod with this `ID`"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print the identifiers only"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print labels and annotations too"},
			&cli.BoolFlag{Name: "no-trunc", Usage: "print whole identifiers"},
			outputFlag(formatTable, formatJSON, formatYAML)),
		Action: noArgs(with(containersAndPods, runPods)),
	}
}

// chosenPods lists the pods that the flags mean.
func (r *runtime) chosenPods(c *cli.Context) ([]*cri.PodSandbox, error) {
	s, err := readSelection(c)
	if err != nil {
		return nil, err
	}
	f, err := s.podFilter()
	if err != nil {
		return nil, err
	}
	all, err := r.pods(c.Context, f)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return s.choosePods(all), nil
}

func runPods(c *cli.Context, r *runtime) error {
	format, err := outputOf(c, formatTable, formatJSON, formatYAML)
	if err != nil {
		return err
	}
	all, err := r.chosenPods(c)
	if err != nil {
		return err
	}
	return listed[*cri.PodSandbox]{
		message: &cri.ListPodSandboxResponse{Items: all}, id: (*cri.PodSandbox).GetId, detail: printPod,
		table: func() error {
			return printTable(c.App.Writer, []string{"POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"}, podRows(all, c.Bool("no-trunc"), time.Now()))
		},
	}.print(c, format, all)
}

func podRows(all []*cri.PodSandbox, whole bool, now time.Time) [][]string {
	var rows [][]string
	for _, p := range all {
		id := p.Id
		if !whole {
			id = short(id, "")
		}
		m := p.GetMetadata()
		rows = append(rows, []string{id, ago(p.CreatedAt, now), podState(p.State), m.GetName(), m.GetNamespace(),
			strconv.FormatUint(uint64(m.GetAttempt()), 10), handlerOf(p)})
	}
	return rows
}

func podState(s cri.PodSandboxState) string {
	if s == cri.PodSandboxState_SANDBOX_READY {
		return "Ready"
	}
	return "NotReady"
}

func handlerOf(p *cri.PodSandbox) string {
	if p.RuntimeHandler == "" {
		return "(default)"
	}
	return p.RuntimeHandler
}

// printPod prints what pods -v says of a pod.
func printPod(w io.Writer, p *cri.PodSandbox) {
	fmt.Fprintf(w, "ID: %s\n", p.Id)
	if m := p.Metadata; m != nil {
		for _, f := range [][2]string{{"Name", m.Name}, {"UID", m.Uid}, {"Namespace", m.Namespace}} {
			if f[1] != "" {
				fmt.Fprintf(w, "%s: %s\n", f[0], f[1])
			}
		}
		if m.Attempt != 0 {
			fmt.Fprintf(w, "Attempt: %v\n", m.Attempt)
		}
	}
	fmt.Fprintf(w, "Status: %s\nCreated: %v\n", podState(p.State), time.Unix(0, p.CreatedAt))
	printLabels(w, "Labels", p.Labels)
	printLabels(w, "Annotations", p.Annotations)
	fmt.Fprintf(w, "Runtime: %s\n\n", handlerOf(p))
}

func runpCommand() *cli.Command {
	return &cli.Command{
		Name: "runp", Usage: "make a pod and run it", ArgsUsage: "POD.json|yaml", Subcommands: []*cli.Command{podSchemaCommand()},
		Flags: []cli.Flag{handlerFlag(), cancelFlag()},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 1, "POD.json|yaml"); err != nil {
				return err
			}
			config, err := readPodConfig(c, c.Args().First())
			if err != nil {
				return err
			}
			return with(containersAndPods, func(c *cli.Context, r *runtime) error {
				id, err := r.runPod(c, config, c.String("runtime"), c.Duration("cancel-timeout"))
				if err == nil {
					fmt.Fprintln(c.App.Writer, id)
				}
				return err
			})(c)
		},
	}
}

// runPod runs a pod; limit bounds the call when it is not 0.
func (r *runtime) runPod(c *cli.Context, config *cri.PodSandboxConfig, handler string, limit time.Duration) (string, error) {
	ctx, cancel := limited(c.Context, limit)
	defer cancel()
	answer, err := r.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	if err != nil {
		return "", fmt.Errorf("run pod %s/%s: %w", config.Metadata.Namespace, config.Metadata.Name, err)
	}
	return answer.PodSandboxId, nil
}

func stoppCommand() *cli.Command {
	return &cli.Command{
		Name: "stopp", Usage: "stop pods and their containers", ArgsUsage: "POD...",
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			return eachInOrder(c, "POD...", func(id string) error { return r.stopPod(c, c.App.Writer, id) })
		}),
	}
}

func (r *runtime) stopPod(c *cli.Context, w io.Writer, id string) error {
	if _, err := r.StopPodSandbox(c.Context, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("stop pod %s: %w", id, err)
	}
	fmt.Fprintf(w, "Stopped sandbox %s\n", id)
	return nil
}

func rmpCommand() *cli.Command {
	return &cli.Command{
		Name: "rmp", Usage: "remove pods and their containers", ArgsUsage: "POD...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "stop those that run"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "all pods"},
		},
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			ids := c.Args().Slice()
			if c.Bool("all") {
				all, err := r.pods(c.Context, nil)
				if err != nil {
					return fmt.Errorf("list pods: %w", err)
				}
				ids = nil
				for _, p := range all {
					ids = append(ids, p.Id)
				}
			}
			return atOnce(c, "pods", "POD...", ids, func(w io.Writer, id string) error { return r.removePod(c, w, id) })
		}),
	}
}

func (r *runtime) removePod(c *cli.Context, w io.Writer, id string) error {
	answer, err := r.PodSandboxStatus(c.Context, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return fmt.Errorf("status of pod %s: %w", id, err)
	}
	if answer.GetStatus().GetState() == cri.PodSandboxState_SANDBOX_READY {
		if !c.Bool("force") {
			return fmt.Errorf("pod %s runs: stop it first (%s stopp), or remove it with --force", id, program)
		}
		if err := r.stopPod(c, w, id); err != nil {
			return err
		}
	}
	if _, err := r.RemovePodSandbox(c.Context, &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		return fmt.Errorf("remove pod %s: %w", id, err)
	}
	fmt.Fprintf(w, "Removed sandbox %s\n", id)
	return nil
}

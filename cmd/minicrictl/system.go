package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of the runtime and of its CRI",
		Action: noArgs(with(containersAndPods, func(c *cli.Context, r *runtime) error {
			v, err := r.Version(c.Context, &cri.VersionRequest{Version: "v1"})
			if err != nil {
				return fmt.Errorf("version of the runtime: %w", err)
			}
			_, err = fmt.Fprintf(c.App.Writer, "Version:  %s\nRuntimeName:  %s\nRuntimeVersion:  %s\nRuntimeApiVersion:  %s\n",
				v.Version, v.RuntimeName, v.RuntimeVersion, v.RuntimeApiVersion)
			return err
		})),
	}
}

func infoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "print the runtime's status and configuration",
		Flags: []cli.Flag{outputFlag(formatJSON, formatYAML, formatTemplate), templateFlag(),
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "leave out what the runtime adds of its own"}},
		Action: noArgs(with(containersAndPods, runInfo)),
	}
}

func runInfo(c *cli.Context, r *runtime) error {
	format, err := outputOf(c, formatJSON, formatYAML, formatTemplate)
	if err != nil {
		return err
	}
	answer, err := r.Status(c.Context, &cri.StatusRequest{Verbose: !c.Bool("quiet")})
	if err != nil {
		return fmt.Errorf("status of the runtime: %w", err)
	}
	status, err := object(answer.GetStatus())
	if err != nil {
		return err
	}
	all, err := inspection(status, answer.GetInfo())
	if err != nil {
		return err
	}
	if answer.RuntimeHandlers != nil {
		all["runtimeHandlers"] = answer.RuntimeHandlers
	}
	if answer.Features != nil {
		// With the names of the Go fields: what is not set is left out.
		data, err := json.Marshal(answer.Features)
		if err != nil {
			return err
		}
		all["features"] = json.RawMessage(data)
	}
	return printInspections(c.App.Writer, []map[string]any{all}, format, c.String("template"))
}

func runtimeConfigCommand() *cli.Command {
	return &cli.Command{
		Name: "runtime-config", Usage: "print how the runtime is configured",
		Action: noArgs(with(containersAndPods, func(c *cli.Context, r *runtime) error {
			answer, err := r.RuntimeConfig(c.Context, &cri.RuntimeConfigRequest{})
			if err != nil {
				return fmt.Errorf("configuration of the runtime: %w", err)
			}
			t := tabwriter.NewWriter(c.App.Writer, 10, 1, 3, ' ', 0)
			if answer.Linux != nil {
				fmt.Fprintf(t, "cgroup driver:\t%s\n", answer.Linux.CgroupDriver)
			}
			return t.Flush()
		})),
	}
}

func updateRuntimeConfigCommand() *cli.Command {
	return &cli.Command{
		Name: "update-runtime-config", Usage: "change the runtime's configuration",
		Flags: []cli.Flag{&cli.StringFlag{Name: "pod-cidr", Aliases: []string{"p"}, Usage: "addresses of pods are of this `CIDR`"}},
		Action: noArgs(func(c *cli.Context) error {
			if !c.IsSet("pod-cidr") {
				return fmt.Errorf("nothing to change: give --pod-cidr: %w", errdefs.ErrInvalidArgument)
			}
			return with(containersAndPods, func(c *cli.Context, r *runtime) error {
				_, err := r.UpdateRuntimeConfig(c.Context, &cri.UpdateRuntimeConfigRequest{
					RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: c.String("pod-cidr")}},
				})
				if err != nil {
					return fmt.Errorf("change the runtime's configuration: %w", err)
				}
				fmt.Fprintln(c.App.ErrWriter, "the runtime's configuration is changed")
				return nil
			})(c)
		}),
	}
}

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Aliases: []string{"event"}, Usage: "print what happens to containers, as it happens",
		Flags:  []cli.Flag{outputFlag(formatJSON, formatYAML, formatTemplate), templateFlag()},
		Action: noArgs(runEvents),
	}
}

func runEvents(c *cli.Context) error {
	format, err := outputOf(c, formatJSON, formatYAML, formatTemplate)
	if err != nil {
		return err
	}
	if format != formatTemplate && c.String("template") != "" {
		return fmt.Errorf("--template is for -o go-template: %w", errdefs.ErrInvalidArgument)
	}
	if _, err := parseTemplate(c.String("template")); err != nil {
		return err
	}
	return with(containersAndPods, func(c *cli.Context, r *runtime) error {
		stream, err := r.GetContainerEvents(c.Context, &cri.GetEventsRequest{})
		for err == nil {
			var e *cri.ContainerEventResponse
			if e, err = stream.Recv(); err == nil {
				err = printMessage(c.App.Writer, e, format, c.String("template"))
			}
		}
		if errors.Is(err, io.EOF) || c.Context.Err() != nil {
			return nil // an interrupt is how it ends
		}
		return fmt.Errorf("events of containers: %w", err)
	})(c)
}

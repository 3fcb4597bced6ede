package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// tasksCommand keeps ctr's word on the command line: a task is the running side of a container.
func tasksCommand() *cli.Command {
	return &cli.Command{
		Name: "tasks", Aliases: []string{"task", "t"}, Usage: "work with the processes of containers",
		Subcommands: []*cli.Command{
			tasksStartCommand(), execCommand(), tasksAttachCommand(), tasksKillCommand(), tasksPauseCommand(), tasksResumeCommand(),
			tasksListCommand(), tasksPsCommand(), tasksDeleteCommand(), tasksMetricsCommand(), tasksUpdateCommand(), tasksWaitCommand(),
			tasksCheckpointCommand(),
		},
	}
}

// tasksCheckpointCommand is where ctr has it.
func tasksCheckpointCommand() *cli.Command { return containersCheckpointCommand() }

func tasksListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list containers that have been started",
		Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"TASK", "PID", "STATUS"}}
			started := []*api.Container{}
			for _, i := range r.Containers {
				if i.StartedAt == 0 {
					continue
				}
				started = append(started, i)
				l.Rows = append(l.Rows, []string{i.Id, strconv.FormatInt(i.Pid, 10), strings.ToUpper(i.State)})
			}
			l.JSON = started
			return l.Print(c)
		}),
	}
}

func tasksKillCommand() *cli.Command {
	return &cli.Command{
		Name: "kill", Usage: "send a signal to a container's process", ArgsUsage: "CONTAINER [SIGNAL]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Value: "SIGTERM", Usage: "`SIGNAL`, name or number"},
			&cli.StringFlag{Name: "exec-id", Usage: "`ID` of a process executed in it"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "to every process of the container"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 2, "CONTAINER [SIGNAL]"); err != nil {
				return err
			}
			name := c.String("signal")
			if c.NArg() == 2 {
				name = c.Args().Get(1)
			}
			sig, err := spec.ParseSignal(name)
			if err != nil {
				return err
			}
			_, err = d.Processes.Signal(c.Context, &api.SignalRequest{
				Namespace: d.ns, Id: c.Args().First(), ExecId: c.String("exec-id"), Signal: int32(sig), All: c.Bool("all"),
			})
			return err
		}),
	}
}

func containerVerb(name, usage string, act func(c *cli.Context, d *daemon, r *api.ContainerRequest) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "CONTAINER...",
		Action: func(c *cli.Context) error {
			return each(c, "CONTAINER...", func(d *daemon, id string) error {
				return act(c, d, &api.ContainerRequest{Namespace: d.ns, Id: id})
			})
		},
	}
}

func tasksPauseCommand() *cli.Command {
	return containerVerb("pause", "freeze all processes of containers", func(c *cli.Context, d *daemon, r *api.ContainerRequest) error {
		_, err := d.Containers.Pause(c.Context, r)
		return err
	})
}

func tasksResumeCommand() *cli.Command {
	return containerVerb("resume", "thaw paused containers", func(c *cli.Context, d *daemon, r *api.ContainerRequest) error {
		_, err := d.Containers.Resume(c.Context, r)
		return err
	})
}

func tasksWaitCommand() *cli.Command {
	return containerVerb("wait", "wait until containers have exited, and print their codes", func(c *cli.Context, d *daemon, r *api.ContainerRequest) error {
		exit, err := d.Processes.Wait(c.Context, &api.ProcessRequest{Namespace: r.Namespace, Id: r.Id})
		if err != nil {
			return err
		}
		fmt.Fprintln(c.App.Writer, exit.Code)
		return nil
	})
}

func tasksPsCommand() *cli.Command {
	return &cli.Command{
		Name: "ps", Usage: "list the processes in a container", ArgsUsage: "CONTAINER", Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			r, err := d.Containers.Top(c.Context, &api.TopRequest{Namespace: d.ns, Id: c.Args().First()})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"PID", "IN CONTAINER", "PARENT", "USER", "RSS", "EXEC ID", "COMMAND"}, JSON: r.Processes}
			for _, p := range r.Processes {
				l.Rows = append(l.Rows, []string{fmt.Sprint(p.Pid), fmt.Sprint(p.ContainerPid), fmt.Sprint(p.Ppid), p.User,
					icli.Size(p.Rss), dash(p.ExecId), p.Command})
			}
			return l.Print(c)
		}),
	}
}

func tasksDeleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Aliases: []string{"del", "remove", "rm"}, Usage: "forget executed processes that have exited, or kill a container's first one", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill it first when it runs"},
			&cli.StringFlag{Name: "exec-id", Usage: "`ID` of a process executed in it"},
		},
		Action: func(c *cli.Context) error {
			return each(c, "CONTAINER...", func(d *daemon, id string) error { return deleteTask(c, d, id) })
		},
	}
}

func deleteTask(c *cli.Context, d *daemon, id string) error {
	p := &api.ProcessRequest{Namespace: d.ns, Id: id, ExecId: c.String("exec-id")}
	if c.Bool("force") {
		_, err := d.Processes.Signal(c.Context, &api.SignalRequest{Namespace: d.ns, Id: id, ExecId: p.ExecId, Signal: int32(unix.SIGKILL)})
		if err == nil {
			_, err = d.Processes.Wait(c.Context, p)
		}
		if err != nil {
			return err
		}
	}
	if p.ExecId == "" {
		exit, err := d.Processes.Wait(c.Context, p)
		if err == nil {
			fmt.Fprintln(c.App.Writer, exit.Code)
		}
		return err
	}
	_, err := d.Processes.Delete(c.Context, p)
	return err
}

func tasksMetricsCommand() *cli.Command {
	return &cli.Command{
		Name: "metrics", Aliases: []string{"metric", "stats"}, Usage: "print what containers use", ArgsUsage: "[CONTAINER...]",
		Flags: []cli.Flag{&cli.StringFlag{Name: "format", Aliases: []string{"output", "o"}, Value: "table", Usage: "`FORMAT`: table or json"}},
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Containers.Stats(c.Context, &api.StatsRequest{Namespace: d.ns, Ids: c.Args().Slice()})
			if err != nil {
				return err
			}
			for _, s := range r.Stats {
				if c.String("format") == "json" {
					if err := icli.PrintJSON(c.App.Writer, json.RawMessage(s.Stats)); err != nil {
						return err
					}
					continue
				}
				rows, err := flatten(s.Stats)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.App.Writer, "container", s.Id)
				if err := icli.PrintTable(c.App.Writer, []string{"METRIC", "VALUE"}, rows); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// flatten turns a JSON object into rows of dotted names and values, in the document's order.
func flatten(doc []byte) ([][]string, error) {
	var rows [][]string
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var walk func(prefix string) error
	walk = func(prefix string) error {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		open, ok := t.(json.Delim)
		if !ok {
			rows = append(rows, []string{prefix, fmt.Sprint(t)})
			return nil
		}
		for i := 0; dec.More(); i++ {
			name := strconv.Itoa(i)
			if open == '{' {
				k, err := dec.Token()
				if err != nil {
					return err
				}
				name = fmt.Sprint(k)
			}
			if prefix != "" {
				name = prefix + "." + name
			}
			if err := walk(name); err != nil {
				return err
			}
		}
		_, err = dec.Token()
		return err
	}
	return rows, walk("")
}

func tasksUpdateCommand() *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "change the limits of a container", ArgsUsage: "CONTAINER", Flags: resourceFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			r, err := resources(c)
			if err != nil {
				return err
			}
			if r == nil {
				return fmt.Errorf("update: no limit given: see minictr tasks update --help")
			}
			data, err := json.Marshal(r)
			if err != nil {
				return err
			}
			_, err = d.Containers.Update(c.Context, &api.UpdateContainerRequest{Namespace: d.ns, Id: c.Args().First(), Resources: data})
			return err
		}),
	}
}

package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/runtime/api"
)

// versions is what version prints, as docker has it.
type versions struct {
	Client clientVersion
	Server *serverVersion
}

type clientVersion struct {
	Platform          struct{ Name string }
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os, Arch          string
	BuildTime         string
	Context           string
	Experimental      bool
}

type serverVersion struct {
	Platform      struct{ Name string }
	Components    []component
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	GitCommit     string
	GoVersion     string
	Os, Arch      string
	KernelVersion string
	BuildTime     string
}

// component is a program that the daemon consists of.
type component struct {
	Name, Version string
	Details       map[string]string
}

// apiVersion is the version of the native API that this program speaks.
const apiVersion = "v1"

// serverVersion asks the daemon.
func (d *daemon) serverVersion(ctx context.Context) (*serverVersion, error) {
	v, err := d.System.Version(ctx, &api.VersionRequest{})
	if err != nil {
		return nil, err
	}
	i, err := d.System.Info(ctx, &api.InfoRequest{})
	if err != nil {
		return nil, err
	}
	s := &serverVersion{
		Version: v.Version, APIVersion: v.ApiVersion, MinAPIVersion: v.ApiVersion, GitCommit: v.Revision, GoVersion: v.GoVersion, Os: i.Os, Arch: i.Arch,
		KernelVersion: i.Kernel, Components: []component{{"Engine", v.Version, map[string]string{"GitCommit": v.Revision, "GoVersion": v.GoVersion}}},
	}
	for _, one := range i.Supervisors {
		s.Components = append(s.Components, component{"minid-supervisor", one.Version, map[string]string{"Name": one.Name}})
	}
	return s, nil
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of this program and of the daemon", Flags: []cli.Flag{templateFlag()},
		Action: func(c *cli.Context) error {
			out := versions{Client: clientVersion{
				Version: c.App.Version, APIVersion: apiVersion, DefaultAPIVersion: apiVersion, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH,
				Context: "default",
			}}
			d, err := connect(c)
			if err == nil {
				defer d.Close()
				out.Server, err = d.serverVersion(c.Context)
			}
			if text := c.String("format"); text != "" {
				if printErr := format.One(c.App.Writer, text, out); printErr != nil {
					return printErr
				}
				return err
			}
			w := c.App.Writer
			fmt.Fprintf(w, "Client:\n Version:           %s\n API version:       %s\n Go version:        %s\n OS/Arch:           %s/%s\n",
				out.Client.Version, out.Client.APIVersion, out.Client.GoVersion, out.Client.Os, out.Client.Arch)
			if s := out.Server; s != nil {
				fmt.Fprintf(w, "\nServer:\n Engine:\n  Version:          %s\n  API version:      %s\n  Go version:       %s\n  Git commit:       %s\n  OS/Arch:          %s/%s\n  Kernel version:   %s\n",
					s.Version, s.APIVersion, s.GoVersion, s.GitCommit, s.Os, s.Arch, s.KernelVersion)
			}
			return err
		},
	}
}

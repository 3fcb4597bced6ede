package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/google/uuid"
	"github.com/invopop/jsonschema"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

// readConfig reads a JSON or YAML file into a message, by the field names of the CRI. What is not a field is told: it
// may be a slip of the pen.
func readConfig(c *cli.Context, name string, into any) error {
	data, err := os.ReadFile(name)
	if name == "-" {
		data, err = io.ReadAll(os.Stdin)
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("configuration %s: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		warn(c, "configuration %s: %v", name, err)
	}
	return nil
}

func readPodConfig(c *cli.Context, name string) (*cri.PodSandboxConfig, error) {
	config := &cri.PodSandboxConfig{}
	if err := readConfig(c, name, config); err != nil {
		return nil, err
	}
	if m := config.Metadata; m.GetName() == "" || m.GetNamespace() == "" {
		return nil, fmt.Errorf("pod configuration %s: metadata.name and metadata.namespace are wanted: %w", name, errdefs.ErrInvalidArgument)
	}
	if config.Metadata.Uid == "" {
		config.Metadata.Uid = uuid.NewString()
	}
	return config, nil
}

func readContainerConfig(c *cli.Context, name string) (*cri.ContainerConfig, error) {
	config := &cri.ContainerConfig{}
	if err := readConfig(c, name, config); err != nil {
		return nil, err
	}
	if config.GetMetadata().GetName() == "" || config.GetImage().GetImage() == "" {
		return nil, fmt.Errorf("container configuration %s: metadata.name and image.image are wanted: %w", name, errdefs.ErrInvalidArgument)
	}
	if config.Image.UserSpecifiedImage == "" {
		config.Image.UserSpecifiedImage = config.Image.Image
	}
	return config, nil
}

// printSchema prints the JSON schema of a message, as readConfig reads it.
func printSchema(w io.Writer, message any) error {
	schema := jsonschema.Reflect(message)
	if pair := schema.Definitions["KeyValue"]; pair != nil {
		// Its bytes are read as text, not in base64 (the message has a JSON form of its own).
		if value, ok := pair.Properties.Get("value"); ok {
			value.ContentEncoding = ""
		}
	}
	data, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(data))
	return err
}

func podSchemaCommand() *cli.Command {
	return &cli.Command{
		Name: "jsonschema", Aliases: []string{"js"}, Usage: "print the JSON schema of a pod's configuration",
		Action: noArgs(func(c *cli.Context) error { return printSchema(c.App.Writer, &cri.PodSandboxConfig{}) }),
	}
}

func bothSchemasCommand() *cli.Command {
	return &cli.Command{
		Name: "jsonschema", Aliases: []string{"js"}, Usage: "print the JSON schema of a pod's or a container's configuration",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "pod", Aliases: []string{"p"}, Usage: "that of pods"},
			&cli.BoolFlag{Name: "container", Aliases: []string{"c"}, Usage: "that of containers"},
		},
		Action: noArgs(func(c *cli.Context) error {
			if !c.Bool("pod") && !c.Bool("container") {
				return fmt.Errorf("which schema: --pod or --container? %w", errdefs.ErrInvalidArgument)
			}
			if c.Bool("pod") {
				if err := printSchema(c.App.Writer, &cri.PodSandboxConfig{}); err != nil {
					return err
				}
			}
			if c.Bool("container") {
				return printSchema(c.App.Writer, &cri.ContainerConfig{})
			}
			return nil
		}),
	}
}

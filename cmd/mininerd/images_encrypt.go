package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/api"
)

func imageEncryptCommand() *cli.Command {
	return &cli.Command{
		Name: "encrypt", Usage: "make an image whose layers only recipients can open", ArgsUsage: "SOURCE TARGET",
		Flags: append(platformFlags(),
			&cli.StringSliceFlag{Name: "recipient", Usage: "jwe:`FILE` with a public key, pkcs7:FILE with a certificate, or provider:NAME; may be repeated"}),
		Action: with(2, 2, "SOURCE TARGET", func(c *cli.Context, d *daemon) error {
			recipients, err := recipients(c.StringSlice("recipient"))
			if err != nil {
				return err
			}
			return convertImage(c, d, &api.ConvertRequest{EncryptFor: recipients})
		}),
	}
}

func imageDecryptCommand() *cli.Command {
	return &cli.Command{
		Name: "decrypt", Usage: "make an image of an encrypted one, with plain layers", ArgsUsage: "SOURCE TARGET",
		Flags: append(platformFlags(),
			&cli.StringSliceFlag{Name: "key", Usage: "a private key's `FILE`, besides those that the daemon has; may be repeated"}),
		Action: with(2, 2, "SOURCE TARGET", func(c *cli.Context, d *daemon) error {
			var keys [][]byte
			for _, file := range c.StringSlice("key") {
				data, err := os.ReadFile(file)
				if err != nil {
					return fmt.Errorf("--key: %w", err)
				}
				keys = append(keys, data)
			}
			return convertImage(c, d, &api.ConvertRequest{Decrypt: true, PrivateKeys: keys})
		}),
	}
}

// convertImage makes the second argument's image of the first's, and prints its digest.
func convertImage(c *cli.Context, d *daemon, r *api.ConvertRequest) error {
	target, err := name.Parse(c.Args().Get(1))
	if err != nil {
		return err
	}
	r.Namespace, r.Source, r.Target = d.ns, c.Args().First(), target.String()
	r.Platforms, r.AllPlatforms = c.StringSlice("platform"), c.Bool("all-platforms")
	i, err := d.Images.Convert(c.Context, r)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, i.GetTarget().GetDigest())
	return nil
}

// recipients reads the values of --recipient; the files are this machine's, whoever the daemon is.
func recipients(values []string) ([]*api.Recipient, error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("name at least one --recipient: jwe:FILE, pkcs7:FILE or provider:NAME: %w", errdefs.ErrInvalidArgument)
	}
	var list []*api.Recipient
	for _, v := range values {
		kind, value, _ := strings.Cut(v, ":")
		r := &api.Recipient{Kind: kind, Data: []byte(value)}
		switch kind {
		case "jwe", "pkcs7":
			data, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("--recipient %s: %w", v, err)
			}
			r.Data = data
		case "provider":
		default:
			return nil, fmt.Errorf("--recipient %q: want jwe:FILE, pkcs7:FILE or provider:NAME: %w", v, errdefs.ErrInvalidArgument)
		}
		list = append(list, r)
	}
	return list, nil
}

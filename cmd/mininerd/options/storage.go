package options

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func storageFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "storage-opt", Usage: "`size=SIZE` of the root filesystem, where the snapshotter bounds it (blockfile, devmapper)"},
	}
}

// storage reads --storage-opt.
func storage(f Flags, r *spec.Request, _ *api.CreateContainerRequest) (err error) {
	for _, o := range f.StringSlice("storage-opt") {
		key, value, valued := strings.Cut(o, "=")
		if !strings.EqualFold(key, "size") || !valued {
			return invalid("--storage-opt %s: unknown option: write size=SIZE", o)
		}
		if r.RootfsSize, err = sizeOf("storage-opt", value); err != nil {
			return err
		}
	}
	return nil
}

package options

import (
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// RefusedFlag is a flag of docker's or nerdctl's that is known and not had. It is not in the help; who gives it is told why.
func RefusedFlag(name, why string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Hidden: true, Action: func(*cli.Context, []string) error {
		return refusal(name, why)
	}}
}

// refusal has the code of a wrong flag.
func refusal(name, why string) error {
	return icli.CodedError{Err: fmt.Errorf("--%s: %s: %w", name, why, errdefs.ErrInvalidArgument), Code: icli.CodeDaemon}
}

// RefusedSwitch is a RefusedFlag without a value.
func RefusedSwitch(name, why string) cli.Flag {
	return &cli.BoolFlag{Name: name, Hidden: true, Action: func(_ *cli.Context, on bool) error {
		if !on {
			return nil
		}
		return refusal(name, why)
	}}
}

// SilentSwitch is a flag without a value that changes nothing here, and is taken so that scripts go on.
func SilentSwitch(name string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Hidden: true}
}

// platformFlags are those of run and create that only other platforms and other registries have.
func platformFlags() []cli.Flag {
	const windows = "it is for Windows: use --cpus, --device-read-bps and the like"
	return append(TrustFlags(),
		&cli.StringFlag{Name: "isolation", Hidden: true, Usage: "`TECHNOLOGY`: default"},
		KernelMemoryFlag(),
		RefusedFlag("cpu-count", windows), RefusedFlag("cpu-percent", windows), RefusedFlag("io-maxbandwidth", windows), RefusedFlag("io-maxiops", windows),
		RefusedSwitch("use-api-socket", "the daemon has no socket of docker's API; to give a container the daemon's own, mount it by -v"),
	)
}

// TrustFlags are nerdctl's and docker's of who may have made an image.
func TrustFlags() []cli.Flag {
	const notYet = "there is no such thing yet: images are verified by the daemon's own configuration"
	return []cli.Flag{
		RefusedFlag("ipfs-address", notYet), RefusedFlag("verify", notYet), RefusedFlag("cosign-key", notYet),
		RefusedFlag("cosign-certificate-identity", notYet), RefusedFlag("cosign-certificate-identity-regexp", notYet),
		RefusedFlag("cosign-certificate-oidc-issuer", notYet), RefusedFlag("cosign-certificate-oidc-issuer-regexp", notYet),
		SilentSwitch("disable-content-trust"),
	}
}

// checkPlatform refuses what only other platforms have.
func checkPlatform(f Flags) error {
	if i := f.String("isolation"); i != "" && i != "default" {
		return invalid("--isolation %s: on Linux there is only default", i)
	}
	if err := CheckDiscarded(f); err != nil {
		return err
	}
	return nil
}

// KernelMemoryFlag is taken and discarded.
func KernelMemoryFlag() cli.Flag {
	return &cli.StringFlag{Name: "kernel-memory", Hidden: true, Usage: "`SIZE`; Linux has no such limit since 5.16"}
}

// CheckDiscarded refuses what is wrong even in a flag that has no effect.
func CheckDiscarded(f Flags) error {
	m := f.String("kernel-memory")
	if m == "" {
		return nil
	}
	_, err := sizeOf("kernel-memory", m)
	return err
}

// Discarded are the warnings for flags that have no effect on this kernel.
func Discarded(f Flags) []string {
	if n, err := strconv.ParseInt(f.String("kernel-memory"), 10, 64); f.String("kernel-memory") != "" && (err != nil || n != 0) {
		return []string{"the kernel has no limit for its own memory: --kernel-memory is discarded"}
	}
	return nil
}

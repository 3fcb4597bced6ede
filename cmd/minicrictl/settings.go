package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
)

const (
	defaultConfigPath = "/etc/crictl.yaml"
	defaultTimeout    = 2 * time.Second
	// answerTime is how long a question to the runtime may take where nobody said how long: a runtime that hangs is
	// told, and one that is slow is not given up.
	answerTime     = time.Minute
	defaultRetries = 3
)

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, EnvVars: []string{"CRI_CONFIG_FILE"}, Value: defaultConfigPath, TakesFile: true,
			Usage: "configuration `FILE`; without the default one, crictl.yaml beside this program is read"},
		&cli.StringFlag{Name: "runtime-endpoint", Aliases: []string{"r"}, EnvVars: []string{"CONTAINER_RUNTIME_ENDPOINT"},
			Usage: "`SOCKET` of the runtime, as unix:///run/minid/minid.sock; by default the first one that exists and answers"},
		&cli.StringFlag{Name: "image-endpoint", Aliases: []string{"i"}, EnvVars: []string{"IMAGE_SERVICE_ENDPOINT"},
			Usage: "`SOCKET` of the image service; by default the runtime's"},
		&cli.DurationFlag{Name: "timeout", Aliases: []string{"t"}, Value: defaultTimeout,
			Usage: "how long connecting may take, and each question when it is given; 0 or less: the default"},
		&cli.IntFlag{Name: "max-retries", Value: defaultRetries, Usage: "how often a call that can be repeated is repeated when the runtime is not available"},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"D"}, Usage: "print each call to the runtime, its answer, and how long it took"},
		&cli.BoolFlag{Name: "enable-tracing", Usage: "send OpenTelemetry traces of the calls"},
		&cli.StringFlag{Name: "tracing-endpoint", Value: "127.0.0.1:4317", Usage: "`ADDRESS` of the collector of traces (OTLP over gRPC)"},
		&cli.IntFlag{Name: "tracing-sampling-rate-per-million", Value: -1, Usage: "how many of a million traces are sent; -1: all"},
		&cli.StringFlag{Name: "profile-cpu", Usage: "write a CPU profile to `FILE`", TakesFile: true},
		&cli.StringFlag{Name: "profile-mem", Usage: "write a heap profile to `FILE`", TakesFile: true},
	}
}

// settings are what the global flags, the environment and the configuration file say together.
type settings struct {
	RuntimeEndpoint, ImageEndpoint string // as written; empty: not set
	Timeout                        time.Duration
	AnswerTime                     time.Duration // the limit of each question
	Debug                          bool
	PullOnCreate, NoPullOnRun      bool
	MaxRetries                     int
}

// given are the global flags as far as settings depend on them.
type given struct {
	runtime, image *string // nil: neither flag nor environment
	timeout        *time.Duration
	debug          *bool
	retries        int
}

// global is the context of the application's own flags: commands have some of the same names.
func global(c *cli.Context) *cli.Context {
	all := c.Lineage()
	return all[max(0, len(all)-2)] // the last one is urfave's root, without flags
}

func readGiven(c *cli.Context) given {
	c = global(c)
	g := given{retries: c.Int("max-retries")}
	if c.IsSet("runtime-endpoint") {
		v := c.String("runtime-endpoint")
		g.runtime = &v
	}
	if c.IsSet("image-endpoint") {
		v := c.String("image-endpoint")
		g.image = &v
	}
	if c.IsSet("timeout") {
		v := c.Duration("timeout")
		g.timeout = &v
	}
	if c.IsSet("debug") {
		v := c.Bool("debug")
		g.debug = &v
	}
	return g
}

// merge decides: flag or environment before file before default.
func merge(g given, f fileValues) (settings, error) {
	s := settings{
		RuntimeEndpoint: f.RuntimeEndpoint, ImageEndpoint: f.ImageEndpoint, Debug: f.Debug,
		PullOnCreate: f.PullImageOnCreate, NoPullOnRun: f.DisablePullOnRun,
		Timeout: defaultTimeout, AnswerTime: answerTime, MaxRetries: max(0, g.retries),
	}
	if f.Timeout > 0 {
		s.Timeout, s.AnswerTime = f.Timeout, f.Timeout
	}
	if g.timeout != nil {
		if *g.timeout > 0 {
			s.Timeout, s.AnswerTime = *g.timeout, *g.timeout
		} else {
			s.Timeout, s.AnswerTime = defaultTimeout, answerTime
		}
	}
	if g.debug != nil {
		s.Debug = *g.debug
	}
	for _, e := range []struct {
		flag  string
		given *string
		to    *string
	}{{"runtime-endpoint", g.runtime, &s.RuntimeEndpoint}, {"image-endpoint", g.image, &s.ImageEndpoint}} {
		if e.given == nil {
			continue
		}
		if *e.given == "" {
			return s, fmt.Errorf("--%s is empty: write it as unix:///path/of/the.sock, or leave it and its environment variable out: %w", e.flag, errdefs.ErrInvalidArgument)
		}
		*e.to = *e.given
	}
	return s, nil
}

// readSettings reads the configuration file and merges it with the flags.
func readSettings(c *cli.Context) (settings, error) {
	name, err := configFile(c)
	if err != nil {
		return settings{}, err
	}
	var f fileValues
	if name != "" {
		doc, err := readDocument(name)
		if err != nil {
			return settings{}, err
		}
		if f, err = doc.values(); err != nil {
			return settings{}, fmt.Errorf("configuration %s: %w", name, err)
		}
	}
	return merge(readGiven(c), f)
}

// configFile is the configuration file that is there: the one that was asked for, or the default, or crictl.yaml beside
// this program; empty for none.
func configFile(c *cli.Context) (string, error) {
	c = global(c)
	name := c.String("config")
	_, err := os.Stat(name)
	if err == nil {
		return name, nil
	}
	if !os.IsNotExist(err) {
		return "", fmt.Errorf("configuration: %w", err)
	}
	if self, selfErr := os.Executable(); selfErr == nil {
		beside := filepath.Join(filepath.Dir(self), "crictl.yaml")
		if _, besideErr := os.Stat(beside); besideErr == nil {
			if c.IsSet("config") {
				warn(c, "configuration %s does not exist: %s is read instead", name, beside)
			}
			return beside, nil
		}
	}
	if c.IsSet("config") {
		return "", fmt.Errorf("configuration %s does not exist: %s --config %s config --set KEY=VALUE makes it: %w", name, program, name, errdefs.ErrNotFound)
	}
	return "", nil
}

// warn says on the standard error what a person should know.
func warn(c *cli.Context, format string, args ...any) {
	fmt.Fprintln(c.App.ErrWriter, "warning: "+fmt.Sprintf(format, args...))
}

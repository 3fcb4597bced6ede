package limits

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

func read(t *testing.T, line string) (text string, err error) {
	t.Helper()
	app := cli.NewApp()
	app.Flags = List("c")
	app.Action = func(c *cli.Context) error {
		r := &specs.LinuxResources{}
		if err := Read(c, r); err != nil {
			return err
		}
		data, err := json.Marshal(r)
		text = string(data)
		return err
	}
	err = app.Run(append([]string{"x"}, strings.Fields(line)...))
	return text, err
}

func TestRead(t *testing.T) {
	for line, want := range map[string]string{
		"":                                     `{}`,
		"--cpus 1.5 -c 512":                    `{"cpu":{"shares":512,"quota":150000,"period":100000}}`,
		"--cpu-quota -1 --cpu-period 5000":     `{"cpu":{"quota":-1,"period":5000}}`,
		"--cpuset-cpus 0-1 --cpuset-mems 0":    `{"cpu":{"cpus":"0-1","mems":"0"}}`,
		"--cpu-rt-period 5 --cpu-rt-runtime 4": `{"cpu":{"realtimeRuntime":4,"realtimePeriod":5}}`,
		"--pids-limit 7":                       `{"pids":{"limit":7}}`,
		"--pids-limit -5":                      `{"pids":{"limit":-1}}`,
	} {
		if got, err := read(t, line); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		"--cpus 1 --cpu-quota 5":  "conflicting options",
		"--cpus 1 --cpu-period 5": "conflicting options",
		"--cpus 0.001":            "from 0.01 up",
	} {
		if _, err := read(t, line); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

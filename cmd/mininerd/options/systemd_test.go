package options

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/view"
)

// TestProcessModes has what prepares a container for one program, and what of its security stands beside it.
func TestProcessModes(t *testing.T) {
	for line, want := range map[string][]string{
		"--systemd always x":                                        {`"/run":"exec"`, `"/run/lock":"exec"`, `"stopSignal":"RTMIN+3"`, `"cgroupWritable":true`, `"cgroup":"private"`, `container=mini`},
		"--systemd true x /sbin/init":                               {`"stopSignal":"RTMIN+3"`},
		"--systemd true --entrypoint systemd x":                     {`"stopSignal":"RTMIN+3"`},
		"--systemd true x sh":                                       {`{"args":["sh"],"allowNewPrivileges":true}`},
		"--systemd=always --stop-signal TERM x":                     {`"stopSignal":"TERM"`},
		"--systemd=always --tmpfs /run:size=1m x":                   {`"/run":"size=1m"`},
		"--ipc none x":                                              {`"noShm":true`, `"ipc":"private"`},
		"--security-opt label=type:t x":                             {`"selinuxOptions":["type:t"]`},
		"--security-opt label:level:s1 x":                           {`"selinuxOptions":["level:s1"]`},
		"--security-opt label=user:u --security-opt label=role:r x": {`"selinuxOptions":["user:u","role:r"]`},
		"--security-opt writable-cgroups x":                         {`"cgroupWritable":true`, `"cgroup":"private"`},
		"--security-opt writable-cgroups=false x":                   {`{"allowNewPrivileges":true}`},
		"--rootfs /some/dir sh":                                     {`"args":["sh"]`, `"rootfs":"/some/dir"`},
		"--isolation default --runtime runc x":                      {`{"allowNewPrivileges":true}`},
		"--gpus 2 x":                                                {`["nvidia.com/gpu=0","nvidia.com/gpu=1"]`},
		`--gpus "device=0,1",capabilities=video x`:                  {`["nvidia.com/gpu=0","nvidia.com/gpu=1"]`},
		"--storage-opt size=1g x":                                   {`"rootfsSize":1073741824`},
		"--gpus driver=amd,count=all x":                             {`["amd.com/gpu=all"]`},
	} {
		r, err := translate(t, strings.Split(line, " ")...)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(string(r.Request), part) {
				t.Errorf("%s: no %s in %s", line, part, r.Request)
			}
		}
	}
	for line, want := range map[string]string{
		"--systemd maybe x":                   "use always, true or false",
		"--isolation hyperv x":                "only default",
		"--storage-opt quota=1g x":            "unknown option",
		"--storage-opt size=big x":            "write a size",
		"--cpu-count 2 x":                     "Windows",
		"--use-api-socket x":                  "no socket of docker's API",
		"--init-binary /tini x":               "give --init too",
		"--kernel-memory lots x":              "write a size",
		"--security-opt label=what:x x":       "invalid --security-opt",
		"--gpus 0 x":                          "use all or a number",
		"--gpus count=1,device=GPU-1 x":       "cannot set both",
		"--verify cosign x":                   "no such thing yet",
		"--security-opt writable-cgroups=x x": "invalid --security-opt",
	} {
		if _, err := translate(t, strings.Split(line, " ")...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// TestAsked compares what inspect will say again of a command line.
func TestAsked(t *testing.T) {
	seconds := int64(0)
	for line, want := range map[string]view.Asked{
		"x": {},
		"--cpus 0.5 --ipc shareable -v /a:/b:ro -v /c --link a:b --stop-timeout 0 x": {
			NanoCPUs: 5e8, IPC: "shareable", Binds: []string{"/a:/b:ro"}, Links: []string{"a:b"}, StopTimeout: &seconds,
		},
		"--gpus all --security-opt no-new-privileges x": {
			DeviceRequests: []view.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}, Options: map[string]string{}}},
			SecurityOpt:    []string{"no-new-privileges"},
		},
		"--mount type=bind,src=/a,dst=/b,ro,bind-propagation=rslave --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 x": {Mounts: []view.AskedMount{
			{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, BindOptions: &view.AskedBindOptions{Propagation: "rslave"}},
			{Type: "tmpfs", Target: "/t", TmpfsOptions: &view.AskedTmpfsOptions{SizeBytes: 1 << 20, Mode: 0o700}},
		}},
		"--mount src=data,dst=/d,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=type=nfs x": {Mounts: []view.AskedMount{
			{Type: "volume", Source: "data", Target: "/d", VolumeOptions: &view.AskedVolumeOptions{
				NoCopy: true, Labels: map[string]string{"a": "b"}, DriverConfig: &view.AskedDriver{Name: "local", Options: map[string]string{"type": "nfs"}},
			}},
		}},
	} {
		var got view.Asked
		app := cli.NewApp()
		app.HideHelp, app.DisableSliceFlagSeparator, app.Flags = true, true, ContainerFlags()
		app.Action = func(c *cli.Context) (err error) {
			got, err = Asked(c)
			return err
		}
		if err := app.RunContext(t.Context(), append([]string{"app"}, strings.Split(line, " ")...)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s:\n%s, want\n%s", line, a, b)
		}
	}
}

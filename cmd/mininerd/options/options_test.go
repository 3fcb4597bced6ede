package options

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// translate reads a command line of flags, the image and what is behind it.
func translate(t *testing.T, args ...string) (*api.CreateContainerRequest, error) {
	t.Helper()
	var out *api.CreateContainerRequest
	app := cli.NewApp()
	app.HideHelp, app.DisableSliceFlagSeparator, app.UseShortOptionHandling = true, true, true
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.Writer, app.ErrWriter = &strings.Builder{}, &strings.Builder{}
	app.Flags = ContainerFlags()
	app.Action = func(c *cli.Context) (err error) {
		out, err = ContainerRequest(c, c.Args().First(), c.Args().Tail(), nil)
		return err
	}
	err := app.RunContext(t.Context(), append([]string{"app"}, args...))
	return out, err
}

// compact is JSON of a message without what every request has.
func compact(t *testing.T, r *api.CreateContainerRequest) string {
	t.Helper()
	data, err := protojson.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "request")
	if data, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRequests wants parts of the request of a command line: of the message, or of the spec's request.
func TestRequests(t *testing.T) {
	t.Setenv("HERE", "there")
	for line, want := range map[string][]string{
		"img a -b":                     {`"args":["a","-b"]`, `"image":"img"`, `"generateName":true`, `"networkMode":"bridge"`, `"name":"no"`, `"allowNewPrivileges":true`},
		"-i -t img":                    {`"stdin":true`, `"terminal":true`},
		"-e A=b -e HERE -e NOWHERE x":  {`"env":["A=b","HERE=there"]`},
		"-w /w -u 1:2 --group-add g x": {`"cwd":"/w"`, `"user":"1:2"`, `"groups":["g"]`},
		"--entrypoint= x":              {`"entrypoint":[]`},
		"--entrypoint sh x -c":         {`"entrypoint":["sh"]`, `"args":["-c"]`},
		"--stop-timeout 3 --stop-signal INT --init --runtime crun --platform linux/arm64 x": {`"stopTimeout":"3000000000"`, `"stopSignal":"INT"`, `"init":true`, `"runtime":"crun"`, `"platform":"linux/arm64"`},
		"--restart on-failure:3 x":                                           {`"restart":{"maxRetries":3,"name":"on-failure"}`},
		"--restart always x":                                                 {`"restart":{"name":"always"}`},
		"--name n -h host --domainname d -l a=b -l c x":                      {`"name":"n"`, `"hostname":"host"`, `"domainname":"d"`, `"labels":{"a":"b","c":""}`},
		"--annotation a=b=c x":                                               {`"annotations":{"a":"b=c"}`},
		"-v /a:/b -v /c:/d:ro,rslave x":                                      {`{"type":"bind","source":"/a","target":"/b","options":["rbind"],"createSource":true}`, `{"type":"bind","source":"/c","target":"/d","options":["rbind","ro","rslave"],"createSource":true}`},
		"--mount type=bind,src=/a,dst=/b,readonly,bind-propagation=shared x": {`{"type":"bind","source":"/a","target":"/b","options":["rbind","ro","shared"]}`},
		"--mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700 x":        {`{"type":"tmpfs","target":"/t","options":["size=1048576","mode=700"]}`},
		"--mount type=image,source=busybox,target=/i,image-subpath=bin x":    {`{"type":"image","source":"busybox","target":"/i","subPath":"bin"}`},
		"-v data:/b:ro,nocopy -v /c --volume-driver local x":                 {`{"type":"volume","source":"data","target":"/b","options":["rbind","ro"],"volume":{"driver":"local","noCopy":true}}`, `{"type":"volume","target":"/c","options":["rbind"],"volume":{"driver":"local"}}`},
		"--volumes-from a --volumes-from b:ro x":                             {`"volumesFrom":["a","b:ro"]`, `"imageVolumes":"copy"`},
		"--mount src=data,dst=/a,volume-nocopy,volume-label=k=v,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-subpath=s,ro x": {`{"type":"volume","source":"data","target":"/a","options":["rbind","ro"],"subPath":"s","volume":{"driver":"local","options":{"device":"tmpfs","type":"tmpfs"},"labels":{"k":"v"},"noCopy":true}}`},
		"--mount type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate x":                                                         {`"options":["rbind","ro","rro","rprivate"]`},
		"--tmpfs /t:size=1m --tmpfs /u --read-only --shm-size 1m x":                                                                                      {`"tmpfs":{"/t":"size=1m","/u":""}`, `"readOnly":true`, `"shmSize":1048576`},
		"--device /dev/null:/dev/x:r --device /dev/zero:rw --device v/c=d --gpus all x":                                                                  {`"devices":[{"source":"/dev/null","target":"/dev/x","permissions":"r"},{"source":"/dev/zero","permissions":"rw"}]`, `"cdiDevices":["v/c=d","nvidia.com/gpu=all"]`},
		"--gpus device=0,1 x":                        {`"cdiDevices":["nvidia.com/gpu=0","nvidia.com/gpu=1"]`},
		"-p 80 x":                                    {`"ports":[{"containerPort":80,"protocol":"tcp"}]`},
		"-p 8080:80/udp x":                           {`"ports":[{"containerPort":80,"hostPort":8080,"protocol":"udp"}]`},
		"-p 127.0.0.1::80 x":                         {`"ports":[{"containerPort":80,"hostIp":"127.0.0.1","protocol":"tcp"}]`},
		"-p [::1]:8080:80 x":                         {`"hostIp":"::1"`, `"hostPort":8080`},
		"-p 8000-8001:80-81 x":                       {`"ports":[{"containerPort":80,"hostPort":8000,"protocol":"tcp"},{"containerPort":81,"hostPort":8001,"protocol":"tcp"}]`},
		"-p target=80,published=8080,protocol=udp x": {`"ports":[{"containerPort":80,"hostPort":8080,"protocol":"udp"}]`},
		"-P --expose 80-81/tcp x":                    {`"publishAll":true`, `"expose":["80-81/tcp"]`},
		"--network host x":                           {`"networkMode":"host"`},
		"--net none x":                               {`"networkMode":"none"`},
		"--network container:a x":                    {`"networkMode":"container:a"`},
		"--network a --ip 10.0.0.2 --network-alias b --mac-address 02:00:00:00:00:01 --link c:d x":          {`"networks":[{"aliases":["b"],"ip":"10.0.0.2","links":["c:d"],"mac":"02:00:00:00:00:01","network":"a"}]`},
		"--network a --network name=b,ip=1.2.3.4,alias=c x":                                                 {`"networks":[{"network":"a"},{"aliases":["c"],"ip":"1.2.3.4","network":"b"}]`},
		"--mac-address 02:00:00:00:00:01 x":                                                                 {`"networks":[{"mac":"02:00:00:00:00:01","network":"bridge"}]`},
		"--dns 1.1.1.1 --dns-search a.b --dns-opt ndots:1 --add-host h:1.2.3.4 --add-host g=host-gateway x": {`"dns":{"options":["ndots:1"],"searches":["a.b"],"servers":["1.1.1.1"]}`, `"extraHosts":["h:1.2.3.4","g:host-gateway"]`},
		"-m 64m x": {`"memory":{"limit":67108864,"swap":134217728}`},
		"-m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 5 --oom-kill-disable x":         {`"limit":67108864,"reservation":33554432,"swap":-1,"swappiness":5,"disableOOMKiller":true`},
		"--cpus 1.5 --cpu-shares 512 --cpuset-cpus 0-1 --cpuset-mems 0 x":                                     {`"cpu":{"shares":512,"quota":150000,"period":100000,"cpus":"0-1","mems":"0"}`},
		"--cpu-quota 5000 --cpu-period 10000 x":                                                               {`"quota":5000,"period":10000`},
		"--pids-limit 5 --blkio-weight 100 x":                                                                 {`"pids":{"limit":5}`, `"weight":100`},
		"--device-read-bps /dev/null:1m --device-write-iops /dev/zero:7 x":                                    {`"blockLimits":[{"path":"/dev/null","readBps":1048576},{"path":"/dev/zero","writeIops":7}]`},
		"--ulimit nofile=1:2 --ulimit core=0 --oom-score-adj -5 --cgroup-parent /p x":                         {`"rlimits":[{"type":"RLIMIT_NOFILE","hard":2,"soft":1},{"type":"RLIMIT_CORE","hard":0,"soft":0}]`, `"oomScoreAdj":-5`, `"cgroupParent":"/p"`},
		"--cap-add NET_ADMIN --cap-drop ALL --privileged x":                                                   {`"capAdd":["NET_ADMIN"]`, `"capDrop":["ALL"]`, `"privileged":true`},
		"--security-opt seccomp=unconfined --security-opt apparmor=p --security-opt systempaths=unconfined x": {`"seccomp":"unconfined"`, `"apparmor":"p"`, `"maskedPaths":[]`},
		"--pid host --ipc container:a --uts host --userns host --cgroupns private --sysctl a.b=c x":           {`"namespaces":{"cgroup":"private","ipc":"container:a","pid":"host","user":"host","uts":"host"}`, `"sysctls":{"a.b":"c"}`},
		"--health-cmd true --health-interval 1s --health-retries 2 x":                                         {`"health":{"interval":"1000000000","retries":2,"test":["CMD-SHELL","true"]}`},
		"--no-healthcheck x":                           {`"health":{"test":["NONE"]}`},
		"--log-opt max-size=1m --log-opt max-file=3 x": {`"log":{"options":{"max-file":"3","max-size":"1m"}}`},
		"--log-driver none x":                          {`"log":{"driver":"none"}`},
	} {
		r, err := translate(t, strings.Split(line, " ")...)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		all := compact(t, r) + string(r.Request)
		for _, part := range want {
			if !strings.Contains(all, part) {
				t.Errorf("%s: no %s in\n%s", line, part, all)
			}
		}
	}
	r, err := translate(t, "--security-opt", "no-new-privileges", "x")
	if err != nil || strings.Contains(string(r.Request), "allowNewPrivileges") {
		t.Errorf("no-new-privileges: %s, %v", r.GetRequest(), err)
	}
}

// TestVolumes has the forms of -v, and those that are none.
func TestVolumes(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"/a:/b":              "bind /a /b [rbind] true",
		"/a/../c:/b:rw":      "bind /c /b [rbind] true",
		"./a:/b":             "bind " + here + "/a /b [rbind] true",
		"..:/b:z":            "bind " + filepath.Dir(here) + " /b [rbind] true",
		"/a:/b:rro,bind":     "bind /a /b [bind rro] true",
		"/a:/b:cached":       "bind /a /b [rbind] true",
		"data:/b":            "volume data /b [rbind] false",
		"data:/b:ro,Z":       "volume data /b [rbind ro] false",
		".hidden:/b":         "volume .hidden /b [rbind] false", // which the daemon refuses
		"/b":                 "volume  /b [rbind] false",
		"":                   "invalid volume specification",
		":/b":                "invalid volume specification",
		"/a:":                "invalid volume specification",
		"/a:ro":              "invalid volume specification: '/a:ro'",
		"/a:/b:ro:rw":        "invalid volume specification",
		"data":               "absolute path other than /",
		"/a:b":               "absolute path other than /",
		"/a:/":               "absolute path other than /",
		"/":                  "absolute path other than /",
		"/a:/b:ro,rw":        "invalid mode: ro,rw",
		"/a:/b:z,Z":          "invalid mode: z,Z",
		"/a:/b:shared,slave": "invalid mode",
		"/a:/b:nocopy":       "invalid mode: nocopy",
		"data:/b:rshared":    "invalid mode: rshared",
		"data:/b:bind":       "invalid mode: bind",
		"/a:/b:fast":         "invalid mode: fast",
	} {
		m, err := Volume(text)
		got := fmt.Sprint(m.Type, " ", m.Source, " ", m.Target, " ", m.Options, " ", m.CreateSource)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// FuzzMounts wants what is accepted to have a target, and a source where it needs one.
func FuzzMounts(f *testing.F) {
	for _, text := range []string{
		"/a:/b:ro", "data:/b", "/c", "./x:/y:nocopy", "type=bind,src=/a,dst=/b", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
		`type=volume,dst=/v,"volume-opt=o=size=1m,uid=1"`, "dst=/v,volume-label=a", "type=image,src=i,dst=/i,image-subpath=x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(string) (spec.Mount, error){Volume, Mount} {
			m, err := read(text)
			if err != nil {
				continue
			}
			if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
				t.Errorf("%q: target %q", text, m.Target)
			}
			switch m.Type {
			case "bind":
				if !filepath.IsAbs(m.Source) || m.Volume != nil {
					t.Errorf("%q: %+v", text, m)
				}
			case "volume":
				if m.Volume == nil {
					t.Errorf("%q: a volume that is asked nothing of", text)
				}
			case "tmpfs", "image":
			default:
				t.Errorf("%q: type %q", text, m.Type)
			}
		}
	})
}

func TestRefusedCommandLines(t *testing.T) {
	for line, want := range map[string]string{
		"--restart sometimes x":                                        "invalid restart policy",
		"--restart always:3 x":                                         "maximum retry count",
		"-v /a:/b:fast x":                                              "invalid mode: fast",
		"-v /a:b x":                                                    "absolute path",
		"--mount type=bind,dst=/a x":                                   "source is required",
		"--mount type=bind,src=a,dst=/a x":                             "mount path must be absolute",
		"--mount type=tmpfs,src=a,dst=/a x":                            "must not set source",
		"--mount type=nothing,src=a,dst=/a x":                          "mount type unknown",
		"--mount src=a x":                                              "target is required",
		"--mount src=a,dst=/ x":                                        "target is required",
		"--mount src=a,dst=/a,what x":                                  "invalid field 'what' must be a key=value pair",
		"--mount src=a,dst=/a,ro=maybe x":                              "invalid value for ro: maybe",
		"--mount src=a,dst=/a,tmpfs-size=1m x":                         "cannot mix 'tmpfs-*' options with mount type 'volume'",
		"--mount type=bind,src=/a,dst=/a,volume-nocopy x":              "cannot mix 'volume-*' options with mount type 'bind'",
		"--mount type=tmpfs,dst=/a,tmpfs-mode=9 x":                     "invalid value for tmpfs-mode",
		"--mount src=a,dst=/a,volume-opt==x x":                         "invalid value for volume-opt",
		"--mount type=bind,src=/a,dst=/a,bind-propagation=up x":        "invalid propagation mode: up",
		"--mount type=bind,src=/a,dst=/a,bind-recursive=readonly x":    "requires 'readonly'",
		"--mount type=bind,src=/a,dst=/a,ro,bind-recursive=readonly x": "requires 'bind-propagation=rprivate'",
		"-v /a:/b -v c:/b x":                                           "Duplicate mount point: /b",
		"-v /a:/b --tmpfs /b/ x":                                       "Duplicate mount point: /b",
		"-v /b --mount src=x,dst=/b x":                                 "Duplicate mount point: /b",
		"--mount type=bind,src=/a x":                                   "target is required",
		"--mount type=bind,src=/a,dst=/b,what=1 x":                     "unexpected key 'what'",
		"-p 0:x x":                          "invalid containerPort",
		"-p 70000:80 x":                     "invalid hostPort",
		"-p 80-81:80 x":                     "invalid ranges",
		"-p 80:80/ip x":                     "invalid proto: ip",
		"-p 1.2.3:80:80 x":                  "invalid IP address",
		"--network host --network a x":      "conflicting options",
		"--network host --ip 1.2.3.4 x":     "has no addresses",
		"--network container:a -p 80:80 x":  "port publishing",
		"--network name=a,what=b x":         "invalid field what",
		"--dns here x":                      "is not an ip address",
		"--add-host here x":                 "bad format for add-host",
		"-m 1m x":                           "minimum memory limit allowed is 6MB",
		"-m lots x":                         "invalid argument",
		"--memory-swap 64m x":               "set the --memory limit",
		"-m 64m --memory-swap 32m x":        "minimum --memory-swap",
		"--cpus 1 --cpu-quota 5 x":          "conflicting options",
		"--cpus 0.001 x":                    "range of CPUs",
		"--blkio-weight 5 x":                "from 10 to 1000",
		"--memory-swappiness 101 x":         "range is 0-100",
		"--oom-score-adj 2000 x":            "range for oom score adj",
		"--ulimit nofile x":                 "--ulimit nofile",
		"--device :: x":                     "invalid device specification",
		"--gpus some x":                     "use all or a number",
		"--security-opt what x":             "invalid --security-opt",
		"--security-opt seccomp=/none x":    "opening seccomp profile",
		"--pid container: x":                "invalid PID mode",
		"--uts container:a x":               "invalid UTS mode",
		"--uts host -h a x":                 "conflicting options",
		"--no-healthcheck --health-cmd a x": "conflicts with --health",
		"--health-interval -1s x":           "cannot be negative",
		"--stop-signal NONE x":              "NONE",
		"--env-file /none x":                "--env-file",
		"--label-file /none x":              "--label-file",
		"--device-cgroup-rule a x":          "invalid device cgroup format",
	} {
		if _, err := translate(t, strings.Split(line, " ")...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"env": "# remark\nA=file\nB=c d\n", "labels": "a=file\n#no=1\nb\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := translate(t, "--env-file", filepath.Join(dir, "env"), "-e", "A=flag", "--label-file", filepath.Join(dir, "labels"), "-l", "a=flag", "x")
	if err != nil || !strings.Contains(string(r.Request), `"env":["A=file","B=c d","A=flag"]`) || r.Labels["a"] != "flag" || len(r.Labels) != 2 {
		t.Errorf("%s %v, %v", r.GetRequest(), r.GetLabels(), err)
	}
}

func FuzzPorts(f *testing.F) {
	for _, seed := range []string{"80", "1-2:3-4/udp", "[::1]:80:80", "target=80,published=1", ":::", "1.2.3.4::5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := Ports([]string{text})
		if err == nil && len(ports) == 0 {
			t.Errorf("%q: no ports, no error", text)
		}
		for _, p := range ports {
			if p.ContainerPort == 0 || p.ContainerPort > 65535 || p.HostPort > 65535 {
				t.Errorf("%q: %v", text, p)
			}
		}
	})
}

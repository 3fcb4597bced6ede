package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const busyboxPath = "/bin/busybox"

// busybox is laid out as upstream's: one file with a hard link for every applet, and a small /etc.
func busybox() *layer {
	l := newLayer()
	l.dir("bin", 0o755)
	l.host(busyboxPath, "bin/[", 0o755)
	output, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil && l.err == nil {
		l.err = err
	}
	applets := strings.Fields(string(output))
	applets = append(applets, "busybox")
	slices.Sort(applets)
	for _, applet := range slices.Compact(applets) { // it lists itself; Docker refuses a layer with a name twice
		if applet != "[" {
			l.hardlink("bin/"+applet, "bin/[", 0o755)
		}
	}
	l.dir("dev", 0o755).dir("etc", 0o755)
	l.file("etc/passwd", 0o644, passwd).file("etc/group", 0o644, group)
	l.file("etc/shadow", 0o600, "root:*:::::::\napp:*:::::::\n")
	l.dir("home", 0o755).dir("root", 0o700).dir("tmp", 0o1777)
	l.dir("usr", 0o755).dir("usr/bin", 0o755).dir("usr/sbin", 0o755)
	l.symlink("usr/bin/env", "../../bin/env")
	return l.dir("var", 0o755).dir("var/spool", 0o755).dir("var/www", 0o755)
}

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
app:x:1000:1000:the application:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
`

const group = `root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
staff:x:50:app
audio:x:29:app,daemon
app:x:1000:
nogroup:x:65534:
`

func installed(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func nginx() image { return nginxOn(80) }

func nginxOn(port int) image {
	l := newLayer().program("/usr/sbin/nginx")
	l.host("/etc/nginx/mime.types", "etc/nginx/mime.types", 0o644)
	l.file("etc/nginx/nginx.conf", 0o644, strings.ReplaceAll(nginxConf, "PORT", strconv.Itoa(port)))
	l.file("usr/share/nginx/html/index.html", 0o644, "<title>Welcome to nginx!</title>\n")
	l.dir("var/log/nginx", 0o755).symlink("var/log/nginx/access.log", "/dev/stdout").symlink("var/log/nginx/error.log", "/dev/stderr")
	l.dir("var/lib/nginx", 0o755).dir("run", 0o755)
	return image{repo: "nginx", layers: of(busybox(), l), config: ocispec.ImageConfig{
		Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: map[string]struct{}{fmt.Sprintf("%d/tcp", port): {}}, StopSignal: "SIGQUIT",
	}}
}

const nginxConf = `worker_processes 1;
user www-data;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events { worker_connections 256; }
http {
    include mime.types;
    access_log /var/log/nginx/access.log;
    server {
        listen PORT;
        listen [::]:PORT;
        root /usr/share/nginx/html;
    }
}
`

func redis() image {
	l := newLayer().program("/usr/bin/redis-server", "/usr/bin/redis-cli")
	l.dir("data", 0o755)
	return image{repo: "redis", layers: of(busybox(), l), config: ocispec.ImageConfig{
		Cmd: []string{"redis-server", "--protected-mode", "no"}, WorkingDir: "/data",
		Volumes: map[string]struct{}{"/data": {}}, ExposedPorts: map[string]struct{}{"6379/tcp": {}},
	}}
}

// tools is busybox with procps' pgrep and util-linux' ipcs, which know more than the applets.
func tools() image {
	l := newLayer().program("/usr/bin/pgrep", "/usr/bin/ipcs")
	return image{repo: "tools", layers: of(busybox(), l), config: ocispec.ImageConfig{Cmd: []string{"sh"}}}
}

// pause is a sandbox image for runtimes that want one: a single static program, built here.
func pause() image {
	l := newLayer()
	if l.err = buildProgram("./test/images/pause", 0o755, l); l.err != nil {
		l.err = fmt.Errorf("build pause: %w", l.err)
	}
	return image{repo: "pause", layers: of(l), config: ocispec.ImageConfig{Entrypoint: []string{"/pause"}, User: "65535:65535"}}
}

func buildProgram(pkg string, mode int64, l *layer) error {
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	name := filepath.Base(pkg)
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return l.host(filepath.Join(dir, name), name, mode).err
}

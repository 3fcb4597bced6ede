package scenario_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// freePort is a port of the loopback that nobody listens at.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestServersRun runs nginx and redis as people do, and talks to them.
func TestServersRun(t *testing.T) {
	testenv.Image(t, "nginx")
	testenv.Image(t, "redis")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	t.Run("nginx", func(t *testing.T) { nginxServes(t, d.In(t), r.Ref("nginx")) })
	t.Run("redis", func(t *testing.T) { redisAnswers(t, d.In(t), r.Ref("redis")) })
	t.Run("tools", func(t *testing.T) {
		d := d.In(t)
		testenv.Image(t, "tools")
		d.Minictr("images", "pull", r.Ref("tools"))
		if out := d.Minictr("run", "--rm", r.Ref("tools"), "tools", "sh", "-c", "pgrep -x sh && ipcs -m | head -2"); !strings.HasPrefix(out, "1\n") {
			t.Errorf("pgrep and ipcs: %q", out)
		}
	})
}

func nginxServes(t *testing.T, d *testenv.DaemonProcess, ref string) {
	port := freePort(t)
	conf := filepath.Join(testenv.Dir(t), "nginx.conf")
	text := fmt.Sprintf("user www-data;\npid /run/nginx.pid;\nerror_log stderr notice;\nevents {}\n"+
		"http { access_log /dev/stdout; server { listen 127.0.0.1:%d; root /usr/share/nginx/html; } }\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Minictr("images", "pull", ref)
	d.Minictr("run", "-d", "--net-host", "--mount", "type=bind,src="+conf+",dst=/etc/nginx/nginx.conf,options=rbind:ro", ref, "web")
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	body := ""
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	testenv.Eventually(t, 10*time.Second, "nginx serves", func() bool {
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		body = string(data)
		return err == nil
	})
	if body != "<title>Welcome to nginx!</title>\n" {
		t.Errorf("nginx serves %q", body)
	}
	if log := d.Minictr("logs", "web"); !strings.Contains(log, "GET / HTTP/1.1\" 200") {
		t.Errorf("the request is not in the log: %s", log)
	}
	d.Minictr("tasks", "kill", "-s", "SIGQUIT", "web") // nginx' graceful stop
	if code := waitExit(t, d, "web"); code != 0 {
		t.Errorf("nginx ended with %d: %s", code, d.Minictr("logs", "web"))
	}
	d.Minictr("containers", "rm", "web")
}

func redisAnswers(t *testing.T, d *testenv.DaemonProcess, ref string) {
	port := fmt.Sprint(freePort(t))
	d.Minictr("images", "pull", ref)
	d.Minictr("run", "-d", "--net-host", ref, "db", "redis-server", "--bind", "127.0.0.1", "--port", port)
	testenv.Eventually(t, 10*time.Second, "redis answers", func() bool {
		return d.Try("exec", "db", "redis-cli", "-p", port, "PING").Stdout == "PONG\n"
	})
	d.Minictr("exec", "db", "redis-cli", "-p", port, "SET", "colour", "blue")
	if got := d.Minictr("exec", "db", "redis-cli", "-p", port, "GET", "colour"); got != "blue\n" {
		t.Errorf("redis says %q", got)
	}
	if out := d.Minictr("exec", "db", "pwd"); out != "/data\n" {
		t.Errorf("the working directory of the image is /data, not %q", out)
	}
	d.Minictr("containers", "rm", "-f", "db")
}

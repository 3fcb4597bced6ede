package scenario_test

import (
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestPullAll pulls every test image and finds the digest that was pushed.
func TestPullAll(t *testing.T) {
	images := testenv.Images(t)
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("images", "ls")
	carried := d.Minictr("content", "ls", "-q") // of the image that minid carries
	for _, i := range images {
		if i.Repo == "large" && testing.Short() {
			continue
		}
		d.Minictr("images", "pull", r.Tagged(i))
	}
	list := d.Minictr("images", "ls")
	for _, i := range images {
		if !strings.Contains(list, r.Tagged(i)) || !strings.Contains(list, i.Digest) {
			t.Errorf("%s: not listed with digest %s", i.Repo, i.Digest)
		}
	}
	for _, i := range images {
		d.Minictr("images", "rm", "--sync", r.Tagged(i))
	}
	if left := d.Minictr("content", "ls", "-q"); left != carried {
		t.Errorf("blobs after the last image was removed:\n%s\nwant:\n%s", left, carried)
	}
}

// Loopback addresses are trusted without a known authority, as containerd does, so that only the password is refused.
func TestPullTLSAndPassword(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{TLS: true, BasicAuth: true})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref := r.Ref("busybox")
	tests := []struct {
		name  string
		flags []string
		want  string // in the error; empty: it works
	}{
		{"no password", []string{"--tlscacert", r.CA}, "401"},
		{"wrong password", []string{"--tlscacert", r.CA, "--user", testenv.User + ":wrong"}, "401"},
		{"both", []string{"--tlscacert", r.CA, "--user", testenv.User + ":" + testenv.Password}, ""},
	}
	for _, test := range tests {
		o := d.Try(append(append([]string{"images", "pull"}, test.flags...), ref)...)
		if test.want == "" && o.Code != 0 || test.want != "" && (o.Code == 0 || !strings.Contains(o.Stderr, test.want)) {
			t.Errorf("%s: code %d, want %q in:\n%s", test.name, o.Code, test.want, o.Stderr)
		}
	}
}

// TestForms runs the same program from every form that an image can have.
func TestForms(t *testing.T) {
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	tests := []struct{ repo, script, want string }{
		{"busybox", "ls -i /bin/ls | cut -d' ' -f1 | grep -c .", "1"},
		{"schema2", "cat /docker", "schema 2"},
		{"schema2-list", "cat /platform", "linux/amd64"},
		{"multi", "cat /platform", "linux/amd64"},
		{"zstd", "cat /zstd", "zstd"},
		{"uncompressed", "cat /plain", "plain"},
		{"mixed", "cat /a /b", "a\nb"},
		{"layers30", "cat /count; ls /layers | wc -l", "29\n29"},
		{"whiteouts", "cd /; ls -d kept removed* replaced opaque back 2>/dev/null; find opaque back replaced -type f | sort",
			"back\nkept\nopaque\nreplaced\nback/new\nopaque/new\nreplaced/in"},
		{"hardlinks", "cd /links; stat -c '%h' a c; cat across", "2\n2\nfirst"},
		{"names", "cat /names/far /names/hard; ls /names | wc -l", "deep\ndeep\n7"},
		{"special", "cd /special; stat -c '%n %a %u:%g %F' null loop fifo setuid setgid owned sticky; stat -c %Y old precise",
			"null 666 0:0 character special file\nloop 660 0:0 block special file\nfifo 600 0:0 fifo\nsetuid 4755 0:0 regular file\n" +
				"setgid 2755 1000:50 regular file\nowned 640 1000:50 regular file\nsticky 1777 0:0 directory\n-193456000\n1700000000"},
		{"sparse", "stat -c '%s' /sparse-gnu /sparse-posix; tr -d '\\0' </sparse-gnu | wc -c; test $(du -k /sparse-posix | cut -f1) -lt 1000 && echo holes",
			"67108864\n67108864\n8192\nholes"},
	}
	for _, test := range tests {
		t.Run(test.repo, func(t *testing.T) {
			testenv.Image(t, test.repo)
			ref := r.Ref(test.repo)
			if o := d.Try("images", "pull", ref); o.Code != 0 {
				t.Fatalf("pull: %s", o.Stderr)
			}
			o := d.Try("run", "--rm", ref, "form", "sh", "-c", test.script)
			if got := strings.TrimSpace(o.Stdout); o.Code != 0 || !strings.HasPrefix(got, test.want) {
				t.Errorf("code %d, got\n%s\nwant\n%s\n%s", o.Code, got, test.want, o.Stderr)
			}
		})
	}
}

// TestUsers runs id in the images that name their user in all the ways there are.
func TestUsers(t *testing.T) {
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	tests := []struct{ repo, want, fails string }{
		{"user-numeric", "uid=1000(app) gid=1000(app) groups=29(audio),50(staff),1000(app)", ""},
		{"user-numeric-unknown", "uid=4321 gid=0(root) groups=0(root)", ""},
		{"user-name", "uid=1000(app) gid=1000(app) groups=29(audio),50(staff),1000(app)", ""},
		{"user-uid-gid", "uid=1000(app) gid=2000", ""},
		{"user-name-group", "uid=1000(app) gid=50(staff)", ""},
		{"user-name-gid", "uid=1000(app) gid=50(staff)", ""},
		{"user-uid-group", "uid=1000(app) gid=50(staff)", ""},
		{"user-root", "uid=0(root) gid=0(root)", ""},
		{"user-no-passwd", "uid=1234 gid=5678", ""},
		{"user-unknown", "", "ghost"},
		{"user-unknown-group", "", "ghosts"},
	}
	for _, test := range tests {
		t.Run(test.repo, func(t *testing.T) {
			testenv.Image(t, test.repo)
			ref := r.Ref(test.repo)
			d.Minictr("images", "pull", ref)
			o := d.Try("run", "--rm", ref, "user")
			got := sortGroups(strings.TrimSpace(o.Stdout))
			switch {
			case test.fails == "" && (o.Code != 0 || !strings.HasPrefix(got, test.want)):
				t.Errorf("code %d, got %q, want %q; %s", o.Code, got, test.want, o.Stderr)
			case test.fails != "" && (o.Code == 0 || !strings.Contains(o.Stderr, test.fails)):
				t.Errorf("code %d, stderr %q, want it to name %q", o.Code, o.Stderr, test.fails)
			}
		})
	}
}

package main

import (
	"fmt"
	"os"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The repositories of the images that the CRI's conformance suite wants, without the registries' names: of
// registry.k8s.io (and k8s.gcr.io, which is its other name) and of gcr.io. A mirror entry in the runtime's configuration
// leads here. The list is that of cri-tools 1.36: pkg/validate/consts.go, security_context_linux.go,
// multi_container_linux.go and pkg/framework.
const (
	endToEnd = "e2e-test-images/"
	staging  = "k8s-staging-cri-tools/"
)

// tagged is a recipe with the tags that the suite pulls it by.
type tagged struct {
	image
	tags []string
}

// conformance stores the images of the suite. All differ in a file, so that no two of them are one image.
func conformance(s *storage) ([]built, error) {
	var all []built
	for _, t := range suiteImages() {
		t.layers = append(t.layers, newLayer().file("etc/image", 0o644, fmt.Sprintln(t.repo, t.tags[0])).bytes)
		for _, tag := range t.tags {
			_, b, err := t.put(s, tag)
			if err != nil {
				return nil, err
			}
			all = append(all, b)
		}
	}
	return all, nil
}

func suiteImages() []tagged {
	sh := ocispec.ImageConfig{Cmd: []string{"sh"}}
	var all []tagged
	for _, c := range []struct {
		repo string
		tags []string
	}{
		{"test-image-latest", []string{"latest"}}, {"test-image-tag", []string{"test"}}, {"test-image-tag", []string{"all"}},
		{"test-image-digest", []string{"latest"}}, {"test-image-1", []string{"latest"}}, {"test-image-2", []string{"latest"}},
		{"test-image-3", []string{"latest"}}, {"test-image-tags", []string{"1", "2", "3"}},
	} {
		all = append(all, tagged{image{repo: staging + c.repo, layers: of(busybox()), config: sh}, c.tags})
	}
	for _, c := range []struct{ repo, user string }{
		{"test-image-user-uid", "1002"}, {"test-image-user-username", "www-data"},
		{"test-image-user-uid-group", "1003:1004"}, {"test-image-user-username-group", "www-data:1004"},
	} {
		config := ocispec.ImageConfig{Cmd: []string{"sh"}, User: c.user}
		all = append(all, tagged{image{repo: staging + c.repo, layers: of(busybox()), config: config}, []string{"latest"}})
	}
	sandbox, escalating := pause(), nonewprivs()
	all = append(all,
		tagged{predefinedGroup(), []string{"latest"}}, tagged{escalating, []string{"1.3"}},
		tagged{sandbox, []string{"3.9"}}, tagged{httpd(), []string{"2.4.39-4"}},
	)
	return append(all, debianImages()...)
}

// debianImages are those of packages that may be missing.
func debianImages() []tagged {
	var all []tagged
	if installed("/usr/bin/pgrep") && installed("/usr/bin/ipcs") {
		all = append(all, tagged{suiteBusybox(), []string{"1.29-2"}})
	} else {
		fmt.Fprintln(os.Stderr, "images: procps and util-linux are not installed: the conformance suite's busybox is left out")
	}
	if !installed("/usr/sbin/nginx") {
		fmt.Fprintln(os.Stderr, "images: nginx is not installed: the conformance suite's web servers are left out")
		return all
	}
	web := nginx()
	web.repo = endToEnd + "nginx"
	// The suite waits for /var/run/nginx.pid.
	web.layers = append(web.layers, newLayer().symlink("var/run", "../run").bytes)
	host := nginxOn(12003)
	host.repo = staging + "hostnet-nginx-" + runtime.GOARCH
	return append(all, tagged{web, []string{"1.14-2"}}, tagged{host, []string{"latest"}})
}

// suiteBusybox is the container that most specs run. They use two programs that Debian's busybox does not have.
func suiteBusybox() image {
	i := tools()
	i.repo = endToEnd + "busybox"
	return i
}

// predefinedGroup has a user who is in a group of the image's own.
func predefinedGroup() image {
	l := newLayer().file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home:/bin/sh\n")
	l.file("etc/group", 0o644, "root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
	return image{
		repo: staging + "test-image-predefined-group", layers: of(busybox(), l),
		config: ocispec.ImageConfig{Cmd: []string{"sh"}, User: "1000"},
	}
}

// nonewprivs is one setuid program.
func nonewprivs() image {
	l := newLayer()
	if l.err = buildProgram("./test/images/nonewprivs", 0o4755, l); l.err != nil {
		l.err = fmt.Errorf("build nonewprivs: %w", l.err)
	}
	return image{repo: endToEnd + "nonewprivs", layers: of(l), config: ocispec.ImageConfig{Entrypoint: []string{"/nonewprivs"}}}
}

// httpd is busybox's, which says its name first, as the suite expects it in the log.
func httpd() image {
	l := newLayer().file("www/index.html", 0o644, "<html><body><h1>It works!</h1></body></html>\n")
	return image{repo: endToEnd + "httpd", layers: of(busybox(), l), config: ocispec.ImageConfig{
		Cmd:          []string{"sh", "-c", "echo httpd: listening on port 80; exec httpd -f -p 80 -h /www"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}}
}

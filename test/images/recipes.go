package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// build stores all images. What needs a package that is not installed is left out, and said.
func build(s *storage) ([]built, error) {
	if !installed(busyboxPath) {
		return nil, fmt.Errorf("%s is missing: apt-get install busybox-static", busyboxPath)
	}
	var all []built
	recipes := append(singles(), users()...)
	for _, p := range []struct {
		needs  string
		recipe func() image
	}{{"/usr/sbin/nginx", nginx}, {"/usr/bin/redis-server", redis}, {"/usr/bin/pgrep", tools}} {
		if !installed(p.needs) {
			fmt.Fprintf(os.Stderr, "images: %s is not installed: its image is left out\n", p.needs)
			continue
		}
		recipes = append(recipes, p.recipe())
	}
	for _, i := range append(recipes, pause(), large()) {
		_, b, err := i.put(s, "latest")
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	for _, docker := range []bool{false, true} {
		b, err := platforms(s, docker)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	suite, err := conformance(s)
	if err != nil {
		return nil, err
	}
	all = append(all, suite...)
	return all, referrer(s, all[0])
}

// singles are the images of one platform, busybox first.
func singles() []image {
	sh := ocispec.ImageConfig{Cmd: []string{"sh"}}
	deep := []func() ([]byte, error){busybox().bytes}
	for n := 1; n < 30; n++ {
		deep = append(deep, newLayer().file(fmt.Sprintf("layers/%02d", n), 0o644, fmt.Sprintln(n)).file("count", 0o644, fmt.Sprintln(n)).bytes)
	}
	return []image{
		{repo: "busybox", layers: of(busybox()), config: sh},
		{repo: "schema2", layers: of(busybox(), newLayer().file("docker", 0o644, "schema 2\n")), config: sh, docker: true},
		{repo: "gzip", layers: of(busybox()), config: sh, compression: []string{"gzip"}},
		{repo: "zstd", layers: of(busybox(), newLayer().file("zstd", 0o644, "zstd\n")), config: sh, compression: []string{"zstd", "zstd"}},
		{repo: "uncompressed", layers: of(busybox(), newLayer().file("plain", 0o644, "plain\n")), config: sh, compression: []string{"none", "none"}},
		{repo: "mixed", layers: of(busybox(), newLayer().file("a", 0o644, "a\n"), newLayer().file("b", 0o644, "b\n")), config: sh, compression: []string{"gzip", "zstd", "none"}},
		{repo: "layers30", layers: deep, config: sh},
		{repo: "whiteouts", layers: whiteouts(), config: sh},
		{repo: "hardlinks", layers: hardlinks(), config: sh},
		{repo: "xattrs", layers: of(busybox(), xattrs()), config: sh},
		{repo: "names", layers: of(busybox(), names()), config: sh},
		{repo: "special", layers: of(busybox(), special()), config: sh},
		{repo: "sparse", layers: []func() ([]byte, error){busybox().bytes, sparse("gnu"), sparse("posix")}, config: sh},
		{repo: "volumes", layers: of(busybox(), declared()), config: ocispec.ImageConfig{Cmd: []string{"sh"}, Volumes: map[string]struct{}{"/content": {}, "/empty": {}}}},
		{repo: "config", layers: of(busybox()), config: full(), annotations: map[string]string{"org.opencontainers.image.title": "config"}},
	}
}

// full is a config with every field that a runtime reads.
func full() ocispec.ImageConfig {
	return ocispec.ImageConfig{
		Entrypoint: []string{"/bin/echo", "entrypoint"}, Cmd: []string{"cmd"}, WorkingDir: "/made/by/workdir",
		Env:     []string{"PATH=/usr/bin:/bin", "FROM_IMAGE=yes", "OVERRIDE=image"},
		Volumes: map[string]struct{}{"/volume": {}}, ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}},
		StopSignal: "SIGUSR1", Labels: map[string]string{"maker": "tests"},
	}
}

// declared has what the volumes of its image begin with: /content, and /empty, which anybody may write to. A link leads out
// of the root, for who follows it as the host would.
func declared() *layer {
	return newLayer().dir("content", 0o750).owned("content/file", 0o640, 7, 8, "of the image\n").
		xattrs("content/marked", 0o644, "", map[string]string{"user.mini": "x"}).symlink("content/link", "/etc/passwd").
		dir("empty", 0o1777).symlink("out", "../../../../../../../../etc")
}

// users has an image for each way of naming the user of a config.
func users() []image {
	cases := []struct{ repo, user string }{
		{"user-numeric", "1000"}, {"user-numeric-unknown", "4321"}, {"user-name", "app"}, {"user-uid-gid", "1000:2000"},
		{"user-name-group", "app:staff"}, {"user-name-gid", "app:50"}, {"user-uid-group", "1000:staff"},
		{"user-root", "root"}, {"user-unknown", "ghost"}, {"user-unknown-group", "app:ghosts"},
	}
	var images []image
	for _, c := range cases {
		images = append(images, image{repo: c.repo, layers: of(busybox()), config: ocispec.ImageConfig{User: c.user, Cmd: []string{"id"}}})
	}
	bare := newLayer().host(busyboxPath, "bin/busybox", 0o755).hardlink("bin/id", "bin/busybox", 0o755).hardlink("bin/sh", "bin/busybox", 0o755)
	return append(images, image{repo: "user-no-passwd", layers: of(bare), config: ocispec.ImageConfig{User: "1234:5678", Cmd: []string{"id"}}})
}

// whiteouts ends with kept, replaced (a directory that was a file), back/new and opaque/new; nothing else of its own.
func whiteouts() []func() ([]byte, error) {
	return of(busybox(),
		newLayer().file("kept", 0o644, "1\n").file("removed", 0o644, "1\n").file("replaced", 0o644, "1\n").
			file("removed-dir/a/b", 0o644, "1\n").file("opaque/old", 0o644, "1\n").file("opaque/sub/old", 0o644, "1\n").
			file("back/old", 0o644, "1\n").symlink("removed-link", "kept"),
		newLayer().whiteout("removed").whiteout("removed-dir").whiteout("removed-link").whiteout("replaced").whiteout("back").
			opaque("opaque").file("opaque/new", 0o644, "2\n").whiteout("never-was"),
		newLayer().dir("replaced", 0o755).file("replaced/in", 0o644, "3\n").file("back/new", 0o644, "3\n"),
	)
}

// hardlinks has links within a layer, and in the next layer one to a file of the layer before.
func hardlinks() []func() ([]byte, error) {
	second := newLayer().file("links/c", 0o644, "second\n").hardlink("links/d", "links/c", 0o644)
	second.hardlink("links/across", "links/a", 0o644)
	return of(busybox(), newLayer().file("links/a", 0o644, "first\n").hardlink("links/b", "links/a", 0o644), second)
}

// netBindService is VFS_CAP_REVISION_2 with cap_net_bind_service, permitted and effective (linux/capability.h).
const netBindService = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func xattrs() *layer {
	return newLayer().
		xattrs("xattr/user", 0o644, "user\n", map[string]string{"user.colour": "blue", "user.empty": ""}).
		xattrs("xattr/capable", 0o755, "capable\n", map[string]string{"security.capability": netBindService})
}

func special() *layer {
	l := newLayer().special(tar.TypeChar, "special/null", 0o666, 1, 3).special(tar.TypeBlock, "special/loop", 0o660, 7, 0)
	l.special(tar.TypeFifo, "special/fifo", 0o600, 0, 0)
	l.owned("special/setuid", 0o4755, 0, 0, "setuid\n").owned("special/setgid", 0o2755, 1000, 50, "setgid\n")
	l.owned("special/owned", 0o640, 1000, 50, "owned\n").dir("special/sticky", 0o1777)
	l.add(tar.Header{
		Typeflag: tar.TypeReg, Name: "special/precise", Mode: 0o644, Format: tar.FormatPAX, ModTime: made().Add(123456789),
	}, []byte("precise\n"))
	return l.add(tar.Header{Typeflag: tar.TypeReg, Name: "special/old", Mode: 0o644, ModTime: made().AddDate(-60, 0, 0), Format: tar.FormatPAX}, nil)
}

// platforms is an index of four platforms; each says which it is in /platform. The programs are this machine's.
func platforms(s *storage, docker bool) (built, error) {
	repo := "multi"
	if docker {
		repo = "schema2-list"
	}
	var images []image
	for _, p := range []ocispec.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "linux", Architecture: "386"},
	} {
		name := fmt.Sprintf("%s/%s %s\n", p.OS, p.Architecture, p.Variant)
		images = append(images, image{
			repo: repo, layers: of(busybox(), newLayer().file("platform", 0o644, name)), config: ocispec.ImageConfig{Cmd: []string{"sh"}},
			docker: docker, platform: &p,
		})
	}
	return putIndex(s, repo, "latest", images)
}

// referrer attaches an artifact to an image, under the tag that a registry without the referrers API has for it
// (distribution-spec 1.1, referrers tag schema).
func referrer(s *storage, subject built) error {
	const artifactType = "application/vnd.mini.test.note"
	config, err := putBlob(s, subject.Repo, ocispec.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return err
	}
	note, err := putBlob(s, subject.Repo, "text/plain", []byte("a note\n"))
	if err != nil {
		return err
	}
	artifact := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Config: config, Layers: []ocispec.Descriptor{note},
		Subject: &ocispec.Descriptor{
			MediaType: subject.MediaType, Digest: digest.Digest(subject.Digest), Size: subject.manifestSize,
		},
	}
	artifact.SchemaVersion = 2
	data, err := json.Marshal(artifact)
	if err != nil {
		return err
	}
	d, err := s.manifest(subject.Repo, "", data)
	if err != nil {
		return err
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(d), Size: int64(len(data)), ArtifactType: artifactType,
	}}}
	index.SchemaVersion = 2
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	_, err = s.manifest(subject.Repo, "sha256-"+subject.Digest[len("sha256:"):], data)
	return err
}

package main

import (
	"archive/tar"
	"bytes"
	"time"
)

// layer is the root filesystem: the program, a link for each name, and the few files that commands look into.
func layer(program []byte, names []string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, data []byte) error {
		h.ModTime, h.Size = time.Unix(0, 0), int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	for _, d := range directories() {
		if err := put(tar.Header{Typeflag: tar.TypeDir, Name: d.name, Mode: d.mode}, nil); err != nil {
			return nil, err
		}
	}
	for _, f := range files() {
		if err := put(tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode}, []byte(f.text)); err != nil {
			return nil, err
		}
	}
	if err := put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/bb", Mode: 0o755}, program); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "bb", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type file struct {
	name string
	mode int64
	text string
}

func directories() []file {
	return []file{
		{name: "bin/", mode: 0o755}, {name: "dev/", mode: 0o755}, {name: "etc/", mode: 0o755}, {name: "home/", mode: 0o755},
		{name: "proc/", mode: 0o555}, {name: "root/", mode: 0o700}, {name: "run/", mode: 0o755}, {name: "sys/", mode: 0o555},
		{name: "tmp/", mode: 0o1777}, {name: "usr/", mode: 0o755}, {name: "usr/bin/", mode: 0o755},
		{name: "var/", mode: 0o755}, {name: "var/log/", mode: 0o755}, {name: "var/tmp/", mode: 0o1777},
	}
}

func files() []file {
	return []file{
		{"etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"etc/group", 0o644, "root:x:0:\ndaemon:x:1:\ntty:x:5:\nadm:x:4:daemon\nnogroup:x:65534:\n"},
		{"etc/os-release", 0o644, "NAME=\"mini toolbox\"\nID=toolbox\nPRETTY_NAME=\"mini toolbox\"\nVERSION_ID=1\n"},
		{"etc/nsswitch.conf", 0o644, "hosts: files dns\n"},
		{"etc/profile", 0o644, "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
	}
}

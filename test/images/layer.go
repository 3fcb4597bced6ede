package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// made is when every file was made, unless a recipe says otherwise.
func made() time.Time { return time.Unix(1700000000, 0) }

// layer is a tar in the making. The first error stays, so that a recipe reads as a list.
type layer struct {
	buffer bytes.Buffer
	tar    *tar.Writer
	have   map[string]bool // directories
	err    error
}

func newLayer() *layer {
	l := &layer{have: map[string]bool{}}
	l.tar = tar.NewWriter(&l.buffer)
	return l
}

// bytes ends the layer.
func (l *layer) bytes() ([]byte, error) {
	if l.err == nil {
		l.err = l.tar.Close()
	}
	return l.buffer.Bytes(), l.err
}

func (l *layer) add(h tar.Header, data []byte) *layer {
	if l.err != nil {
		return l
	}
	if h.ModTime.IsZero() {
		h.ModTime = made()
	}
	h.Size = int64(len(data))
	if l.err = l.tar.WriteHeader(&h); l.err == nil && len(data) > 0 {
		_, l.err = l.tar.Write(data)
	}
	if l.err != nil {
		l.err = fmt.Errorf("%s: %w", h.Name, l.err)
	}
	return l
}

// parents adds the directories above a name that are not there yet.
func (l *layer) parents(name string) {
	if dir := path.Dir(name); dir != "." && dir != "/" && !l.have[dir] {
		l.dir(dir, 0o755)
	}
}

func (l *layer) dir(name string, mode int64) *layer {
	l.parents(name)
	l.have[path.Clean(name)] = true
	return l.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, nil)
}

func (l *layer) file(name string, mode int64, text string) *layer {
	l.parents(name)
	return l.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, []byte(text))
}

func (l *layer) owned(name string, mode int64, uid, gid int, text string) *layer {
	l.parents(name)
	return l.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: uid, Gid: gid}, []byte(text))
}

func (l *layer) symlink(name, target string) *layer {
	l.parents(name)
	return l.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

func (l *layer) hardlink(name, target string, mode int64) *layer {
	l.parents(name)
	return l.add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: mode}, nil)
}

func (l *layer) special(kind byte, name string, mode, major, minor int64) *layer {
	l.parents(name)
	return l.add(tar.Header{Typeflag: kind, Name: name, Mode: mode, Devmajor: major, Devminor: minor}, nil)
}

// whiteout removes a name of the layers below (image-spec, layer.md).
func (l *layer) whiteout(name string) *layer {
	return l.file(path.Join(path.Dir(name), ".wh."+path.Base(name)), 0, "")
}

// opaque hides what the layers below have in a directory.
func (l *layer) opaque(dir string) *layer {
	return l.file(path.Join(dir, ".wh..wh..opq"), 0, "")
}

// xattrs adds a file with extended attributes.
func (l *layer) xattrs(name string, mode int64, text string, attrs map[string]string) *layer {
	l.parents(name)
	records := map[string]string{}
	for k, v := range attrs {
		records["SCHILY.xattr."+k] = v
	}
	return l.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Format: tar.FormatPAX, PAXRecords: records}, []byte(text))
}

// host copies a file of this machine, at its own place or another.
func (l *layer) host(source, name string, mode int64) *layer {
	if l.err != nil {
		return l
	}
	data, err := os.ReadFile(source)
	if err != nil {
		l.err = err
		return l
	}
	return l.file(strings.TrimPrefix(name, "/"), mode, string(data))
}

// program copies programs with the libraries that they are linked with.
func (l *layer) program(sources ...string) *layer {
	libraries := map[string]bool{}
	for _, source := range sources {
		l.host(source, source, 0o755)
		found, err := linked(source)
		if err != nil && l.err == nil {
			l.err = err
		}
		for _, library := range found {
			libraries[library] = true
		}
	}
	names := make([]string, 0, len(libraries))
	for library := range libraries {
		names = append(names, library)
	}
	slices.Sort(names)
	for _, library := range names {
		l.host(library, library, 0o755)
	}
	return l
}

// linked lists a program's libraries and its loader, as ldd prints them.
func linked(program string) ([]string, error) {
	output, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil {
		if bytes.Contains(output, []byte("not a dynamic executable")) {
			return nil, nil
		}
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, output)
	}
	var libraries []string
	for line := range strings.Lines(string(output)) {
		for _, word := range strings.Fields(line) {
			if filepath.IsAbs(word) {
				libraries = append(libraries, word)
			}
		}
	}
	return libraries, nil
}

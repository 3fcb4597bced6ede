package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
	"github.com/minirt/mini/internal/mount"
)

// lookupTimeout bounds how long the name of a file server is looked up.
const lookupTimeout = 10 * time.Second

// mountOf is the mount that options of the local driver ask for: those of mount(8) by other names.
func mountOf(ctx context.Context, options map[string]string) (mount.Mount, error) {
	m := mount.Mount{Type: options["type"], Source: options["device"]}
	for o := range strings.SplitSeq(options["o"], ",") {
		if o = strings.TrimSpace(o); o != "" {
			m.Options = append(m.Options, o)
		}
	}
	if slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind") {
		if !filepath.IsAbs(m.Source) {
			return m, fmt.Errorf("volume option device=%s: the source of a bind must be an absolute path: %w", m.Source, errdefs.ErrInvalidArgument)
		}
		m.Type = "bind"
	}
	if !slices.Contains([]string{"nfs", "nfs4", "cifs"}, m.Type) {
		return m, nil
	}
	for i, o := range m.Options {
		host, ok := strings.CutPrefix(o, "addr=")
		if !ok {
			continue
		}
		ip, err := lookup(ctx, host) // the kernel takes addresses only; elsewhere mount.nfs(8) does that
		if err != nil {
			return m, fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		m.Options[i] = "addr=" + ip
	}
	return m, nil
}

func lookup(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	return found[0], nil
}

// BindBelow mounts what is at a path inside a directory on target, which is made. Links are followed, and never out of
// the directory, whoever changes them meanwhile: what was found is mounted, and not its name.
func BindBelow(dir, sub, target string) error {
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return fmt.Errorf("sub path %q: give a relative path without ..: %w", sub, errdefs.ErrInvalidArgument)
	}
	f, err := inroot.Find(dir, sub)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("sub path %q: there is no such file or directory in the volume: make it first: %w", sub, errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("sub path %q: %w", sub, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := makeTarget(target, info.IsDir()); err != nil {
		return err
	}
	return mount.All([]mount.Mount{{Type: "bind", Source: inroot.Path(f.Fd()), Options: []string{"rbind"}}}, target)
}

// makeTarget makes an empty directory or file to mount on.
func makeTarget(target string, directory bool) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o711); err != nil {
		return err
	}
	if directory {
		return os.Mkdir(target, 0o755)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

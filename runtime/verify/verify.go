// Package verify asks the programs of a directory whether an image may be pulled. They are called as containerd calls
// those of its io.containerd.image-verifier.v1.bindir plugin, and may be the same.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// DefaultTimeout is that of one program.
	DefaultTimeout = 10 * time.Second
	// DefaultMax is how many programs are asked.
	DefaultMax = 10

	// maxReason bounds what is kept of a program's output, in bytes. The rest is read and forgotten.
	maxReason = 16 << 10
	// grace is how long the output may be held open by others when a program has ended.
	grace = 500 * time.Millisecond
)

// Options are what a set of programs is opened with.
type Options struct {
	Dir     string        // one that is not there is empty: every image may be pulled
	Max     int           // programs asked, by their names' order; 0: DefaultMax, negative: all
	Timeout time.Duration // of each program; 0: DefaultTimeout
	Log     *slog.Logger
}

// Programs are the programs of a directory.
type Programs struct{ Options }

// Open makes the set. The directory is read at each call.
func Open(o Options) *Programs {
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Programs{o}
}

// Verify asks one program after the other. An image that one of them refuses is ErrPermissionDenied with its reason; so
// is one that a program could not judge, because it timed out or did not start.
func (p *Programs) Verify(ctx context.Context, name string, target ocispec.Descriptor) error {
	entries, err := os.ReadDir(p.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the directory of image verifiers: %w", err)
	}
	var programs []string
	for _, e := range entries {
		if !e.IsDir() {
			programs = append(programs, e.Name())
		}
	}
	if p.Max > 0 && len(programs) > p.Max {
		p.Log.Warn("some image verifiers are not asked: image_verifier.max_verifiers is less than there are", "asked", p.Max, "verifiers", programs)
		programs = programs[:p.Max]
	}
	descriptor, err := json.Marshal(target)
	if err != nil {
		return err
	}
	for _, program := range programs {
		began := time.Now()
		reason, err := p.ask(ctx, filepath.Join(p.Dir, program), name, target, descriptor)
		if err != nil {
			return fmt.Errorf("image %s is refused by the verifier %s: %w", name, program, err)
		}
		p.Log.Debug("an image verifier accepts", "image", name, "verifier", program, "reason", reason, "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// ask runs one program and returns what it says when it accepts.
func (p *Programs) ask(ctx context.Context, program, name string, target ocispec.Descriptor, descriptor []byte) (string, error) {
	timed, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	cmd := exec.CommandContext(timed, program, "-name", name, "-digest", target.Digest.String(), "-stdin-media-type", ocispec.MediaTypeDescriptor)
	cmd.Stdin = bytes.NewReader(descriptor)
	var out, log head
	cmd.Stdout, cmd.Stderr = &out, &log
	// What it has started is to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // somebody of its group lives, so the number is not another's
		_ = cmd.Cancel()
	}
	if text := log.String(); text != "" {
		p.Log.Info("an image verifier says", "image", name, "verifier", filepath.Base(program), "stderr", text)
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case timed.Err() != nil:
		return "", fmt.Errorf("it did not answer in %s (image_verifier.per_verifier_timeout): %w", p.Timeout, errdefs.ErrPermissionDenied)
	case errors.As(err, &exit):
		reason := out.String()
		if reason == "" {
			reason = "it gives no reason"
		}
		return "", fmt.Errorf("%s (%s): %w", reason, exit, errdefs.ErrPermissionDenied)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return "", fmt.Errorf("it cannot be run: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	return out.String(), nil
}

// head keeps the first bytes of what is written to it.
type head struct{ kept []byte }

func (h *head) Write(data []byte) (int, error) {
	h.kept = append(h.kept, data[:min(len(data), maxReason-len(h.kept))]...)
	return len(data), nil
}

// String is the text on one line.
func (h *head) String() string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(h.kept), "\uFFFD")), " ")
}

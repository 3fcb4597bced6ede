package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/store"
)

// PullVerb is the verb of minid by which it starts itself to pull in another cgroup. It is for no one else.
const PullVerb = "pull-apart"

// apartQuestion is the first and only message to the process. It ends when its standard input does: with the daemon.
type apartQuestion struct {
	Group   string // to join before anything else; empty: it is in its cgroup
	Dir     string
	Config  Config
	Behind  []string // roots of the contents that are looked into before anything is fetched
	Version string
	Request image.ApartRequest
}

// apartAnswer is a line of the process: progress, or, once and as the last, the end.
type apartAnswer struct {
	Progress *image.Progress `json:",omitempty"`
	Ended    bool            `json:",omitempty"`
	Code     codes.Code      `json:",omitempty"` // of the error; OK: none
	Message  string          `json:",omitempty"`
}

// pullGrace is how long a process that pulls may take to end when the daemon has.
const pullGrace = 5 * time.Second

// groupFile, in the directory of a pull, names the cgroup that was made for it.
func groupFile(dir string) string { return filepath.Join(dir, "cgroup") }

// scratch is where processes that pull work. Those of an earlier daemon are ended, and what they and their cgroups have
// left is removed.
func (d *Daemon) scratch() (string, error) {
	dir := filepath.Join(d.Config.Root, "pulls")
	notes, err := filepath.Glob(groupFile(filepath.Join(dir, "*")))
	if err != nil {
		return "", err
	}
	for _, note := range notes {
		group, err := os.ReadFile(note)
		if err == nil {
			err = cgroup.End(string(group))
		}
		if err != nil {
			d.Log.Warn("the cgroup of a pull is left", "pull", filepath.Dir(note), "error", err)
		}
	}
	return dir, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
}

// apart starts processes that pull.
type apart struct{ d *Daemon }

// Bring implements image.Apart.
func (a apart) Bring(ctx context.Context, group, dir string, r image.ApartRequest, progress func(image.Progress)) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	q := apartQuestion{
		Dir: dir, Config: *a.d.config.Load(), Version: a.d.Options.Version, Request: r,
		Behind: append([]string{filepath.Join(a.d.Config.Root, "content")}, a.d.additional.content...),
	}
	command := []string{self, PullVerb}
	name := "minid-pull-" + id.New()[:12]
	if strings.HasSuffix(group, ".slice") {
		command = append([]string{"systemd-run", "--scope", "--quiet", "--collect", "--slice=" + filepath.Base(group), "--unit=" + name, "--"}, command...)
	} else {
		q.Group = filepath.Join(group, name)
		if err := os.WriteFile(groupFile(dir), []byte(q.Group), 0o600); err != nil {
			return err
		}
		defer cgroup.RemoveEmpty(q.Group)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = os.Stderr // its log is the daemon's
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("pull in cgroup %s: %w: %w", group, err, errdefs.ErrFailedPrecondition)
	}
	end, talk := converse(in, out, q, progress)
	_ = in.Close() // it ends, if it has not
	waited := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case talk == nil && end.Code == codes.OK:
		return nil
	case talk == nil:
		return grpcx.Error(status.Error(end.Code, end.Message))
	case waited != nil && !cmd.ProcessState.Exited():
		return fmt.Errorf("the process that pulls was ended (%s): a limit of its cgroup %s (image.separate_pull_cgroup) may be too small: %w", cmd.ProcessState, group, errdefs.ErrResourceExhausted)
	}
	return fmt.Errorf("pull in cgroup %s: %w: the log of minid has what was said: %w", group, errors.Join(talk, waited), errdefs.ErrFailedPrecondition)
}

// converse asks, and reads until the end is told.
func converse(in io.Writer, out io.Reader, q apartQuestion, progress func(image.Progress)) (apartAnswer, error) {
	if err := json.NewEncoder(in).Encode(q); err != nil {
		return apartAnswer{}, err
	}
	lines := json.NewDecoder(out)
	for {
		var a apartAnswer
		if err := lines.Decode(&a); err != nil {
			return a, fmt.Errorf("it does not say how it ended: %w", err)
		}
		if a.Ended {
			return a, nil
		}
		if a.Progress != nil {
			progress(*a.Progress)
		}
	}
}

// PullApart is what minid does with PullVerb: it reads a question and answers it. How the pull went is a part of the answer.
func PullApart(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	questions := json.NewDecoder(in)
	var q apartQuestion
	if err := questions.Decode(&q); err != nil {
		return fmt.Errorf("it is for minid itself: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	go func() { // there is no second one: the daemon wants it to end, or has ended
		_, _ = io.Copy(io.Discard, io.MultiReader(questions.Buffered(), in))
		cancel()
	}()
	answers := &answers{to: json.NewEncoder(out)}
	done := make(chan error, 1)
	go func() {
		done <- q.answer(ctx, func(p image.Progress) { _ = answers.give(apartAnswer{Progress: &p}) }) // nobody listens: it is about to end
	}()
	var late <-chan time.Time
	for over := ctx.Done(); ; over = nil {
		select {
		case err := <-done:
			end := apartAnswer{Ended: true}
			if err != nil {
				s := grpcx.Status(err)
				end.Code, end.Message = s.Code(), s.Message()
			}
			return answers.give(end)
		case <-over:
			late = time.After(pullGrace)
		case <-late:
			return fmt.Errorf("the pull does not end by itself within %s: %w", pullGrace, errdefs.ErrUnavailable)
		}
	}
}

// answers are given one after the other; none comes after the end.
type answers struct {
	mu    sync.Mutex
	to    *json.Encoder
	ended bool
}

func (a *answers) give(one apartAnswer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return nil
	}
	a.ended = one.Ended
	return a.to.Encode(one)
}

func (q apartQuestion) answer(ctx context.Context, progress func(image.Progress)) (err error) {
	if q.Group != "" {
		if err := cgroup.Join(q.Group); err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
		}
	}
	unix.Umask(0o022)
	level := &slog.LevelVar{}
	d := &Daemon{Options: Options{Config: q.Config, Version: q.Version, Log: NewLogger(os.Stderr, q.Config.LogFormat, level), Level: level}}
	defer func() { err = errors.Join(err, d.closers.Run(context.WithoutCancel(ctx))) }()
	d.setConfig(q.Config)
	records, err := store.Open(ctx, store.Options{Path: filepath.Join(q.Dir, recordsFile), Logger: d.Log})
	if err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error { return records.Close() })
	c, err := content.Open(filepath.Join(q.Dir, "content"), store.NewTable[content.Record](records, "content", 1, nil), d.Log)
	if err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error { return c.Close() })
	c.Behind(q.Behind...)
	d.Options.Config.State = q.Dir // of the program for keys
	if d.judge, err = newJudge(d); err != nil {
		return err
	}
	images, err := image.New(image.Deps{
		Content: c, NewRegistry: d.newRegistry, Judge: d.judge, Leases: store.NewLeases(records), Log: d.Log, Config: q.Config.imageService(),
	})
	if err != nil {
		return err
	}
	return images.BringApart(ctx, q.Dir, q.Request, progress)
}

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

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
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

// pullPrefix begins the names of the cgroups of processes that pull.
const pullPrefix = "minid-pull-"

// scratch is where processes that pull work. What they and their cgroups have left with an earlier daemon is removed.
func (c Config) scratch() (string, error) {
	if group := c.Image.SeparatePullCgroup; cgroup.CheckGroup(group) == nil {
		cgroup.RemoveJoined(group, pullPrefix)
	}
	dir := filepath.Join(c.Root, "pulls")
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
	q := apartQuestion{Dir: dir, Config: *a.d.config.Load(), Version: a.d.Options.Version, Request: r}
	command := []string{self, PullVerb}
	name := pullPrefix + id.New()[:12]
	if strings.HasSuffix(group, ".slice") {
		command = append([]string{"systemd-run", "--scope", "--quiet", "--collect", "--slice=" + filepath.Base(group), "--unit=" + name, "--"}, command...)
	} else {
		q.Group = filepath.Join(group, name)
		defer cgroup.RemoveEmpty(q.Group)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
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
		return fmt.Errorf("in cgroup %s: %w", group, errgrpc.ToNative(status.Error(end.Code, end.Message)))
	}
	if ws, ok := cmd.ProcessState.Sys().(interface{ Signaled() bool }); ok && ws.Signaled() {
		return image.ApartKilled(group, cmd.ProcessState.String())
	}
	return fmt.Errorf("pull in cgroup %s: %w: %.500s: %w", group, errors.Join(talk, waited), strings.TrimSpace(said.String()), errdefs.ErrFailedPrecondition)
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
	answers := json.NewEncoder(out)
	err := q.answer(ctx, func(p image.Progress) { _ = answers.Encode(apartAnswer{Progress: &p}) }) // nobody listens: it is about to end
	end := apartAnswer{Ended: true}
	if err != nil {
		s := grpcx.Status(err)
		end.Code, end.Message = s.Code(), s.Message()
	}
	return answers.Encode(end)
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
	c.Behind(filepath.Join(q.Config.Root, "content"))
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/logs"
)

// pollPause is how often a follower asks whether the container still runs.
const pollPause = 500 * time.Millisecond

func logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "print what containers have written", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the container ends"},
			&cli.Int64Flag{Name: "tail", Value: -1, Usage: "begin with the last `N` lines; -1: with all"},
			&cli.StringFlag{Name: "since", Usage: "lines since this `TIME`: RFC 3339, seconds since 1970, or how long ago (42m)"},
			&cli.BoolFlag{Name: "timestamps", Aliases: []string{"t"}, Usage: "print the time of each line"},
			&cli.Int64Flag{Name: "limit-bytes", Value: -1, Usage: "print at most `N` bytes; -1: all"},
			&cli.BoolFlag{Name: "previous", Aliases: []string{"p"}, Usage: "those of the container's previous instance"},
			&cli.BoolFlag{Name: "reopen", Aliases: []string{"r"}, Usage: "let the runtime open the log file anew first"},
			&cli.StringFlag{Name: "stream", Aliases: []string{"s"}, Usage: "only this `STREAM`: stdout or stderr"},
		},
		Action: with(containersAndPods, runLogs),
	}
}

// logWish is which part of a log is wanted, and how it is printed.
type logWish struct {
	follow, stamps, previous, reopen bool
	tail, limit                      int64 // negative: all
	since                            time.Time
	stream                           string // empty: both
}

func readLogWish(c *cli.Context, now time.Time) (logWish, error) {
	w := logWish{
		follow: c.Bool("follow"), stamps: c.Bool("timestamps"), previous: c.Bool("previous"), reopen: c.Bool("reopen"),
		tail: c.Int64("tail"), limit: c.Int64("limit-bytes"), stream: c.String("stream"),
	}
	if w.stream != "" && w.stream != "stdout" && w.stream != "stderr" {
		return w, fmt.Errorf("--stream %q: use stdout or stderr: %w", w.stream, errdefs.ErrInvalidArgument)
	}
	var err error
	w.since, err = icli.ParseTime(c.String("since"), now)
	if err != nil {
		err = fmt.Errorf("--since %w", err)
	}
	return w, err
}

func runLogs(c *cli.Context, r *runtime) error {
	if err := icli.Args(c, 1, -1, "CONTAINER..."); err != nil {
		return err
	}
	wish, err := readLogWish(c, time.Now())
	if err != nil {
		return err
	}
	ids := c.Args().Slice()
	var lock sync.Mutex
	if len(ids) == 1 {
		return r.printLog(c.Context, ids[0], wish, newLogPrinter(c.App.Writer, c.App.ErrWriter, &lock, "", wish))
	}
	errs := make([]error, len(ids))
	var group sync.WaitGroup
	for i, id := range ids {
		read := func() {
			errs[i] = r.printLog(c.Context, id, wish, newLogPrinter(c.App.Writer, c.App.ErrWriter, &lock, short(id, "")+": ", wish))
		}
		if wish.follow {
			group.Go(read)
			continue
		}
		read() // one after the other, so that what belongs together stays so
	}
	group.Wait()
	return errors.Join(errs...)
}

// late is for how long a runtime may write on to a log that it was told to reopen, on a busy machine.
const late = 500 * time.Millisecond

// printLog prints the log of one container.
func (r *runtime) printLog(ctx context.Context, id string, wish logWish, p *logPrinter) error {
	if wish.reopen {
		if _, err := r.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			return fmt.Errorf("reopen the log of container %s: %w", id, err)
		}
	}
	answer, err := r.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return fmt.Errorf("status of container %s: %w", id, err)
	}
	path, err := logPath(answer.GetStatus(), wish.previous)
	if err != nil {
		return err
	}
	o := logs.ReadOptions{Path: path, Follow: wish.follow && !wish.previous, Tail: wish.tail, Since: wish.since, Late: late}
	if o.Follow {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		o.Done = r.ended(ctx, id)
	}
	if wish.stream != "" && wish.tail >= 0 {
		if err := p.skipTo(ctx, o); err != nil {
			return logError(id, path, err)
		}
		o.Tail = -1
	}
	err = logs.Read(ctx, o, p.print)
	if errors.Is(err, errLimit) || wish.follow && ctx.Err() != nil {
		return nil // an interrupt is how a follower ends
	}
	return logError(id, path, err)
}

func logError(id, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("container %s has no log at %s: it has written nothing yet, or the runtime is on another machine: %w", id, path, errdefs.ErrNotFound)
	}
	return fmt.Errorf("log of container %s: %w", id, err)
}

// logPath is where the runtime says that the log is. The kubelet names it after the attempt: that of the previous one is
// beside it.
func logPath(s *cri.ContainerStatus, previous bool) (string, error) {
	path := s.GetLogPath()
	if path == "" {
		return "", fmt.Errorf("container %s has no log: its pod was made without log_directory, or it without log_path: %w", s.GetId(), errdefs.ErrNotFound)
	}
	if previous {
		attempt := s.GetMetadata().GetAttempt()
		if attempt == 0 {
			return "", fmt.Errorf("container %s is the first of its name: there is no previous log: %w", s.GetId(), errdefs.ErrNotFound)
		}
		path = filepath.Join(filepath.Dir(path), strconv.FormatUint(uint64(attempt-1), 10)+filepath.Ext(path))
	}
	// Docker's logs are elsewhere, with the rotated files beside them.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target, nil
	}
	return path, nil
}

// ended is closed when the container does not run any more.
func (r *runtime) ended(ctx context.Context, id string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			answer, err := r.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
			if notFound(err) || err == nil && answer.GetStatus().GetState() == cri.ContainerState_CONTAINER_EXITED {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pollPause):
			}
		}
	}()
	return done
}

// errLimit ends the reading when --limit-bytes are printed.
var errLimit = errors.New("as much as was wanted is printed")

// logPrinter prints the entries of one log.
type logPrinter struct {
	out, errs io.Writer
	lock      *sync.Mutex // of all printers
	prefix    string
	wish      logWish
	left      int64           // bytes; negative: no limit
	skip      int64           // entries of the wanted stream to leave out
	partial   map[string]bool // streams whose last entry was a part of a line
}

func newLogPrinter(out, errs io.Writer, lock *sync.Mutex, prefix string, wish logWish) *logPrinter {
	return &logPrinter{out: out, errs: errs, lock: lock, prefix: prefix, wish: wish, left: wish.limit, partial: map[string]bool{}}
}

// skipTo counts what is there, so that the tail is one of the wanted stream's lines.
func (p *logPrinter) skipTo(ctx context.Context, o logs.ReadOptions) error {
	o.Follow, o.Tail = false, -1
	var whole int64
	counts := []int64{0} // entries before each line
	var entries int64
	err := logs.Read(ctx, o, func(e logs.Entry) error {
		if e.Stream == p.wish.stream {
			if entries++; !e.Partial {
				whole++
				counts = append(counts, entries)
			}
		}
		return nil
	})
	p.skip = counts[max(0, whole-p.wish.tail)]
	return err
}

// print prints one entry.
func (p *logPrinter) print(e logs.Entry) error {
	if p.wish.stream != "" && e.Stream != p.wish.stream {
		return nil
	}
	if p.skip > 0 {
		p.skip--
		return nil
	}
	line := make([]byte, 0, len(e.Data)+64)
	if !p.partial[e.Stream] {
		line = append(line, p.prefix...)
		if p.wish.stamps {
			line = append(e.Time.AppendFormat(line, "2006-01-02T15:04:05.000000000Z07:00"), ' ')
		}
	}
	line = append(line, e.Data...)
	p.partial[e.Stream] = e.Partial
	if p.left >= 0 {
		line = line[:min(int64(len(line)), p.left)]
		p.left -= int64(len(line))
	}
	w := p.out
	if e.Stream == "stderr" {
		w = p.errs
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if _, err := w.Write(line); err != nil {
		return err
	}
	if p.left == 0 {
		return errLimit
	}
	return nil
}

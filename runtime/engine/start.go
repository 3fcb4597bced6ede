package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/plugin"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Start runs a container's first process. The streams are attached before it runs, so that they miss nothing. A
// container that has exited is started again, from the root filesystem as it left it.
func (e *Engine) Start(ctx context.Context, ns, id string, o StartOptions) (Process, error) {
	defer o.Streams.close()
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return Process{}, err
	}
	defer unlock()
	if err := l.require("start", Created, Exited); err != nil {
		return Process{}, err
	}
	if err := e.byClient(l); err != nil {
		return Process{}, err
	}
	if err := e.reachTarget(ctx, l); err != nil {
		if l.record().AutoRemove {
			e.noteFailedStart(ctx, l, wire.Exit{})
		}
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	return e.startLocked(ctx, l, o)
}

// startLocked is Start, by the caller that has the lock.
func (e *Engine) startLocked(ctx context.Context, l *live, o StartOptions) (Process, error) {
	if err := l.require("start", Created, Exited); err != nil {
		return Process{}, err
	}
	if p, err := l.proc(""); err == nil && p.ended() != nil {
		<-p.exited // the news of the last exit come before those of this start
	}
	plan, err := e.logPlan(l.record())
	if err != nil {
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	if err := errors.Join(e.requirePod(l.record(), "start a container in it"), e.checkLinks(l.record())); err != nil {
		return Process{}, err
	}
	if err := e.readyBundle(ctx, l); err != nil {
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	if err := failpoint.Hit("start-bundled"); err != nil {
		return Process{}, err
	}
	if err := e.mountVolumes(ctx, l); err != nil {
		e.releaseQuietly(ctx, l.record())
		if l.record().AutoRemove {
			e.noteFailedStart(ctx, l, wire.Exit{})
		}
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	started, err := e.launch(ctx, l, o, plan.File)
	if err != nil && l.state() != Running {
		e.releaseQuietly(ctx, l.record())
	}
	return started, err
}

// launch starts the first process of a container whose bundle and volumes are ready.
func (e *Engine) launch(ctx context.Context, l *live, o StartOptions, log wire.Log) (Process, error) {
	files, attachment := o.Streams.files()
	if err := e.joinNetworks(ctx, l); err != nil {
		if l.record().AutoRemove {
			e.noteFailedStart(ctx, l, wire.Exit{})
		}
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	if err := e.tellContainer(ctx, l, plugin.ContainerStart); err != nil {
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	if err := e.tune(l); err != nil {
		e.leaveQuietly(ctx, l)
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	p := e.firstProc(l)
	l.at("starting its first process")
	// A started process outlives the caller's patience: once asked for, it is either running and recorded or gone.
	result, err := e.sandboxes.Start(context.WithoutCancel(ctx), l.record().Supervisor, e.startRequest(l, o, attachment, log), files)
	if errdefs.IsAlreadyExists(err) {
		// A daemon that was killed had asked for it too, and was heard after this one had looked for what there is.
		l.at("removing what an earlier start has left")
		if err = e.wipe(context.WithoutCancel(ctx), process(l, "")); err == nil {
			result, err = e.sandboxes.Start(context.WithoutCancel(ctx), l.record().Supervisor, e.startRequest(l, o, attachment, log), files)
		}
	}
	if err != nil {
		e.leaveQuietly(ctx, l)
		e.untune(l)
		failure := wire.Exit{Code: startCode(err), Time: time.Now(), Reason: err.Error()}
		l.forgetProc(p)
		e.noteFailedStart(ctx, l, failure)
		p.end(failure)
		close(p.begun)
		return Process{}, fmt.Errorf("start container %s: %w", l.key.id, err)
	}
	return e.started(ctx, l, p, result)
}

func (e *Engine) startRequest(l *live, o StartOptions, a *wire.Attachment, log wire.Log) wire.Start {
	c := l.record()
	w, h := consoleSize(c)
	binary, _ := e.runtime(c.Runtime)
	options := e.runtimes().Options[c.Runtime]
	return wire.Start{
		Process: process(l, ""), Dir: e.Bundle(c), SystemdCgroup: e.Config.CgroupDriver == "systemd", NoPivot: c.NoPivot,
		Runtime: binary, RuntimeArgs: options.Args, Patience: options.Patience, Attach: a, Restore: o.Restore, TCPEstablished: o.TCPEstablished,
		Stdio: wire.Stdio{Terminal: terminal(c), Stdin: c.Stdin, StdinOnce: c.StdinOnce, Width: w, Height: h, Log: log},
	}
}

// started records a running first process, and only then lets its exit be recorded.
func (e *Engine) started(ctx context.Context, l *live, p *proc, r wire.StartResult) (Process, error) {
	defer close(p.begun)
	p.mu.Lock()
	p.pid, p.warnings = r.PID, r.Warnings
	p.mu.Unlock()
	err := failpoint.Hit("start-running")
	if err == nil {
		err = e.note(l, func(c *Container) {
			c.State, c.PID, c.StartTime, c.CgroupPaths = Running, r.PID, r.StartTime, r.CgroupPaths
			c.StartedAt, c.Exit = time.Now(), nil
		})
	}
	if err != nil {
		// What cannot be recorded must not run: nobody would know of it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		return Process{}, errors.Join(err, e.sigkill(ctx, process(l, "")))
	}
	e.tuneGroups(l)
	for _, w := range r.Warnings {
		e.Log.Warn("container started with a warning", "id", l.key.id, "warning", w)
	}
	e.publish(l, "start", map[string]string{"pid": fmt.Sprint(r.PID)})
	e.tellContainer(ctx, l, plugin.ContainerStarted)
	e.watchHealth(l, p)
	e.startShipping(l, p.exited)
	return p.info(false), nil
}

// firstProc puts a new first process in the table, with what the last run left removed.
func (e *Engine) firstProc(l *live) *proc {
	c := l.record()
	p := newProc("", e.Bundle(c))
	p.terminal, p.log = terminal(c), c.Log
	if c.Request != nil {
		p.args = c.Request.Args
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs = map[string]*proc{"": p}
	return p
}

// noteFailedStart leaves the cause in the record, for those who look later; a container that removes itself does so now.
func (e *Engine) noteFailedStart(ctx context.Context, l *live, failure wire.Exit) {
	if l.record().AutoRemove {
		if err := e.undo(ctx, l); err != nil {
			e.Log.Warn("remove a container that did not start", "id", l.key.id, "error", err)
		}
		return
	}
	err := e.note(l, func(c *Container) { c.State, c.Exit = Exited, &failure })
	if err != nil {
		e.Log.Warn("record a failed start", "id", l.key.id, "error", err)
	}
}

// readyBundle makes the bundle again where a reboot has emptied it, and clears what the last run left in it.
func (e *Engine) readyBundle(ctx context.Context, l *live) error {
	c := l.record()
	dir := e.Bundle(c)
	if c.State == Exited {
		l.at("clearing its last run")
		if err := e.wipe(ctx, process(l, "")); err != nil {
			return err
		}
		e.settleExecs(ctx, l)
		for _, left := range []string{"exit.json", "stdin", "stdout", "stderr", "exec", "state"} {
			if err := os.RemoveAll(filepath.Join(dir, left)); err != nil {
				return err
			}
		}
	}
	_, err := os.Stat(filepath.Join(dir, "config.json"))
	switch {
	case os.IsNotExist(err) || c.Request != nil && joins(c.Request.Namespaces) || c.Net.joined() != "" || hasLinks(c):
		l.at("writing its bundle")
		_, err = e.writeBundle(ctx, c)
		return err
	case err != nil:
		return err
	case c.Snapshot != "":
		_, err = e.mountRootfs(ctx, c)
	}
	return err
}

// joins says whether a namespace of another container is joined, whose process may be another one by now.
func joins(modes map[string]string) bool {
	for _, m := range modes {
		if strings.HasPrefix(m, "container:") {
			return true
		}
	}
	return false
}

// files are the streams in the order of the protocol, with their description; nil streams have none.
func (s *Streams) files() ([]*os.File, *wire.Attachment) {
	if s == nil {
		return nil, nil
	}
	a := wire.Attachment{Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil}
	var files []*os.File
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f != nil {
			files = append(files, f)
		}
	}
	return files, &a
}

// close ends streams that nobody has taken, and again those that somebody has.
func (s *Streams) close() {
	files, _ := s.files()
	closeAll(files)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// startCode is the exit code of a process that could not be started, as shells have it: 127 for a program that is not
// there, 126 for one that cannot be executed; 125 says that the runtime is at fault.
func startCode(cause error) int {
	switch {
	case errdefs.IsNotFound(cause):
		return 127
	case errdefs.IsPermissionDenied(cause), errdefs.IsInvalidArgument(cause):
		return 126
	}
	return 125
}

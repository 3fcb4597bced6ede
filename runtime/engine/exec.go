package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Exec runs one more process in a running container. Streams are attached before it runs.
func (e *Engine) Exec(ctx context.Context, ns, container string, o ExecOptions) (Process, error) {
	files, attachment := o.Streams.files()
	defer closeAll(files)
	l, err := e.find(ns, container)
	if err != nil {
		return Process{}, err
	}
	if o.ExecID == "" {
		o.ExecID = id.New()[:32]
	}
	if !validID.MatchString(o.ExecID) {
		return Process{}, fmt.Errorf("exec id %q: use letters, digits, _ . -, at most 128: %w", o.ExecID, errdefs.ErrInvalidArgument)
	}
	p, err := e.newExec(l, o)
	if err != nil {
		return Process{}, err
	}
	result, err := e.runExec(ctx, l, p, o, attachment, files)
	if err != nil {
		if p.dir != "" {
			os.RemoveAll(p.dir)
		}
		l.forgetProc(p)
		p.end(wire.Exit{Code: startCode(err), Time: time.Now(), Reason: err.Error()})
		close(p.begun)
		return Process{}, fmt.Errorf("execute in container %s: %w", l.key.id, err)
	}
	p.mu.Lock()
	p.pid, p.warnings = result.PID, result.Warnings
	p.mu.Unlock()
	if first, err := l.proc(""); err == nil {
		<-first.begun // the news of the start come first
	}
	e.publish(l, "exec", map[string]string{
		"exec": o.ExecID, "pid": fmt.Sprint(result.PID), "command": strings.Join(o.Process.Args, " "),
	})
	close(p.begun)
	return p.info(false), nil
}

// newExec puts the process in the table, so that its id is taken, and a removal that begins now waits for it.
func (e *Engine) newExec(l *live, o ExecOptions) (*proc, error) {
	p := newProc(o.ExecID, execDir(e.Bundle(l.record()), o.ExecID))
	p.terminal, p.args, p.log, p.once = o.Process.Terminal, o.Process.Args, o.Log, o.AutoRemove || o.Fleeting
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.requireLocked("execute in", Running); err != nil {
		return nil, err
	}
	if l.procs[o.ExecID] != nil {
		return nil, fmt.Errorf("process %s exists in container %s: choose another exec id: %w",
			o.ExecID, l.key.id, errdefs.ErrAlreadyExists)
	}
	l.procs[o.ExecID] = p
	return p, nil
}

func (e *Engine) runExec(ctx context.Context, l *live, p *proc, o ExecOptions, a *wire.Attachment, files []*os.File) (wire.StartResult, error) {
	c := l.record()
	s, err := bundle.Load(e.Bundle(c))
	if err != nil {
		return wire.StartResult{}, err
	}
	root := c.Snapshot
	if root != "" {
		root = rootfsDir(e.Bundle(c))
	} else if s.Root != nil {
		root = s.Root.Path
	}
	process, err := spec.BuildExec(s, o.Process, root, e.Host)
	if err != nil {
		return wire.StartResult{}, err
	}
	data, err := json.Marshal(process)
	if err != nil {
		return wire.StartResult{}, err
	}
	x := wire.Exec{Attach: a}
	x.Process = wire.Process{Namespace: l.key.ns, ID: l.key.id, Exec: p.execID}
	if o.Fleeting && a != nil && !a.Stdin && !o.Process.Terminal && len(data) <= wire.MaxSpec && e.sandboxes.Fleeting(x.Process) {
		p.dir, x.Spec = "", data
		return e.sandboxes.Exec(context.WithoutCancel(ctx), x, files)
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return wire.StartResult{}, err
	}
	if err := os.WriteFile(filepath.Join(p.dir, "process.json"), data, 0o600); err != nil {
		return wire.StartResult{}, err
	}
	stdio := wire.Stdio{Terminal: o.Process.Terminal, Stdin: o.Stdin, StdinOnce: o.Stdin, Log: o.Log}
	if stdio.Log.Driver == "" {
		stdio.Log.Driver = "none"
	}
	if box := o.Process.ConsoleSize; box != nil {
		stdio.Width, stdio.Height = uint16(min(box.Width, 0xffff)), uint16(min(box.Height, 0xffff))
	}
	x.Dir, x.Stdio = p.dir, stdio
	return e.sandboxes.Exec(context.WithoutCancel(ctx), x, files)
}

// DeleteProcess forgets a process that was executed in a container and has exited.
func (e *Engine) DeleteProcess(ctx context.Context, ns, container, execID string) (wire.Exit, error) {
	if execID == "" {
		return wire.Exit{}, fmt.Errorf("container %s: its first process goes with it: delete the container: %w", container, errdefs.ErrInvalidArgument)
	}
	l, err := e.find(ns, container)
	if err != nil {
		return wire.Exit{}, err
	}
	p, err := l.proc(execID)
	if err != nil {
		return wire.Exit{}, err
	}
	exit := p.ended()
	if exit == nil {
		return wire.Exit{}, fmt.Errorf("process %s of container %s runs: kill it first: %w", execID, l.key.id, errdefs.ErrFailedPrecondition)
	}
	if err := e.dropExec(ctx, l, p); err != nil {
		return wire.Exit{}, err
	}
	return *exit, nil
}

// dropExec removes what is left of a process that was executed in a container and has exited.
func (e *Engine) dropExec(ctx context.Context, l *live, p *proc) error {
	if p.dir == "" { // nothing is
		l.forgetProc(p)
		return nil
	}
	if _, err := e.sandboxes.Delete(ctx, process(l, p.execID)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return err
	}
	l.forgetProc(p)
	return nil
}

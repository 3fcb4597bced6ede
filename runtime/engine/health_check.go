package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/oci/spec"
)

const (
	maxHealthOutput = 4096        // bytes that are kept of a check's output
	healthLinger    = time.Second // for the output of a check after its exit: a child may hold it open
)

// watchHealth checks a container's health from now on until its first process has ended.
func (e *Engine) watchHealth(l *live, p *proc) {
	c := l.record()
	if c.HealthCheck == nil || e.ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	l.health = &Health{Status: HealthStarting}
	l.checkUp = make(chan chan<- HealthResult)
	wishes := l.checkUp
	l.mu.Unlock()
	e.background.Go(func() { e.followHealth(l, p, *c.HealthCheck, c.StartedAt, wishes) })
}

// CheckHealth does a running container's health check now. It counts as any other does.
func (e *Engine) CheckHealth(ctx context.Context, ns, id string) (HealthResult, error) {
	l, p, err := e.running(ns, id, "")
	if err != nil {
		return HealthResult{}, err
	}
	if l.record().HealthCheck == nil {
		return HealthResult{}, fmt.Errorf("container %s has no health check: %w", l.key.id, errdefs.ErrFailedPrecondition)
	}
	if err := l.require("check the health of", Running); err != nil {
		return HealthResult{}, err
	}
	l.mu.Lock()
	wishes := l.checkUp
	l.mu.Unlock()
	answer := make(chan HealthResult, 1)
	for {
		select {
		case wishes <- answer:
			wishes = nil
		case r := <-answer:
			return r, nil
		case <-p.exited:
			return HealthResult{}, fmt.Errorf("container %s ended during its health check: %w", l.key.id, errdefs.ErrFailedPrecondition)
		case <-ctx.Done():
			return HealthResult{}, ctx.Err()
		}
	}
}

func (e *Engine) followHealth(l *live, p *proc, check HealthCheck, started time.Time, wishes <-chan chan<- HealthResult) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	health := Health{Status: HealthStarting}
	t := time.NewTimer(health.wait(check, time.Since(started)))
	defer t.Stop()
	for {
		var answer chan<- HealthResult
		select {
		case <-p.exited:
			return
		case <-ctx.Done():
			return
		case answer = <-wishes:
		case <-t.C:
		}
		if l.state() == Running { // what is paused cannot answer
			r := e.probe(ctx, l, check)
			if p.ended() != nil || ctx.Err() != nil {
				return
			}
			if answer != nil {
				answer <- r
			}
			next := health.next(check, r, r.Start.Sub(started))
			changed := next.Status != health.Status
			health = next
			l.mu.Lock()
			l.health = &next
			l.mu.Unlock()
			if changed {
				e.publishHealth(l, next.Status)
			}
		} else if answer != nil {
			answer <- HealthResult{Start: time.Now(), End: time.Now(), ExitCode: -1, Output: "the container is paused"}
		}
		t.Reset(health.wait(check, time.Since(started)))
	}
}

// probe executes a container's check once.
func (e *Engine) probe(ctx context.Context, l *live, check HealthCheck) (r HealthResult) {
	r = HealthResult{Start: time.Now(), ExitCode: -1}
	defer func() { r.End = time.Now() }()
	timeout := fmt.Errorf("the health check took longer than %s and was killed", check.Timeout)
	timed, cancel := context.WithTimeoutCause(ctx, check.Timeout, timeout)
	defer cancel()
	read, write, err := os.Pipe()
	if err != nil {
		r.Output = err.Error()
		return r
	}
	defer read.Close()
	second, err := unix.FcntlInt(write.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		write.Close()
		r.Output = err.Error()
		return r
	}
	p, err := e.Exec(timed, l.key.ns, l.key.id, ExecOptions{
		Process: spec.Exec{Args: testArgs(check, l.record())}, AutoRemove: true,
		Streams: &Streams{Stdout: write, Stderr: os.NewFile(uintptr(second), "stderr")},
	})
	if err != nil {
		r.Output = err.Error()
		return r
	}
	output := make(chan string, 1)
	go func() { output <- readSome(read) }()
	exit, err := p.Wait(timed)
	if err != nil {
		e.killProbe(ctx, l, p)
	} else {
		r.ExitCode = exit.Code
	}
	// Closed: everything is read already.
	_ = read.SetReadDeadline(time.Now().Add(healthLinger))
	r.Output = <-output
	if err != nil && errors.Is(context.Cause(timed), timeout) {
		r.Output = timeout.Error() + ": " + r.Output
	}
	return r
}

// killProbe ends a check that takes too long.
func (e *Engine) killProbe(ctx context.Context, l *live, p Process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	if err := e.Signal(ctx, l.key.ns, l.key.id, p.ExecID, int(syscall.SIGKILL), false); err != nil {
		return // it has ended by itself
	}
	if _, err := p.Wait(ctx); err != nil {
		e.Log.Warn("a health check has not ended after SIGKILL", "id", l.key.id, "pid", p.PID, "error", err)
	}
}

// readSome keeps the beginning of what is written, and reads all of it: the writer shall not block.
func readSome(from io.Reader) string {
	var kept strings.Builder
	_, _ = io.Copy(&kept, io.LimitReader(from, maxHealthOutput)) // until its end or the deadline
	_, _ = io.Copy(io.Discard, from)
	return kept.String()
}

// testArgs is the command of a check.
func testArgs(check HealthCheck, c Container) []string {
	if check.Test[0] == testCmd {
		return check.Test[1:]
	}
	return []string{"/bin/sh", "-c", check.Test[1]}
}

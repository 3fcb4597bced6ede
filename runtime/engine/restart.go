package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// The waits before a container is started again double from the first to the last, as Docker has it, and begin anew when
// it has run for a while.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Minute
	ranWell      = 10 * time.Second
)

// ending is what decides whether a container that does not run is started again.
type ending struct {
	policy  RestartPolicy
	code    int           // it has exited with
	stopped bool          // by a client
	started bool          // it has ever been
	boot    bool          // the daemon has just started
	ran     time.Duration // the last time
	count   int           // restarts so far
	backoff time.Duration // before the last one
}

// planRestart says whether, and after what time, a container is started again. One that a client has stopped stays so;
// after a start of the daemon the policy always does not care.
func planRestart(x ending) (after time.Duration, again bool) {
	switch x.policy.Name {
	case RestartAlways:
		again = !x.stopped || x.boot
	case RestartUnlessStopped:
		again = !x.stopped
	case RestartOnFailure:
		again = !x.stopped && x.code != 0 && (x.policy.MaxRetries == 0 || x.count < x.policy.MaxRetries)
	}
	if !again || !x.started {
		return 0, false
	}
	switch {
	case x.boot:
		return 0, true
	case x.backoff == 0 || x.ran >= ranWell:
		return firstBackoff, true
	}
	return min(2*x.backoff, lastBackoff), true
}

// cause is why the next start of a container is planned.
type cause int

const (
	hasExited cause = iota
	notStarted
	daemonStarted
)

// planned plans the next start of a container that has exited, where its policy wants one.
func (e *Engine) planned(l *live, why cause) {
	if e.ctx.Err() != nil {
		return // the next daemon does it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.rec
	if c.State != Exited || c.Exit == nil || c.Restart.none() || l.gone || l.restart != nil {
		return
	}
	ran := c.Exit.Time.Sub(c.StartedAt)
	if why == notStarted {
		ran = 0
	}
	after, again := planRestart(ending{
		policy: c.Restart, code: c.Exit.Code, stopped: c.Stopped, started: !c.StartedAt.IsZero(), boot: why == daemonStarted,
		ran: ran, count: c.RestartCount, backoff: l.backoff,
	})
	if !again {
		return
	}
	ctx, cancel := context.WithCancel(e.ctx)
	l.restart, l.backoff = cancel, after
	e.background.Go(func() { e.restartAfter(ctx, cancel, l, after) })
}

func (e *Engine) restartAfter(ctx context.Context, cancel context.CancelFunc, l *live, after time.Duration) {
	defer cancel()
	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	if err := e.restartNow(ctx, l); err != nil && ctx.Err() == nil && !errdefs.IsNotFound(err) {
		e.Log.Warn("a container is not started again by its restart policy", "id", l.key.id, "error", err)
		e.planned(l, notStarted)
	}
}

// restartNow starts a container again, unless it is not to be any more: under its lock, which who stops or starts or
// removes it takes too.
func (e *Engine) restartNow(ctx context.Context, l *live) error {
	unlock, err := e.locks.Lock(ctx, l.key.String())
	if err != nil {
		return err
	}
	defer unlock()
	l.mu.Lock()
	if ctx.Err() != nil || l.gone { // cancelled meanwhile
		l.mu.Unlock()
		return ctx.Err()
	}
	l.restart = nil
	l.mu.Unlock()
	if err := e.note(l, func(c *Container) { c.RestartCount++ }); err != nil {
		return err
	}
	_, err = e.startLocked(ctx, l, StartOptions{})
	return err
}

// noRestart drops the start that a policy has planned.
func (l *live) noRestart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restart != nil {
		l.restart()
		l.restart = nil
	}
}

// noteStopped keeps a container that a client ends from being started again by its policy.
func (e *Engine) noteStopped(l *live) error {
	l.noRestart()
	if c := l.record(); c.Restart.none() || c.Stopped {
		return nil
	}
	err := e.save(l, func(c *Container) { c.Stopped = true }) // a reboot shall not undo it
	l.noRestart()                                             // an exit may have come between
	return err
}

// byClient makes a start that a client asks for the first one again.
func (e *Engine) byClient(l *live) error {
	l.noRestart()
	l.mu.Lock()
	l.backoff = 0
	l.mu.Unlock()
	if c := l.record(); !c.Stopped && c.RestartCount == 0 {
		return nil
	}
	return e.save(l, func(c *Container) { c.Stopped, c.RestartCount = false, 0 })
}

// SetRestart gives a container another restart policy, for its next exit.
func (e *Engine) SetRestart(ctx context.Context, ns, id string, policy RestartPolicy) error {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return err
	}
	defer unlock()
	c := l.record()
	err = checkRestart(policy, c.AutoRemove)
	if err == nil && c.Pod != "" && !policy.none() {
		err = fmt.Errorf("who runs its pod starts it again: %w", errdefs.ErrInvalidArgument)
	}
	if err == nil {
		l.noRestart()
		err = e.save(l, func(c *Container) { c.Restart = policy })
	}
	if err != nil {
		return fmt.Errorf("restart policy of container %s: %w", id, err)
	}
	e.publish(l, "update", nil)
	return nil
}

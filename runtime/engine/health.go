package engine

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	oci "github.com/minirt/mini/oci/image"
)

// HealthCheck says how the daemon finds out whether a running container does its work.
type HealthCheck struct {
	Test          []string      `json:"test,omitempty"` // CMD ARG…, CMD-SHELL LINE, or NONE
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // failures do not count before it is over
	StartInterval time.Duration `json:"startInterval,omitempty"` // during the start period
	Retries       int           `json:"retries,omitempty"`       // failures in a row that make it unhealthy
}

// What Docker has where a check does not say.
const (
	defaultHealthInterval = 30 * time.Second
	defaultHealthTimeout  = 30 * time.Second
	defaultStartInterval  = 5 * time.Second
	defaultHealthRetries  = 3
)

// The kinds of tests.
const (
	testNone  = "NONE"
	testCmd   = "CMD"
	testShell = "CMD-SHELL"
)

func checkHealth(h *HealthCheck) error {
	if h == nil {
		return nil
	}
	for name, d := range map[string]time.Duration{
		"interval": h.Interval, "timeout": h.Timeout, "start period": h.StartPeriod, "start interval": h.StartInterval,
	} {
		if d < 0 || d > 0 && d < time.Millisecond {
			return fmt.Errorf("health check: %s %s: use 0 for the default, or 1ms and more: %w", name, d, errdefs.ErrInvalidArgument)
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("health check: %d retries: use 0 for the default, or more: %w", h.Retries, errdefs.ErrInvalidArgument)
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch kind := h.Test[0]; {
	case kind == testNone:
	case (kind == testCmd || kind == testShell) && len(h.Test) > 1:
	case kind == testCmd || kind == testShell:
		return fmt.Errorf("health check %s: the command is missing: %w", kind, errdefs.ErrInvalidArgument)
	default:
		return fmt.Errorf("health check %q: begin with %s, %s or %s: %w", kind, testCmd, testShell, testNone, errdefs.ErrInvalidArgument)
	}
	return nil
}

// effectiveCheck lays what is asked for over what the image says, and completes it; nil: nothing is checked.
func effectiveCheck(of *oci.HealthCheck, asked *HealthCheck) *HealthCheck {
	var h HealthCheck
	if of != nil {
		h = HealthCheck{
			Test: of.Test, Interval: of.Interval, Timeout: of.Timeout, StartPeriod: of.StartPeriod, StartInterval: of.StartInterval, Retries: of.Retries,
		}
	}
	if asked == nil {
		asked = &HealthCheck{}
	}
	if len(asked.Test) > 0 {
		h.Test = asked.Test
	}
	over := func(own *time.Duration, asked, otherwise time.Duration) {
		if asked > 0 {
			*own = asked
		}
		if *own <= 0 {
			*own = otherwise
		}
	}
	over(&h.Interval, asked.Interval, defaultHealthInterval)
	over(&h.Timeout, asked.Timeout, defaultHealthTimeout)
	over(&h.StartPeriod, asked.StartPeriod, 0)
	over(&h.StartInterval, asked.StartInterval, defaultStartInterval)
	if asked.Retries > 0 {
		h.Retries = asked.Retries
	}
	if h.Retries <= 0 {
		h.Retries = defaultHealthRetries
	}
	if len(h.Test) < 2 || h.Test[0] != testCmd && h.Test[0] != testShell {
		return nil
	}
	return &h
}

// Health is how a running container's checks have gone.
type Health struct {
	Status        string // one of those below
	FailingStreak int
	Log           []HealthResult // the last five, the oldest first
}

// The states of health.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// HealthResult is how one check has gone.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int // 0: healthy; -1: it took too long, or could not be executed
	Output     string
}

const keptResults = 5

// next is the health after another check; since is for how long the container had run when that began.
func (h Health) next(check HealthCheck, r HealthResult, since time.Duration) Health {
	log := append(append([]HealthResult(nil), h.Log...), r)
	h.Log = log[max(0, len(log)-keptResults):]
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = HealthHealthy, 0
	case h.Status == HealthStarting && since < check.StartPeriod:
	default:
		h.FailingStreak++
		if h.FailingStreak >= check.Retries {
			h.Status = HealthUnhealthy
		}
	}
	return h
}

// wait is the time until the next check.
func (h Health) wait(check HealthCheck, since time.Duration) time.Duration {
	if h.Status == HealthStarting && since < check.StartPeriod {
		return check.StartInterval
	}
	return check.Interval
}

func (e *Engine) publishHealth(l *live, status string) {
	e.publish(l, "health_status", map[string]string{"health": status})
}

package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// errStalled is the cause of a connection given up for its silence.
var errStalled = errors.New("no byte arrived for too long")

// patience is how often one host is asked.
type patience struct {
	attempts int           // requests in all
	dials    int           // of them, connections that are refused at once
	asked    time.Duration // longest Retry-After that is waited for
}

// patience with the last host is what was configured; a mirror before it only
// gets a second chance, because there is somebody else to ask.
func (c *Client) patience(last bool) patience {
	if last {
		return patience{attempts: c.retries.Attempts, dials: min(3, c.retries.Attempts), asked: c.retries.MaxAsked}
	}
	return patience{attempts: min(2, c.retries.Attempts), dials: 1, asked: 2 * time.Second}
}

// retry calls f until it succeeds, fails for good, or patience ends.
func (c *Client) retry(ctx context.Context, p patience, f func() error) error {
	for done := 1; ; done++ {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		asked, again := p.judge(err, done)
		if !again {
			return err
		}
		pause := max(asked, c.retries.pause(done, rand.Float64()))
		c.log.DebugContext(ctx, "registry request is repeated", "attempt", done+1, "pause", pause, "error", err)
		if c.sleep(ctx, pause) != nil {
			return err
		}
	}
}

// judge decides whether to ask again after the done-th failure, and how long
// the host asked to wait.
func (p patience) judge(err error, done int) (asked time.Duration, again bool) {
	var status *statusError
	if errors.As(err, &status) {
		switch status.status {
		case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
			return status.retryAfter, done < p.attempts && status.retryAfter <= p.asked
		}
		return 0, false
	}
	var broken *problem
	if !errors.As(err, &broken) || broken.inner == nil {
		return 0, false
	}
	limit := p.attempts
	switch connectionFault(broken.inner) {
	case faultPermanent:
		return 0, false
	case faultDial:
		limit = p.dials
	}
	return 0, done < limit
}

type fault int

const (
	faultBroken    fault = iota // in the middle: asking again may help
	faultDial                   // nobody is there at the moment
	faultPermanent              // asking again gives the same answer
)

// connectionFault sorts the errors of net/http.
func connectionFault(err error) fault {
	var verify *tls.CertificateVerificationError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled) && !errors.Is(err, errStalled):
		return faultPermanent
	case errors.As(err, &verify), errors.Is(err, http.ErrSchemeMismatch), errdefs.IsFailedPrecondition(err):
		return faultPermanent
	case errors.As(err, &dns) && dns.IsNotFound:
		return faultPermanent
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &op) && op.Op == "dial":
		return faultDial
	}
	return faultBroken
}

// pause is the time before the next request: exponential, between half and all
// of it so that many clients do not come back together. jitter is in [0,1).
func (r Retry) pause(done int, jitter float64) time.Duration {
	d := r.Max
	if done < 30 {
		d = min(r.Base<<(done-1), r.Max)
	}
	return d/2 + time.Duration(jitter*float64(d/2))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// parseRetryAfter reads RFC 9110 section 10.2.3: seconds or a date.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return t.Sub(now).Round(time.Second)
	}
	return 0
}

// parseRateLimit reads "100;w=21600": requests, and the window's seconds.
func parseRateLimit(s string) (limit int, window time.Duration, ok bool) {
	count, rest, _ := strings.Cut(s, ";")
	limit, err := strconv.Atoi(strings.TrimSpace(count))
	if err != nil {
		return 0, 0, false
	}
	seconds, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(rest), "w="), 10, 32)
	if err != nil {
		return 0, 0, false
	}
	return limit, time.Duration(seconds) * time.Second, true
}

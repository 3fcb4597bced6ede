package registry

import (
	"errors"
	"fmt"
	"time"
)

// unreachableFor is how long a mirror that could not be connected to is passed
// over, so that an image of many layers waits for its dial timeout once.
const unreachableFor = 30 * time.Second

// outage is a mirror's last failed connection.
type outage struct {
	since time.Time
	err   error
}

// noteOutage remembers that nobody answers at a host.
func (c *Client) noteOutage(e *endpoint, err error) {
	var broken *problem
	if !errors.As(err, &broken) || broken.inner == nil || connectionFault(broken.inner) != faultDial {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outages[e.url()] = outage{since: time.Now(), err: err}
}

// passOver returns why a mirror is not asked now, or nil. The last host is
// always asked.
func (c *Client) passOver(e *endpoint, last bool) error {
	if last {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.outages[e.url()]
	ago := time.Since(o.since)
	if !ok || ago > unreachableFor {
		delete(c.outages, e.url())
		return nil
	}
	return fmt.Errorf("%w (%s ago, not tried again)", o.err, ago.Round(time.Second))
}

package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/console"

	"github.com/minirt/mini/runtime/api"
)

// Progress shows a transfer: a bar for each item on a terminal, a line for each change of stage elsewhere.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	bars  bool
	quiet bool
	items []*item
	drawn int
	last  time.Time
	start time.Time
	now   func() time.Time
	width func() int
}

type item struct {
	*api.Progress
	began time.Time
}

// redraw is the least time between two drawings of the bars.
const redraw = 50 * time.Millisecond

// NewProgress shows on f; quiet shows nothing.
func NewProgress(f *os.File, quiet bool) *Progress {
	p := &Progress{out: f, quiet: quiet, start: time.Now(), now: time.Now}
	if term, err := console.ConsoleFromFile(f); err == nil {
		p.bars = true
		p.width = func() int {
			if size, err := term.Size(); err == nil && size.Width > 0 {
				return int(size.Width)
			}
			return 80
		}
	}
	return p
}

// Update takes the new state of an item.
func (p *Progress) Update(u *api.Progress) {
	if p.quiet || u.Item == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.put(u)
	if p.bars {
		if now := p.now(); changed || now.Sub(p.last) >= redraw {
			p.last = now
			p.draw()
		}
		return
	}
	if u.Message != "" {
		fmt.Fprintln(p.out, u.Message)
	}
	if changed {
		fmt.Fprintln(p.out, line(u))
	}
}

// put stores an item's state and says whether its stage is a new one.
func (p *Progress) put(u *api.Progress) bool {
	for _, i := range p.items {
		if i.Item == u.Item {
			changed := i.Stage != u.Stage
			i.Progress = u
			return changed
		}
	}
	p.items = append(p.items, &item{Progress: u, began: p.now()})
	return true
}

// Close draws the last state.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet || len(p.items) == 0 {
		return
	}
	if p.bars {
		p.draw()
	}
	var total int64
	for _, i := range p.items {
		total += i.Total
	}
	fmt.Fprintf(p.out, "elapsed: %.1fs\ttotal: %s\n", p.now().Sub(p.start).Seconds(), Size(total))
}

func (p *Progress) draw() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA", p.drawn)
	}
	width := p.width()
	for _, i := range p.items {
		fmt.Fprintf(p.out, "\x1b[2K%s\n", bar(i.Progress, p.now().Sub(i.began), width))
	}
	p.drawn = len(p.items)
}

// line is an item's state as one plain line.
func line(u *api.Progress) string {
	s := fmt.Sprintf("%s: %s", name(u), u.Stage)
	if u.Total > 0 {
		s += " " + Size(u.Total)
	}
	return s
}

func name(u *api.Progress) string {
	if u.Kind == "" || u.Kind == "image" {
		return u.Item
	}
	_, hex, found := strings.Cut(u.Item, ":")
	if !found || len(hex) < 12 {
		return u.Kind + " " + u.Item
	}
	return u.Kind + " " + hex[:12]
}

// bar is an item's state as one line of a terminal of this width.
func bar(u *api.Progress, took time.Duration, width int) string {
	left := fmt.Sprintf("%-24s %-10s", name(u), u.Stage)
	right := ""
	done := 1.0
	switch {
	case u.Total > 0 && u.Offset < u.Total:
		done = float64(u.Offset) / float64(u.Total)
		right = fmt.Sprintf("%s/%s", Size(u.Offset), Size(u.Total))
		if s := took.Seconds(); s > 0.5 {
			right += fmt.Sprintf(" %s/s", Size(int64(float64(u.Offset)/s)))
		}
	case u.Total > 0:
		right = Size(u.Total)
	case u.Stage != "done" && u.Stage != "exists":
		done = 0
	}
	room := width - len(left) - len(right) - 6
	if room < 5 {
		return cut(left+" "+right, width)
	}
	room = min(room, 40)
	full := int(done * float64(room))
	return cut(fmt.Sprintf("%s |%s%s| %s", left, strings.Repeat("+", full), strings.Repeat("-", room-full), right), width)
}

func cut(s string, width int) string {
	if len(s) > width && width > 0 {
		return s[:width]
	}
	return s
}

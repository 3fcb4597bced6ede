//go:build bench

package bench

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// contender is one side of a comparison.
type contender struct {
	name string
	// prepare gets ready for one round, outside of the time; it may be nil.
	prepare func(round int)
	once    func(round int)
}

// comparison is measured in turn: a, b, a, b, …, so that both see the machine in the same moods.
type comparison struct {
	what   string
	goal   float64 // the ratio wanted of a to b
	rounds int
	count  int // of things made in a round; more than one are shown as a rate
	a, b   contender
}

// run measures and returns the line of the table.
func (c comparison) run(t *testing.T) string {
	t.Helper()
	const warm = 2 // rounds that do not count
	var a, b []time.Duration
	for round := range c.rounds + warm {
		for _, side := range []struct {
			contender
			times *[]time.Duration
		}{{c.a, &a}, {c.b, &b}} {
			if side.prepare != nil {
				side.prepare(round)
			}
			began := time.Now()
			side.once(round)
			if took := time.Since(began); round >= warm {
				*side.times = append(*side.times, took)
			}
		}
	}
	ratio := float64(median(a)) / float64(median(b))
	verdict := "met"
	if ratio > c.goal {
		verdict = "missed"
	}
	if c.count > 1 {
		line := fmt.Sprintf("| %s | %s %s | %s %s | %.1f × | ≥ %.1f × | %s | %d |", c.what,
			c.a.name, rate(c.count, a), c.b.name, rate(c.count, b), 1/ratio, 1/c.goal, verdict, c.rounds)
		t.Log(line)
		return line
	}
	line := fmt.Sprintf("| %s | %s %s (%s) | %s %s (%s) | %.2f | ≤ %.2f | %s | %d |", c.what,
		c.a.name, ms(median(a)), spread(a), c.b.name, ms(median(b)), spread(b), ratio, c.goal, verdict, c.rounds)
	t.Log(line)
	return line
}

const header = "| what | ours | theirs | ratio | goal | | rounds |\n|---|---|---|---|---|---|---|"

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// spread is the fastest and the slowest round.
func spread(d []time.Duration) string { return ms(slices.Min(d)) + " to " + ms(slices.Max(d)) }

// rate is how many a second, with the slowest and the fastest round.
func rate(count int, d []time.Duration) string {
	of := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(count)/d.Seconds()) }
	return of(median(d)) + "/s (" + of(slices.Max(d)) + " to " + of(slices.Min(d)) + ")"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// firstLine is the version that a program tells.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// versionOf finds the version that minictr prints after "Version:".
func versionOf(text string) string {
	_, rest, _ := strings.Cut(text, "Version:")
	return firstLine(rest)
}

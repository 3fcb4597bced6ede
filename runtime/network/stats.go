package network

import (
	"fmt"
	"strconv"
	"strings"
)

// parseStats reads /proc/net/dev (proc(5)): two lines of headings, then a line for each interface: its name, a colon,
// eight counters of what was received and eight of what was sent. Bytes, packets, errors and drops come first in both.
func parseStats(text string) ([]InterfaceStats, error) {
	var all []InterfaceStats
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		if !ok || strings.Contains(name, "|") {
			continue
		}
		name = strings.TrimSpace(name)
		if name == "lo" {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) < 16 {
			return nil, fmt.Errorf("counters of interface %s: %d fields, want 16", name, len(fields))
		}
		s := InterfaceStats{Name: name}
		for i, to := range map[int]*uint64{
			0: &s.RxBytes, 1: &s.RxPackets, 2: &s.RxErrors, 3: &s.RxDropped, 8: &s.TxBytes, 9: &s.TxPackets, 10: &s.TxErrors, 11: &s.TxDropped,
		} {
			v, err := strconv.ParseUint(fields[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("counters of interface %s: %w", name, err)
			}
			*to = v
		}
		all = append(all, s)
	}
	return all, nil
}

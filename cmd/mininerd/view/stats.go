package view

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
)

// Sample is what the daemon measures of a container, as far as stats shows it. Its JSON is that of runtime/stats.
type Sample struct {
	Time time.Time `json:"time"`
	CPU  struct {
		Usage uint64 `json:"usage"`
	} `json:"cpu"`
	Memory struct {
		WorkingSet uint64 `json:"workingSet"`
		Limit      uint64 `json:"limit"`
	} `json:"memory"`
	Pids struct {
		Current uint64 `json:"current"`
	} `json:"pids"`
	BlockIO []struct {
		ReadBytes  uint64 `json:"readBytes"`
		WriteBytes uint64 `json:"writeBytes"`
	} `json:"blockIO"`
	Networks []struct {
		RxBytes uint64 `json:"rxBytes"`
		TxBytes uint64 `json:"txBytes"`
	} `json:"networks"`
}

// Stats is a row of stats.
type Stats struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string
}

// StatsColumns are those of stats.
const StatsColumns = `{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`

// StatsHeader names the columns of stats.
func StatsHeader() Stats {
	return Stats{
		BlockIO: "BLOCK I/O", CPUPerc: "CPU %", Container: "CONTAINER", ID: "CONTAINER ID", MemPerc: "MEM %", MemUsage: "MEM USAGE / LIMIT",
		Name: "NAME", NetIO: "NET I/O", PIDs: "PIDS",
	}
}

// StatsRow compares two samples of a container; memory is the machine's, in bytes, for one without a limit. before may be
// nil.
func StatsRow(id, name string, before, now *Sample, memory uint64, whole bool) Stats {
	r := Stats{Container: name, ID: ShortID(id, whole), Name: name, CPUPerc: "--", MemPerc: "--", MemUsage: "-- / --", NetIO: "--", BlockIO: "--", PIDs: "--"}
	if now == nil {
		return r
	}
	limit := now.Memory.Limit
	if limit == 0 || limit > memory {
		limit = memory
	}
	percent := 0.0
	if before != nil && now.Time.After(before.Time) && now.CPU.Usage >= before.CPU.Usage {
		percent = float64(now.CPU.Usage-before.CPU.Usage) / float64(now.Time.Sub(before.Time)) * 100
	}
	share := 0.0
	if limit > 0 {
		share = float64(now.Memory.WorkingSet) / float64(limit) * 100
	}
	var rx, tx, read, written uint64
	for _, n := range now.Networks {
		rx, tx = rx+n.RxBytes, tx+n.TxBytes
	}
	for _, b := range now.BlockIO {
		read, written = read+b.ReadBytes, written+b.WriteBytes
	}
	decimal := func(n uint64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	r.CPUPerc, r.MemPerc = fmt.Sprintf("%.2f%%", percent), fmt.Sprintf("%.2f%%", share)
	r.MemUsage = units.BytesSize(float64(now.Memory.WorkingSet)) + " / " + units.BytesSize(float64(limit))
	r.NetIO, r.BlockIO, r.PIDs = decimal(rx)+" / "+decimal(tx), decimal(read)+" / "+decimal(written), fmt.Sprint(now.Pids.Current)
	return r
}

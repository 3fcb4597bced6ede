// Command sleep waits for the sum of its arguments: seconds, 1.5, 2m, 1h, 1d or infinity.
package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

func main() {
	var total time.Duration
	for _, arg := range os.Args[1:] {
		d, err := duration(arg)
		if err != nil {
			fmt.Fprintf(os.Stderr, "sleep: %s: not a time\n", arg)
			os.Exit(1)
		}
		total += d
	}
	time.Sleep(total)
}

func duration(arg string) (time.Duration, error) {
	if arg == "infinity" || arg == "inf" {
		return math.MaxInt64 / 2, nil
	}
	unit := time.Second
	if n := len(arg) - 1; n > 0 {
		switch arg[n] {
		case 's':
			arg = arg[:n]
		case 'm':
			arg, unit = arg[:n], time.Minute
		case 'h':
			arg, unit = arg[:n], time.Hour
		case 'd':
			arg, unit = arg[:n], 24*time.Hour
		}
	}
	f, err := strconv.ParseFloat(arg, 64)
	if err == nil && f < 0 {
		err = strconv.ErrRange
	}
	return time.Duration(f * float64(unit)), err
}

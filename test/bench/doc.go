// Package bench measures minid against Debian's runc, containerd and docker on the same machine, in the same run, in turn, and
// prints ratios of medians as Markdown. There is nothing here but tests behind the build tag bench: "make bench".
//
// BENCH_ROUNDS (25), BENCH_PULLS (5) and BENCH_CONTAINERS (200) set how much is measured.
package bench

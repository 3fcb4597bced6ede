// Command probe is what the containers of the crash tests run: a static program that tells apart what was lost from what
// was never written.
//
//	probe ticks [CODE]  writes a numbered line each millisecond, and "got TEXT" for each line of its standard input, each
//	                    with one write. A terminal does not echo. SIGUSR1 ends it with CODE, after a last line "end N",
//	                    N lines having been written.
//	probe lines N       writes N numbered lines as fast as it can
//	probe eat MIB       takes memory until the kernel minds, at most so much
//	probe sleep         waits for SIGUSR2
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	number := 0
	if len(os.Args) > 2 {
		number, _ = strconv.Atoi(os.Args[2])
	}
	switch os.Args[1] {
	case "ticks":
		os.Exit(ticks(number))
	case "lines":
		for i := range number {
			fmt.Printf("%07d\n", i)
		}
	case "eat":
		eat(number)
	case "sleep":
		never := make(chan os.Signal, 1)
		signal.Notify(never, syscall.SIGUSR2)
		<-never
	}
}

func ticks(code int) int {
	if t, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		t.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(0, unix.TCSETS, t); err != nil {
			fmt.Println(err)
		}
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGUSR1)
	typed := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			typed <- in.Text()
		}
	}()
	tick := time.NewTicker(time.Millisecond)
	for n := 0; ; {
		select {
		case <-tick.C:
			fmt.Printf("%07d\n", n)
			n++
		case text := <-typed:
			fmt.Printf("got %s\n", text)
		case <-end:
			fmt.Printf("end %d\n", n)
			return code
		}
	}
}

func eat(mib int) {
	var all [][]byte
	for range mib {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
	}
	fmt.Println("ate", len(all))
}

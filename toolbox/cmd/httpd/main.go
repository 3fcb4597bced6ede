// Command httpd serves a directory, and at /echo what it knows of the request: httpd [-p [ADDRESS:]PORT] [-h DIRECTORY].
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	address := flag.String("p", "80", "`port` or address:port to listen on")
	dir := flag.String("h", ".", "`directory` to serve")
	flag.Bool("f", true, "stay in the foreground, which it always does")
	flag.Parse()
	if !strings.Contains(*address, ":") {
		*address = ":" + *address
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(*dir)))
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		host, err := os.Hostname()
		if err != nil {
			host = err.Error()
		}
		fmt.Fprintf(w, "%s %s\nfrom %s\nto %s\nby %s\n", r.Method, r.URL, r.RemoteAddr, r.Host, host)
	})
	server := &http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, "httpd:", err)
		os.Exit(1)
	}
}

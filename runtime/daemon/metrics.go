package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"github.com/minirt/mini/runtime/engine"
)

// metrics are what Prometheus can read of the daemon. There are none (nil) unless an address is configured.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.HistogramVec
	collected prometheus.Counter
	freed     prometheus.Counter
	forbidden *prometheus.CounterVec
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "minid_request_duration_seconds", Help: "Time to answer a request, or to the end of a stream.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"method", "code"}),
		collected: prometheus.NewCounter(prometheus.CounterOpts{Name: "minid_gc_runs_total", Help: "Garbage collections that succeeded."}),
		freed:     prometheus.NewCounter(prometheus.CounterOpts{Name: "minid_gc_freed_bytes_total", Help: "Bytes freed by the garbage collection."}),
		forbidden: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "minid_seccomp_notifications_total", Help: "System calls that profiles of containers forbid, where the daemon is told.",
		}, []string{"call"}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "minid_build_info", Help: "Always 1."}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.requests, m.collected, m.freed, m.forbidden, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// count adds what the engine has.
func (m *metrics) count(counts func() engine.Known) {
	for name, read := range map[string]func(engine.Known) int{
		"minid_containers":         func(k engine.Known) int { return k.Containers },
		"minid_containers_running": func(k engine.Known) int { return k.Running },
	} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: "Containers that there are, and of them those that run."},
			func() float64 { return float64(read(counts())) }))
	}
}

// observer is what the interceptors call.
func (m *metrics) observer() func(string, codes.Code, time.Duration) {
	if m == nil {
		return nil
	}
	return func(method string, code codes.Code, took time.Duration) {
		m.requests.WithLabelValues(method, code.String()).Observe(took.Seconds())
	}
}

// forbid counts a system call that was refused.
func (m *metrics) forbid(call string) {
	if m != nil {
		m.forbidden.WithLabelValues(call).Inc()
	}
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}

// profiles answers what `go tool pprof` asks.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHTTP answers at a local address until stop is called.
func serveHTTP(address string, h http.Handler, log *slog.Logger) (stop func(context.Context) error, err error) {
	l, err := listenLocal(address)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return context.Background() }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the listener broke", "address", address, "error", err)
		}
	}()
	return func(context.Context) error {
		err := s.Close()
		<-done
		return err
	}, nil
}

func debugSocket(state string) string { return filepath.Join(state, "debug.sock") }

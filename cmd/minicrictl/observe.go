package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/pprof"
	"time"

	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// flushTimeout is how long the last traces may hold up the end of the program.
const flushTimeout = 2 * time.Second

// observation is what looks at the program itself: profiles and traces.
type observation struct {
	ends []func() error
}

func (o *observation) begin(c *cli.Context) error {
	if name := c.String("profile-cpu"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			return fmt.Errorf("--profile-cpu: %w", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return errors.Join(fmt.Errorf("--profile-cpu: %w", err), f.Close())
		}
		o.ends = append(o.ends, func() error { pprof.StopCPUProfile(); return f.Close() })
	}
	if name := c.String("profile-mem"); name != "" {
		full, err := filepath.Abs(name)
		if err != nil {
			return fmt.Errorf("--profile-mem: %w", err)
		}
		o.ends = append(o.ends, func() error { return writeHeap(full) })
	}
	if c.Bool("enable-tracing") {
		return o.trace(c.Context, c.String("tracing-endpoint"), c.Int("tracing-sampling-rate-per-million"))
	}
	return nil
}

func writeHeap(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--profile-mem: %w", err)
	}
	goruntime.GC() // the profile is as of the last collection
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

// trace makes the calls' spans go to a collector. One that is away costs spans, not calls.
func (o *observation) trace(ctx context.Context, endpoint string, perMillion int) error {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure(), otlptracegrpc.WithTimeout(flushTimeout))
	if err != nil {
		return fmt.Errorf("--tracing-endpoint %s: %w", endpoint, err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithSampler(trace.ParentBased(sampler(perMillion))),
		trace.WithResource(resource.NewSchemaless(attribute.String("service.name", program))))
	otel.SetTracerProvider(provider)
	o.ends = append(o.ends, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			return fmt.Errorf("the last traces are lost: %w", err)
		}
		return nil
	})
	return nil
}

func sampler(perMillion int) trace.Sampler {
	if perMillion < 0 || perMillion >= 1_000_000 {
		return trace.AlwaysSample()
	}
	return trace.TraceIDRatioBased(float64(perMillion) / 1_000_000)
}

// end writes what was gathered; an error does not change how the command has gone.
func (o *observation) end(w io.Writer) {
	for _, end := range o.ends {
		if err := end(); err != nil {
			fmt.Fprintln(w, "warning:", err)
		}
	}
	o.ends = nil
}

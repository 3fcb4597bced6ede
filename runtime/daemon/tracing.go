package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// traceFlushTimeout is how long the last spans may hold up the stop.
const traceFlushTimeout = 2 * time.Second

// startTracing sends a span per request to the collector, when one is configured, and takes over the callers' traces.
// It connects in the background: a collector that is away costs spans, not requests. All that the daemon has to do with
// OpenTelemetry is in this file.
func startTracing(ctx context.Context, c TracingConfig, name, version string, log *slog.Logger) ([]grpc.ServerOption, func(context.Context) error, error) {
	if c.Endpoint == "" {
		return nil, func(context.Context) error { return nil }, nil
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithTimeout(10 * time.Second)}
	if strings.HasPrefix(c.Endpoint, "https://") {
		options = append(options, otlptracegrpc.WithEndpointURL(c.Endpoint))
	} else {
		options = append(options, otlptracegrpc.WithEndpoint(strings.TrimPrefix(c.Endpoint, "http://")), otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("tracing.endpoint %s: %w", c.Endpoint, err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are lost", "endpoint", c.Endpoint, "error", err) }))
	provider := trace.NewTracerProvider(
		trace.WithBatcher(exporter),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(c.Sampling))),
		trace.WithResource(resource.NewSchemaless(attribute.String("service.name", "minid"),
			attribute.String("service.instance.id", name), attribute.String("service.version", version))),
	)
	handler := otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(func(i *stats.RPCTagInfo) bool { return !strings.HasPrefix(i.FullMethodName, "/grpc.health.") }),
	)
	stop := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, traceFlushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces are lost", "endpoint", c.Endpoint, "error", err)
		}
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(handler)}, stop, nil
}

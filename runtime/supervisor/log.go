package supervisor

import (
	"log/slog"
	"time"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// logWriter writes the streams of a process to its log; *logs.Writer is one.
type logWriter interface {
	Write(stream string, p []byte, t time.Time) error
	// Flush writes the beginnings of lines whose ends have not come.
	Flush() error
	Reopen() error
	Close() error
}

// openLog opens the log of a process; nil for the driver none.
func openLog(l wire.Log, log *slog.Logger) (logWriter, error) {
	if l.Driver == logs.DriverNone || l.Driver == "" {
		return nil, nil
	}
	return logs.NewWriter(logs.Options{Driver: l.Driver, Path: l.Path, MaxSize: l.MaxSize, MaxFiles: l.MaxFiles, MaxLine: l.MaxLine, Compress: l.Compress, Attrs: l.Attrs, Logger: log})
}

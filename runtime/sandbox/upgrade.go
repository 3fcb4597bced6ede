package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Upgrade replaces the program of every connected supervisor by the binary that is installed now. Containers,
// attachments and connections go on.
func (s *Sandboxes) Upgrade(ctx context.Context) error {
	binary, err := s.sealed()
	if err != nil {
		return err
	}
	s.mu.Lock()
	var groups []*group
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	s.mu.Unlock()
	var errs []error
	for _, g := range groups {
		if g.current() != nil {
			errs = append(errs, g.upgrade(ctx, binary))
		}
	}
	return errors.Join(errs...)
}

func (g *group) upgrade(ctx context.Context, binary *os.File) error {
	files, err := g.call(ctx, wire.MethodUpgrade, wire.Upgrade{Path: g.s.Binary}, []*os.File{binary}, nil)
	fdpass.CloseAll(files)
	if err != nil {
		return fmt.Errorf("supervisor %s: %w", g.name, err)
	}
	var hi wire.HelloResult
	hello := wire.Hello{Version: wire.Version, Daemon: g.s.Name, Primary: true}
	if _, err := g.call(ctx, wire.MethodHello, hello, nil, &hi); err != nil {
		return fmt.Errorf("supervisor %s: after its upgrade: %w", g.name, err)
	}
	g.mu.Lock()
	g.hi = hi
	g.mu.Unlock()
	return nil
}

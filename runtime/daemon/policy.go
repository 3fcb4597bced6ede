package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/minirt/mini/runtime/classes"
	"github.com/minirt/mini/runtime/seccomp"
	"github.com/minirt/mini/runtime/tuning"
)

// setPolicy brings into force what a configuration says of pods and containers. On an error that from before stays.
func (d *Daemon) setPolicy(c Config) error {
	settings, err := c.policy()
	if err != nil {
		return err
	}
	err = d.classes.Load(classes.Config{
		BlockIOFile: c.CRI.BlockIOFile, IgnoreBlockIO: c.CRI.IgnoreBlockIO, RDTFile: c.CRI.RDTFile, IgnoreRDT: c.CRI.IgnoreRDT,
	}, d.Log)
	if err != nil {
		return fmt.Errorf("cri.blockio_config_file or rdt_config_file: %w", err)
	}
	settings.Classes = &d.classes
	d.policy.Store(settings)
	return nil
}

// openTuner makes what changes the host for containers with processors of their own. What it has changed a reboot undoes,
// and so what it keeps of that is in the state directory.
func (d *Daemon) openTuner() (*tuning.Tuner, error) {
	c := d.Config.CRI
	o := tuning.Options{Root: c.TuningRoot, State: filepath.Join(d.Config.State, "tuning.json"), IRQBalance: c.IRQBalanceFile, Log: d.Log}
	if c.TuningRoot == "/" {
		o.Restart = restartIRQBalance
	}
	return tuning.Open(o)
}

// listenForbidden takes over filters of system calls that ask.
func (d *Daemon) listenForbidden() error {
	l, err := seccomp.Listen(d.engine.ForbiddenSocket(), func(c seccomp.Call) {
		d.metrics.forbid(c.Name)
		d.engine.HandleForbidden(c.Container, c.Name, c.PID)
	}, d.Log)
	if err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error { return l.Close() })
	return nil
}

// restartTimeout bounds the restart of a service.
const restartTimeout = 10 * time.Second

// restartIRQBalance has irqbalance(1) read its configuration again, where it runs as a service.
func restartIRQBalance() error {
	systemctl, err := exec.LookPath("systemctl")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), restartTimeout)
	defer cancel()
	return exec.CommandContext(ctx, systemctl, "try-restart", "irqbalance.service").Run()
}

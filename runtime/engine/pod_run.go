package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
)

// RunPod makes a pod: its record, its pinned namespaces, its network and its files. A pod that is asked for again under
// the same key is the one that is being made, or that is ready. When it fails nothing is left.
func (e *Engine) RunPod(ctx context.Context, ns string, o PodOptions) (Pod, error) {
	if err := e.checkPod(&o); err != nil {
		return Pod{}, err
	}
	pod, err := e.podFlights.do(ctx, flightKey(ns, o.Key), func(ctx context.Context) (Pod, error) {
		p := e.podByKey(ns, o.Key)
		if p != nil && p.record().State == PodCreating && e.undoHalf(ctx, p) == nil {
			p = e.podByKey(ns, o.Key)
		}
		if p != nil {
			return e.again(p)
		}
		return e.makePod(ctx, ns, o)
	})
	if err != nil && ctx.Err() != nil { // it may still be under way
		if p := e.podByKey(ns, o.Key); p != nil {
			err = fmt.Errorf("run pod %s/%s: %s: %w", o.PodNamespace, o.Name, p.stage(), err)
		}
	}
	return pod, err
}

// undoHalf undoes a pod that nobody makes any more, which a crash has left, or an undoing that failed, so that another can
// have its key; where that is being done already, it is waited for.
func (e *Engine) undoHalf(ctx context.Context, p *livePod) error {
	unlock, err := e.lockedPod(ctx, p)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return e.undoPod(ctx, p)
}

func flightKey(ns, name string) string {
	if name == "" {
		return ""
	}
	return ns + "/" + name
}

// again answers who asks for a pod that is there.
func (e *Engine) again(p *livePod) (Pod, error) {
	rec := e.seen(p)
	state := string(rec.State)
	switch {
	case rec.State != PodReady:
	case p.isEnding():
		state = "being stopped"
	default:
		return rec, nil
	}
	return Pod{}, fmt.Errorf("pod %s of namespace %s, attempt %d, is there as %s and is %s: remove it, or run the next attempt: %w",
		rec.Name, rec.PodNamespace, rec.Attempt, rec.ID, state, errdefs.ErrAlreadyExists)
}

func (e *Engine) checkPod(o *PodOptions) error {
	if o.ID == "" {
		o.ID = id.New()
	}
	if !validID.MatchString(o.ID) {
		return fmt.Errorf("pod id %q: use letters, digits, _ . - and begin with a letter or digit, at most 128: %w", o.ID, errdefs.ErrInvalidArgument)
	}
	for _, m := range []struct {
		what string
		mode *string
		may  []string
	}{
		{"network", &o.Network, []string{ModePod, ModeNode}},
		{"pid", &o.PID, []string{ModeContainer, ModePod, ModeNode}},
		{"ipc", &o.IPC, []string{ModePod, ModeNode}},
	} {
		if err := checkMode(m.what, m.mode, m.may); err != nil {
			return err
		}
	}
	if _, known := e.runtime(o.Runtime); !known {
		return e.unknownRuntime(o.Runtime)
	}
	if o.PID == ModePod && e.Config.Pause == "" {
		return fmt.Errorf("pod %s: this daemon has no program to hold a shared process namespace: let each container have its own: %w", o.Name, errdefs.ErrFailedPrecondition)
	}
	if (len(o.UIDMap) == 0) != (len(o.GIDMap) == 0) {
		return fmt.Errorf("pod %s: a user namespace needs both a uid map and a gid map: %w", o.Name, errdefs.ErrInvalidArgument)
	}
	if len(o.Hostname) > maxHostname {
		return fmt.Errorf("pod %s: host name %q has %d characters: the kernel takes %d: %w", o.Name, o.Hostname, len(o.Hostname), maxHostname, errdefs.ErrInvalidArgument)
	}
	return checkPodSysctls(*o)
}

const maxHostname = 64 // the kernel's __NEW_UTS_LEN

// checkMode sets an empty mode to the first that is possible.
func checkMode(what string, mode *string, may []string) error {
	if *mode == "" {
		*mode = may[0]
	}
	for _, m := range may {
		if *mode == m {
			return nil
		}
	}
	return fmt.Errorf("%s namespace %q of a pod: use one of %v: %w", what, *mode, may, errdefs.ErrInvalidArgument)
}

func (e *Engine) makePod(ctx context.Context, ns string, o PodOptions) (Pod, error) {
	e.sandboxes.Warm(o.ID)
	if err := e.Namespaces.Ensure(ns); err != nil {
		return Pod{}, err
	}
	rec := Pod{PodOptions: o, Namespace: ns, State: PodCreating, CreatedAt: time.Now()}
	if err := e.choosePodLabels(&rec); err != nil {
		return Pod{}, err
	}
	p, unlock, err := e.reservePod(ctx, rec)
	if err != nil {
		e.releaseLabel(rec.SELinux)
		return Pod{}, err
	}
	defer unlock()
	if err := e.buildPod(ctx, p); err != nil {
		stage := p.stage()
		if undo := e.undoPod(ctx, p); undo != nil {
			e.Log.Warn("a pod that could not be made is not wholly removed", "id", p.key.id, "error", undo)
		}
		return Pod{}, fmt.Errorf("run pod %s/%s: %s: %w", o.PodNamespace, o.Name, stage, err)
	}
	e.publishPod(p, "start")
	return p.record(), nil
}

// reservePod writes the record and puts the pod in the table, with its lock held.
func (e *Engine) reservePod(ctx context.Context, rec Pod) (*livePod, func(), error) {
	k := key{rec.Namespace, rec.ID}
	unlock, err := e.locks.Lock(ctx, podLock(k))
	if err != nil {
		return nil, nil, fmt.Errorf("pod %s is busy: %w", rec.ID, err)
	}
	if err := e.Pods.CreateSoon(k.ns, k.id, rec); err != nil {
		unlock()
		if errdefs.IsAlreadyExists(err) {
			return nil, nil, fmt.Errorf("pod %s exists: choose another id, or remove it first: %w", rec.ID, errdefs.ErrAlreadyExists)
		}
		return nil, nil, fmt.Errorf("record pod %s: %w", rec.ID, err)
	}
	p := &livePod{key: k, rec: rec}
	e.mu.Lock()
	e.pods[k] = p
	e.podKeys.put(k.ns, rec.Key, p)
	e.mu.Unlock()
	e.publishPod(p, "create")
	return p, unlock, nil
}

// buildPod makes what the record announces.
func (e *Engine) buildPod(ctx context.Context, p *livePod) error {
	if err := failpoint.Hit("pod-recorded"); err != nil {
		return err
	}
	rec := p.record()
	p.at("pin its namespaces")
	if err := e.pinPod(ctx, rec); err != nil {
		return err
	}
	if err := failpoint.Hit("pod-pinned"); err != nil {
		return err
	}
	p.at("show its logs")
	if err := showLogs(rec); err != nil {
		return err
	}
	p.at("hold its process namespace")
	held := e.holdPIDs(ctx, p)
	p.at("join the network")
	attachment, err := e.attachPod(ctx, rec)
	if err == nil {
		p.at("write its files")
		err = e.writePodFiles(rec, attachment)
	}
	if err == nil {
		err = failpoint.Hit("pod-attached")
	}
	if held := <-held; held != nil {
		p.at("hold its process namespace")
		err = errors.Join(held, err)
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("nobody waits for it any more: %w", context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	return e.ready(ctx, p, func(rec *Pod) { rec.State, rec.Attachment = PodReady, attachment })
}

// pinPod makes the namespaces that the pod's containers share.
func (e *Engine) pinPod(ctx context.Context, rec Pod) error {
	o := pin.Options{
		Dir: e.pinDir(rec), Kinds: pinned(rec), UIDMap: mountMap(rec.UIDMap), GIDMap: mountMap(rec.GIDMap),
		Hostname: podHostname(rec, e.Host.Hostname), Sysctls: podSysctls(rec),
	}
	if err := errors.Join(makePodDir(e.podDir(rec), rec), e.labelled(e.podDir(rec), rec.SELinuxFiles, 0o711)); err != nil {
		return err
	}
	path := pin.Path(o.Dir, pin.Network)
	if rec.Network == ModePod && len(rec.UIDMap) == 0 {
		if err := e.Network.NewNamespace(ctx, path); err != nil {
			return err
		}
	}
	if err := pin.Make(o); err != nil {
		return err
	}
	if rec.Network == ModePod && len(rec.UIDMap) > 0 {
		return e.Network.AdoptNamespace(ctx, path)
	}
	return nil
}

func (e *Engine) attachPod(ctx context.Context, rec Pod) (*network.Attachment, error) {
	if rec.Network == ModeNode {
		return nil, nil
	}
	a, err := e.Network.Attach(ctx, e.networkRequest(rec))
	if err != nil {
		return nil, err
	}
	return &a, nil
}

func (e *Engine) networkRequest(rec Pod) network.Request {
	r := network.Request{
		ID: rec.ID, Name: rec.Name, Namespace: rec.PodNamespace, UID: rec.UID, NetNS: pin.Path(e.pinDir(rec), pin.Network),
		Hostname: podHostname(rec, e.Host.Hostname), Ports: rec.Ports, CgroupParent: rec.Cgroup, Runtime: rec.Runtime,
		Annotations: rec.Annotations, Labels: rec.Labels,
	}
	if rec.Bandwidth != nil {
		r.Bandwidth = *rec.Bandwidth
	}
	if rec.DNS != nil {
		r.DNS = *rec.DNS
	}
	if !pin.Pinned(e.pinDir(rec), pin.Network) {
		r.NetNS = ""
	}
	return r
}

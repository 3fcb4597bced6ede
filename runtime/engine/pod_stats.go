package engine

import "context"

func (e *Engine) PodStats(ctx context.Context, ns string, ids []string) ([]PodStats, error) {
	return nil, nil
}
func (e *Engine) SetPodCIDR(ctx context.Context, cidrs []string) error { return nil }
func (e *Engine) NetworkStatus(ctx context.Context) (bool, string, string) {
	s := e.Network.Status(ctx)
	return s.Ready, s.Reason, s.Message
}

package stream

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// maxTokens bounds what clients that ask and never come can make the server keep.
const maxTokens = 1000

// request is what an address was given out for.
type request struct {
	verb      string
	container string
	command   []string
	options   Options
	pod       string
	ports     []int32
}

// tokens are the addresses given out and not used yet. Who knows a token may do what it stands for, once.
type tokens struct {
	life time.Duration
	now  func() time.Time

	mu   sync.Mutex
	open map[string]pending
}

type pending struct {
	request request
	expires time.Time
}

func newTokens(life time.Duration) *tokens {
	return &tokens{life: life, now: time.Now, open: map[string]pending{}}
}

// issue makes a token of 130 random bits.
func (t *tokens) issue(r request) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.open) >= maxTokens {
		for token, p := range t.open {
			if !now.Before(p.expires) {
				delete(t.open, token)
			}
		}
	}
	if len(t.open) >= maxTokens {
		return "", fmt.Errorf("%s: %d requests wait for their clients: use their addresses or try again in %s: %w",
			r.verb, maxTokens, t.life, errdefs.ErrResourceExhausted)
	}
	token := rand.Text()
	t.open[token] = pending{request: r, expires: now.Add(t.life)}
	return token, nil
}

// redeem takes a token of a verb, which is void after that.
func (t *tokens) redeem(verb, token string) (request, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.open[token]
	delete(t.open, token)
	return p.request, ok && p.request.verb == verb && t.now().Before(p.expires)
}

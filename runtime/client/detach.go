package client

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

var errDetached = errors.New("detached")

// ParseDetachKeys reads a key sequence as Docker writes it: single characters and ctrl-X separated by commas, X being
// a letter or one of @ [ \ ] ^ _. An empty text is no keys.
func ParseDetachKeys(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	var keys []byte
	for _, key := range strings.Split(text, ",") {
		name, control := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case !control && len(key) == 1 && key[0] >= ' ' && key[0] < 0x7f:
			keys = append(keys, key[0])
		case control && len(name) == 1 && name[0] >= 'a' && name[0] <= 'z':
			keys = append(keys, name[0]-'a'+1)
		case control && len(name) == 1 && strings.Contains(`@[\]^_`, name):
			keys = append(keys, name[0]&0x1f)
		default:
			return nil, fmt.Errorf("detach keys %q: %q is neither a character nor ctrl-X: write e.g. ctrl-p,ctrl-q: %w",
				text, key, errdefs.ErrInvalidArgument)
		}
	}
	return keys, nil
}

// detachReader passes bytes through until the key sequence is read; then Read returns errDetached. Keys that may begin
// the sequence are held back until the next one decides, so a program in the container sees only what is not it.
type detachReader struct {
	r       io.Reader
	keys    []byte
	matched int    // how many keys of the sequence came last, held back
	ready   []byte // what may go out
	err     error  // after ready
}

func (d *detachReader) Read(p []byte) (int, error) {
	if len(d.keys) == 0 {
		return d.r.Read(p)
	}
	for len(d.ready) == 0 && d.err == nil {
		n, err := d.r.Read(p)
		d.err = err
		d.scan(p[:n])
		if err != nil && !errors.Is(d.err, errDetached) {
			d.ready = append(d.ready, d.keys[:d.matched]...)
			d.matched = 0
		}
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	if len(d.ready) > 0 {
		return n, nil
	}
	return n, d.err
}

// scan moves read bytes to ready, but for those that match the sequence so far.
func (d *detachReader) scan(in []byte) {
	for _, b := range in {
		// A mismatch gives back the oldest held key and tries whether what remains still begins the sequence.
		for d.matched > 0 && b != d.keys[d.matched] {
			shift := 1
			for shift < d.matched && string(d.keys[shift:d.matched]) != string(d.keys[:d.matched-shift]) {
				shift++
			}
			d.ready = append(d.ready, d.keys[:shift]...)
			d.matched -= shift
		}
		if b != d.keys[d.matched] {
			d.ready = append(d.ready, b)
			continue
		}
		if d.matched++; d.matched == len(d.keys) {
			d.matched, d.err = 0, errDetached
			return
		}
	}
}

// DetachReader reads from r until the key sequence is typed; then leave is called, and the reader is at its end.
func DetachReader(r io.Reader, keys []byte, leave func()) io.Reader {
	return &leavingReader{detachReader{r: r, keys: keys}, leave}
}

type leavingReader struct {
	detachReader
	leave func()
}

func (l *leavingReader) Read(p []byte) (int, error) {
	n, err := l.detachReader.Read(p)
	if errors.Is(err, errDetached) {
		l.leave()
		err = io.EOF
	}
	return n, err
}

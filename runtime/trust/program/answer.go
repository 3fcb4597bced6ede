//go:build containers_image_openpgp

// Package program is the program minid-trust: it judges images by containers-policy.json(5), and unwraps and wraps the
// keys of encrypted layers. It alone links the libraries that know these formats; the build tag, which the library of
// images wants, chooses its OpenPGP in Go instead of one in C.
package program

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/minirt/mini/runtime/trust"
)

// peer is the daemon at the other end.
type peer struct {
	in  *json.Decoder
	out *json.Encoder
}

// Main answers one question and returns the exit code.
func Main(in io.Reader, out, complain io.Writer) int {
	p := peer{json.NewDecoder(in), json.NewEncoder(out)}
	var r trust.Request
	if err := p.in.Decode(&r); err != nil {
		fmt.Fprintf(complain, "minid-trust: the question cannot be read: %v\n", err)
		return 2
	}
	reply, err := p.answer(context.Background(), r)
	if err != nil {
		reply = trust.Reply{Error: err.Error()}
	}
	if err := p.out.Encode(reply); err != nil {
		fmt.Fprintf(complain, "minid-trust: the answer cannot be written: %v\n", err)
		return 1
	}
	return 0
}

func (p peer) answer(ctx context.Context, r trust.Request) (trust.Reply, error) {
	switch {
	case r.Verify != nil:
		return verify(ctx, *r.Verify, p.material)
	case r.Unwrap != nil:
		return unwrap(*r.Unwrap)
	case r.Wrap != nil:
		return wrap(*r.Wrap)
	}
	return trust.Reply{}, fmt.Errorf("the question is not one that this version knows")
}

// material asks the daemon for what is to be judged.
func (p peer) material() (trust.Material, error) {
	var m trust.Material
	if err := p.out.Encode(trust.Reply{WantsMaterial: true}); err != nil {
		return m, err
	}
	if err := p.in.Decode(&m); err != nil {
		return m, err
	}
	if m.Error != "" {
		return m, fmt.Errorf("%s", m.Error)
	}
	return m, nil
}

//go:build containers_image_openpgp

package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"
)

const (
	maxSignatures    = 128
	maxSignature     = 4 << 20 // bytes
	lookasideTimeout = 30 * time.Second
)

// lookaside reads the signatures that are kept beside a registry, where containers-registries.d(5) says: BASE/REPOSITORY
// @ALGORITHM=HEX/signature-N, counted from one until there is none (containers/image, docs/signature-protocols.md).
func lookaside(ctx context.Context, sys *types.SystemContext, ref types.ImageReference, d digest.Digest) ([][]byte, error) {
	base, err := docker.SignatureStorageBaseURL(sys, ref, false)
	if err != nil {
		return nil, fmt.Errorf("where signatures are kept: %w", err)
	}
	var found [][]byte
	for n := 1; n <= maxSignatures; n++ {
		u := *base
		u.Path += fmt.Sprintf("@%s=%s/signature-%d", d.Algorithm(), d.Encoded(), n)
		data, err := readSignature(ctx, &u)
		if errors.Is(err, fs.ErrNotExist) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("signature %s: %w", u.Redacted(), err)
		}
		found = append(found, data)
	}
	return nil, fmt.Errorf("%s has more than %d signatures of %s", base.Redacted(), maxSignatures, d)
}

// readSignature reads a file or gets it from a web server. One that is not there is fs.ErrNotExist.
func readSignature(ctx context.Context, u *url.URL) ([]byte, error) {
	switch u.Scheme {
	case "file":
		f, err := os.Open(u.Path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return readAll(f)
	case "http", "https":
		ctx, cancel := context.WithTimeout(ctx, lookasideTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		switch resp.StatusCode {
		case http.StatusOK:
			return readAll(resp.Body)
		case http.StatusNotFound:
			return nil, fs.ErrNotExist
		}
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	return nil, fmt.Errorf("scheme %q is none of file, http and https", u.Scheme)
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSignature+1))
	if err == nil && len(data) > maxSignature {
		err = fmt.Errorf("it is larger than %d bytes", maxSignature)
	}
	return data, err
}

package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/atomicfile"
)

// readSubnets reads what writeSubnets wrote; no file is no subnets.
func readSubnets(path string) ([]netip.Prefix, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the pod subnets: %w", err)
	}
	var subnets []netip.Prefix
	err = json.Unmarshal(data, &subnets)
	if err == nil {
		err = checkSubnets(subnets)
	}
	if err != nil {
		return nil, fmt.Errorf("pod subnets in %s: %w: remove the file, and have the kubelet tell them again by restarting it: %w", path, err, errdefs.ErrDataLoss)
	}
	return subnets, nil
}

func writeSubnets(path string, subnets []netip.Prefix) error {
	if path == "" {
		return nil
	}
	data, err := json.Marshal(subnets)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return fmt.Errorf("keep the pod subnets: %w", err)
	}
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return fmt.Errorf("keep the pod subnets: %w", err)
	}
	return nil
}

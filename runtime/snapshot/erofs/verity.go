package erofs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot/dmsetup"
)

// Sizes of dm-verity's hash trees here (Linux, admin-guide/device-mapper/verity.rst): version 1, SHA-256, no salt.
const (
	block   = 4096 // bytes, of data and of hashes
	hashes  = block / sha256.Size
	sectors = block / 512
)

// tree describes the hash tree behind the data of an image.
type tree struct {
	Root   string `json:"root"`   // the hash of all, hexadecimal
	Blocks int64  `json:"blocks"` // of data; the tree begins behind them
}

// hashed is the file of a layer's directory that says what its image must be.
func hashed(dir string) string { return filepath.Join(dir, "layer.verity") }

// appendTree writes the hash tree of a file behind its data, which it fills up to whole blocks.
func appendTree(path string) (t tree, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return tree{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return tree{}, err
	}
	t.Blocks = max(1, (info.Size()+block-1)/block)
	if err := f.Truncate(t.Blocks * block); err != nil {
		return tree{}, err
	}
	level, err := hashBlocks(bufio.NewReaderSize(f, 1<<20), t.Blocks)
	if err != nil {
		return tree{}, err
	}
	var levels [][]byte
	for len(level) > sha256.Size {
		level = append(level, make([]byte, (block-len(level)%block)%block)...)
		levels = append(levels, level)
		if level, err = hashBlocks(bytes.NewReader(level), int64(len(level)/block)); err != nil {
			return tree{}, err
		}
	}
	t.Root = hex.EncodeToString(level)
	at := t.Blocks * block
	for i := len(levels) - 1; i >= 0; i-- { // the one block at the top is the first
		if _, err := f.WriteAt(levels[i], at); err != nil {
			return tree{}, err
		}
		at += int64(len(levels[i]))
	}
	return t, nil
}

// hashBlocks has the hash of each of some blocks in a row.
func hashBlocks(r io.Reader, blocks int64) ([]byte, error) {
	list := make([]byte, 0, blocks*sha256.Size)
	buf := make([]byte, block)
	for range blocks {
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(buf)
		list = append(list, sum[:]...)
	}
	return list, nil
}

// writeTree notes durably what the image of a layer must be.
func writeTree(dir string, t tree) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return atomicfile.Write(hashed(dir), data, 0o600)
}

// readTree is what the image of a layer must be; false when it may be anything.
func readTree(dir string) (t tree, verified bool, err error) {
	data, err := os.ReadFile(hashed(dir))
	if errors.Is(err, os.ErrNotExist) {
		return tree{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if root, bad := hex.DecodeString(t.Root); err == nil && (bad != nil || len(root) != sha256.Size || t.Blocks <= 0) {
		err = fmt.Errorf("it describes no hash tree: %w", errdefs.ErrDataLoss)
	}
	if err != nil {
		return tree{}, false, fmt.Errorf("%s: %w", hashed(dir), err)
	}
	return t, true, nil
}

// device is the name of a layer's device, which nothing else of this machine has. Directories that are being removed have
// a suffix.
func (t tree) device(dir string) string {
	number, _, _ := strings.Cut(filepath.Base(dir), ".")
	sum := sha256.Sum256([]byte(filepath.Join(filepath.Dir(dir), number) + "\x00" + t.Root))
	return "minid-verity-" + hex.EncodeToString(sum[:12])
}

// activate makes the device in which a layer's image is read only as it must be, and returns its path. Blocks that are not
// what they must be are errors of their readers (EIO).
func (t tree) activate(ctx context.Context, m dmsetup.Mapper, dir string) (string, error) {
	name := t.device(dir)
	path := "/dev/mapper/" + name
	if _, err := m.Status(ctx, name); err == nil || !errdefs.IsNotFound(err) {
		return path, err
	}
	loop, err := mount.Loop(image(dir))
	if err != nil {
		return "", err
	}
	defer loop.Close() // the device has it
	table := fmt.Sprintf("0 %d verity 1 %s %s %d %d %d %d sha256 %s -", t.Blocks*sectors, loop.Name(), loop.Name(), block, block, t.Blocks, t.Blocks, t.Root)
	err = m.Run(ctx, "create", name, "--readonly", "--table", table)
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return path, err
}

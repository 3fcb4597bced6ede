package erofs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
)

// TestTree compares roots with those of veritysetup 2.6 (format --no-superblock --hash=sha256 --salt=-).
func TestTree(t *testing.T) {
	for blocks, want := range map[int]tree{
		1:     {"ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7", 1},
		128:   {"99e169f0bd63cb40fe0a04da6a105de97280a7d846d5b528085684f258ac6390", 128},
		129:   {"a4775aa2f6a70f893550e19227f60ae929c00bdf832531ae81731d34f751a502", 129},
		20000: {"026a4278620c50403d422516d8a5e2eb49190b02e33f3bb9f0f9f1c5363443d5", 20000},
	} {
		var data []byte
		for i := range blocks {
			data = append(data, bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(i)), block/4)...)
		}
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := appendTree(path)
		if err != nil || got != want {
			t.Errorf("%d blocks: %+v, %v", blocks, got, err)
		}
		whole, err := os.ReadFile(path)
		levels := 0
		for n := blocks; n > 1; n = (n + hashes - 1) / hashes {
			levels += (n + hashes - 1) / hashes
		}
		if err != nil || !bytes.HasPrefix(whole, data) || len(whole) != len(data)+levels*block {
			t.Errorf("%d blocks: a file of %d bytes, %v", blocks, len(whole), err)
		}
	}
}

func TestReadTree(t *testing.T) {
	for text, bad := range map[string]bool{
		`{"root":"ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7","blocks":1}`:  false,
		`{"root":"ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7","blocks":-1}`: true,
		`{"root":"ad 1 0 linear","blocks":1}`:                                                     true, `{}`: true, ``: true,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(hashed(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, verified, err := readTree(dir); (err != nil) != bad || verified == bad {
			t.Errorf("%q: %v, %v", text, verified, err)
		}
	}
	if _, verified, err := readTree(t.TempDir()); verified || err != nil {
		t.Errorf("without the file: %v, %v", verified, err)
	}
}

// verified opens a store whose layers are verified.
func verified(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter {
	t.Helper()
	return openWith(t, Options{Root: root, Records: records, Log: slog.New(slog.DiscardHandler), Verity: true})
}

func TestVerityContract(t *testing.T) {
	need(t)
	testenv.DeviceMapper(t)
	snapshottest.Run(t, verified)
}

func TestVerityKilled(t *testing.T) {
	need(t)
	testenv.DeviceMapper(t)
	snapshottest.Suite{Open: verified}.Killed(t, append(snapshottest.Points(), "snapshot-packed")...)
}

// TestVerityChanged changes one byte of a layer, which can then not be read.
func TestVerityChanged(t *testing.T) {
	need(t)
	testenv.DeviceMapper(t)
	ctx, root, records := context.Background(), t.TempDir(), snapshottest.NewRecords()
	s := verified(t, root, records)
	key := func(name string) snapshot.Key { return snapshot.Key{Namespace: "ns", Name: name} }
	content := bytes.Repeat([]byte("what the layer has "), 10000)
	mounts, err := s.Prepare(ctx, key("making"), "", snapshot.Options{})
	if err == nil {
		err = mount.Temp(ctx, mounts, func(root string) error { return os.WriteFile(root+"/f", content, 0o600) })
	}
	if err == nil {
		err = s.Commit(ctx, "ns", "layer", "making", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	read := func(s snapshot.Snapshotter) (data []byte, err error) {
		mounts, err := s.View(ctx, key("view"), "layer", snapshot.Options{})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Remove(ctx, key("view"))) }()
		err = mount.Temp(ctx, mounts, func(root string) (err error) {
			data, err = os.ReadFile(root + "/f")
			return err
		})
		return data, err
	}
	if got, err := read(s); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("before: %d bytes, %v", len(got), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := image(root + "/snapshots/1")
	data, err := os.ReadFile(path)
	at := bytes.Index(data, content[:2*block]) // where no other block than the file's is met
	if err != nil || at < 0 {
		t.Fatal(at, err)
	}
	data[at+block] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = verified(t, root, records)
	if got, err := read(s); !errors.Is(err, unix.EIO) {
		t.Errorf("after: %.30q, %v", got, err)
	}
	if err := s.Remove(ctx, key("layer")); err != nil {
		t.Error(err)
	}
	if devices, err := filepath.Glob("/dev/mapper/minid-verity-*"); err != nil || len(devices) != 0 {
		t.Errorf("left: %s, %v", strings.Join(devices, " "), err)
	}
}

package dmsetup

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseStatus(t *testing.T) {
	s, err := parseStatus("x", "0 20971520 thin 139264 20971519\n")
	if n, e := s.Mapped(); err != nil || e != nil || n != 139264 {
		t.Errorf("%v, %v, %v", s, err, e)
	}
	s, err = parseStatus("x", "0 524288 thin-pool 1 16/4161 40/8192 - rw discard_passdown queue_if_no_space - 1024\n")
	if _, e := s.Mapped(); err != nil || e == nil || s.Target != "thin-pool" {
		t.Errorf("%v, %v, %v", s, err, e)
	}
	if _, err := parseStatus("x", "0 5"); err == nil {
		t.Error("half a line is a status")
	}
	s, err = parseStatus("x", "0 20971520 thin -")
	if _, e := s.Mapped(); err != nil || e == nil {
		t.Errorf("%v, %v, %v", s, err, e)
	}
}

func TestClassOf(t *testing.T) {
	for said, want := range map[string]error{
		"Device x not found\nCommand failed.":                                      errdefs.ErrInternal,
		"device-mapper: status ioctl on x  failed: No such device or address":      errdefs.ErrNotFound,
		"Device mini-pool does not exist.":                                         errdefs.ErrNotFound,
		"device-mapper: message ioctl on pool  failed: No data available":          errdefs.ErrNotFound,
		"device-mapper: message ioctl on pool  failed: File exists":                errdefs.ErrAlreadyExists,
		"device-mapper: remove ioctl on x  failed: Device or resource busy":        errdefs.ErrUnavailable,
		"Failure to communicate with kernel device-mapper driver.\nCommand failed": errdefs.ErrNotImplemented,
	} {
		if got := classOf(said); !errors.Is(got, want) {
			t.Errorf("%q: %v, want %v", said, got, want)
		}
	}
}

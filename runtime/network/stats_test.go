package network

import (
	"reflect"
	"testing"
)

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0: 18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
`

func TestParseStats(t *testing.T) {
	got, err := parseStats(netDev)
	want := []InterfaceStats{{Name: "eth0", RxBytes: 1<<64 - 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 9, TxPackets: 10, TxErrors: 11, TxDropped: 12}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"eth0: 1 2", "eth0: a 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"} {
		if _, err := parseStats(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseStats(f *testing.F) {
	f.Add(netDev)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseStats(text)
		for _, s := range all {
			if err == nil && (s.Name == "lo" || len(s.Name) > len(text)) {
				t.Fatalf("%+v of %q", s, text)
			}
		}
	})
}

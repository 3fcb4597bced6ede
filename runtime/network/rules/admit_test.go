package rules

import (
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestAdmit has the chains as Docker makes them.
func TestAdmit(t *testing.T) {
	testenv.Need(t, "nft", "iptables-nft", "ip6tables-nft")
	for _, docker := range []bool{false, true} {
		alone(t)
		table := open(t)
		if err := table.Admit([]string{"mini0"}); err != nil {
			t.Fatal(err)
		}
		if got := list(t); strings.TrimSpace(got) != "" {
			t.Fatalf("without a firewall: %s", got)
		}
		testenv.Run(t, "iptables-nft", "-P", "FORWARD", "DROP")
		testenv.Run(t, "ip6tables-nft", "-P", "FORWARD", "ACCEPT")
		chain := "FORWARD"
		if docker {
			chain = "DOCKER-USER"
			testenv.Run(t, "iptables-nft", "-N", chain)
			testenv.Run(t, "iptables-nft", "-A", chain, "-j", "RETURN")
			testenv.Run(t, "iptables-nft", "-A", "FORWARD", "-j", chain)
		}
		before := testenv.Run(t, "iptables-nft", "-S")
		for range 2 {
			if err := table.Admit([]string{"mini0", "mini1"}); err != nil {
				t.Fatal(err)
			}
		}
		got := testenv.Run(t, "iptables-nft", "-S", chain)
		for _, want := range []string{"-i mini0", "-o mini0", "-i mini1", "-o mini1"} {
			if strings.Count(got, want) != 1 {
				t.Errorf("%s is not there once in:\n%s", want, got)
			}
		}
		if docker && !strings.HasSuffix(strings.TrimSpace(got), "-j RETURN") {
			t.Errorf("not in front:\n%s", got)
		}
		if got := testenv.Run(t, "ip6tables-nft", "-S"); strings.Contains(got, "mini0") {
			t.Errorf("a rule where nothing is dropped:\n%s", got)
		}
		for range 2 {
			if err := table.Withdraw(); err != nil {
				t.Fatal(err)
			}
		}
		if after := testenv.Run(t, "iptables-nft", "-S"); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

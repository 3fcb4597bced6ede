package scenario_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestConformanceContainerd shows, when it is asked for, what upstream's suite says of Debian's containerd with the same
// images, mirrors and network.
func TestConformanceContainerd(t *testing.T) {
	testenv.Network(t)
	r := testenv.Registry(t, testenv.RegistryOptions{})
	c := testenv.StartContainerd(t, testenv.ContainerdOptions{
		CRI: true, HostsDir: r.Mirrors(t, testenv.SuiteHosts()...), CNIDir: testenv.CNI(t, testenv.CNIBridge(t, 66), testenv.CNIPortmap()),
	})
	report := testenv.Suite(t, testenv.SuiteOptions{Socket: c.Address, Parallel: 8, Skip: []string{regexp.QuoteMeta("image with digest")}})
	fmt.Printf("%d passed, %d failed, %d skipped, %d left out in %s\n", len(report.Passed()), len(report.Failed()), len(report.Skipped()), len(report.LeftOut()), report.Took.Round(time.Second))
	for _, s := range report.Specs {
		line, _, _ := strings.Cut(s.Message, "\n")
		fmt.Printf("%-8s %6.1fs %s: %s\n", s.State, s.Took.Seconds(), s.Name, line)
	}
}

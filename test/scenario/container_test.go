package scenario_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// waitExit waits until a container has exited and returns its code.
func waitExit(t *testing.T, d *testenv.DaemonProcess, id string) int {
	t.Helper()
	var info struct {
		State string `json:"state"`
		Exit  struct {
			Code int `json:"code"`
		} `json:"exit"`
	}
	testenv.Eventually(t, 30*time.Second, id+" has exited", func() bool {
		info.State = ""
		if err := json.Unmarshal([]byte(d.Minictr("containers", "info", id)), &info); err != nil {
			t.Fatal(err)
		}
		return info.State == "exited"
	})
	return info.Exit.Code
}

// sortGroups puts the groups that id prints into the order of their numbers' text.
func sortGroups(id string) string {
	head, groups, ok := strings.Cut(id, "groups=")
	if !ok {
		return id
	}
	list := strings.Split(groups, ",")
	slices.SortFunc(list, func(a, b string) int { return number(a) - number(b) })
	return head + "groups=" + strings.Join(list, ",")
}

func number(group string) int {
	n := 0
	for _, c := range group {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

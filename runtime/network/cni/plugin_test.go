package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/runtime/network/networktest"
)

// The test's own program is a CNI plugin too, which notes how it is called, and does what its configuration says.

func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		if err := plugin(); err != nil {
			fmt.Printf(`{"cniVersion":"1.1.0","code":%d,"msg":%q}`, code(err), err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(networktest.Main(m))
}

type again struct{ error }

func code(err error) int {
	if _, ok := err.(again); ok {
		return 11 // try again later
	}
	return 100
}

// call is one call of the plugin.
type call struct {
	Command, ContainerID, NetNS, IfName, Args string

	Config struct {
		Name, CNIVersion, Type string
		Notes                  string   `json:"notes"` // directory: calls are appended to the file "calls", fail-COMMAND is looked for
		PrevResult             any      `json:"prevResult"`
		RuntimeConfig          any      `json:"runtimeConfig"`
		Attachments            any      `json:"cni.dev/valid-attachments"`
		Marks                  []string `json:"marks"`
	}
}

func plugin() error {
	c := call{
		Command: os.Getenv("CNI_COMMAND"), ContainerID: os.Getenv("CNI_CONTAINERID"), NetNS: os.Getenv("CNI_NETNS"),
		IfName: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS"),
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if c.Command == "VERSION" {
		fmt.Println(`{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}`)
		return nil
	}
	if err := json.Unmarshal(data, &c.Config); err != nil {
		return err
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(c.Config.Notes, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	switch how, err := os.ReadFile(filepath.Join(c.Config.Notes, "fail-"+c.Config.Type+"-"+c.Command)); {
	case err != nil:
	case string(how) == "hang":
		time.Sleep(time.Minute)
	case string(how) == "again":
		return again{fmt.Errorf("not now")}
	default:
		return fmt.Errorf("%s", how)
	}
	if c.Command == "ADD" {
		if c.Config.PrevResult == nil {
			c.Config.PrevResult = json.RawMessage(fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"host0"},{"name":%q,"mac":"0a:58:0a:01:00:02","sandbox":%q}],
				"ips":[{"interface":1,"address":"fd00:1::2/64","gateway":"fd00:1::1"},{"interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"dns":{"nameservers":["10.0.0.10"]}}`,
				c.Config.CNIVersion, c.IfName, c.NetNS))
		}
		return json.NewEncoder(os.Stdout).Encode(c.Config.PrevResult)
	}
	return nil
}

// fakes is a directory of plugins and the notes of their calls.
type fakes struct {
	t          testing.TB
	bin, notes string
}

func newFakes(t testing.TB, names ...string) fakes {
	t.Helper()
	f := fakes{t, t.TempDir(), t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Symlink(self, filepath.Join(f.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// fail makes a command of a plugin fail with the text, or hang; an empty text ends that.
func (f fakes) fail(name, command, how string) {
	f.t.Helper()
	path := filepath.Join(f.notes, "fail-"+name+"-"+command)
	err := os.WriteFile(path, []byte(how), 0o600)
	if how == "" {
		err = os.Remove(path)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// calls returns the calls since it was last asked.
func (f fakes) calls() []call {
	f.t.Helper()
	path := filepath.Join(f.notes, "calls")
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		f.t.Fatal(err)
	}
	var all []call
	for line := range strings.Lines(string(data)) {
		var c call
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			f.t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// brief is the calls in short: COMMAND plugin interface.
func (f fakes) brief() string {
	f.t.Helper()
	var all []string
	for _, c := range f.calls() {
		all = append(all, strings.TrimSpace(c.Command+" "+c.Config.Type+" "+c.IfName))
	}
	return strings.Join(all, ", ")
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// dockerFile is what of docker's config.json says how things are shown and run. Logins are read elsewhere.
type dockerFile struct {
	PsFormat       string                       `json:"psFormat"`
	ImagesFormat   string                       `json:"imagesFormat"`
	NetworksFormat string                       `json:"networksFormat"`
	VolumesFormat  string                       `json:"volumesFormat"`
	StatsFormat    string                       `json:"statsFormat"`
	DetachKeys     string                       `json:"detachKeys"`
	Proxies        map[string]map[string]string `json:"proxies"`
}

// readDockerFile reads $DOCKER_CONFIG/config.json, or ~/.docker/config.json. One that cannot be read is warned of, as docker
// does, and says nothing.
func readDockerFile(c *cli.Context) dockerFile {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".docker")
	}
	var f dockerFile
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f
	}
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		warn(c, []string{fmt.Sprintf("configuration %s: %v", path, err)})
		return dockerFile{}
	}
	return f
}

// rowFormat is the format of a listing: --format; with -q the id; else what docker's configuration says for it. raw is
// docker's name of the id in the format "raw".
func rowFormat(c *cli.Context, raw string, configured func(dockerFile) string) string {
	text := c.String("format")
	switch {
	case c.Bool("quiet") && text == "raw":
		return raw + ": {{.ID}}"
	case c.Bool("quiet") && text == "":
		return "{{.ID}}"
	case text == "":
		return configured(readDockerFile(c))
	}
	return text
}

// detachKeys are --detach-keys, else those of docker's configuration.
func detachKeys(c *cli.Context) string {
	if keys := readDockerFile(c).DetachKeys; keys != "" && !c.IsSet("detach-keys") {
		return keys
	}
	return c.String("detach-keys")
}

// proxyVariables are the variables that docker's configuration sets in new containers: those of the daemon's address, or
// of "default", in both spellings.
func proxyVariables(c *cli.Context) []string {
	all := readDockerFile(c).Proxies
	address := c.String("address")
	if address == icli.DefaultAddress() {
		address = "unix://" + address
	}
	set, ok := all[address]
	if !ok {
		set = all["default"]
	}
	var env []string
	for _, x := range [][3]string{
		{"httpProxy", "HTTP_PROXY", "http_proxy"}, {"httpsProxy", "HTTPS_PROXY", "https_proxy"}, {"ftpProxy", "FTP_PROXY", "ftp_proxy"},
		{"noProxy", "NO_PROXY", "no_proxy"}, {"allProxy", "ALL_PROXY", "all_proxy"},
	} {
		if v := set[x[0]]; v != "" {
			env = append(env, x[1]+"="+v, x[2]+"="+v)
		}
	}
	return env
}

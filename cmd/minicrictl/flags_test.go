package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestFlags: whatever crictl 1.36 takes is taken here: its commands, their aliases, their flags and those's aliases. A
// script that works there works here.
func TestFlags(t *testing.T) {
	app, _ := newApp()
	for names, want := range map[string]string{
		"":                      "config,c debug,D enable-tracing image-endpoint,i profile-cpu profile-mem runtime-endpoint,r timeout,t tracing-endpoint tracing-sampling-rate-per-million max-retries",
		"attach":                "stdin,i tls-ca tls-cert tls-key tls-sni,tls-server-name transport,r tty,t",
		"checkpoint":            "export,e",
		"completion":            "",
		"config":                "get list set",
		"create":                "auth cancel-timeout,T creds no-pull pull-timeout,pt username with-pull",
		"create jsonschema,js":  "pod,p container,c",
		"events,event":          "output,o template",
		"exec":                  "ignore-errors,e image interactive,i label last,n latest,l name parallel,x pod,p quiet,q state sync,s timeout tls-ca tls-cert tls-key tls-sni,tls-server-name transport,r tty,t",
		"imagefsinfo":           "output,o template",
		"images,image,img":      "digests filter,f no-trunc output,o pinned quiet,q verbose,v",
		"info":                  "output,o quiet,q template",
		"inspect":               "all,a image label last,n latest,l name namespace output,o pod,p quiet,q state,s template",
		"inspecti":              "filter,f name output,o quiet,q template",
		"inspectp":              "label last,n latest,l name namespace output,o quiet,q state,s template",
		"logs":                  "follow,f limit-bytes previous,p reopen,r since stream,s tail timestamps,t",
		"metricdescs":           "output,o",
		"metricsp":              "output,o watch,w",
		"pods":                  "id label last,n latest,l name namespace no-trunc output,o quiet,q state,s verbose,v",
		"port-forward":          "tls-ca tls-cert tls-key tls-sni,tls-server-name transport,r",
		"ps":                    "all,a id image label last,n latest,l name namespace no-trunc output,o pod,p quiet,q resolve-image-path,r state,s verbose,v",
		"pull":                  "annotation,a auth creds pod-config pull-timeout,pt username,u",
		"pull jsonschema,js":    "",
		"rm":                    "all,a force,f keep-logs,k",
		"rmi":                   "all,a prune,q",
		"rmp":                   "all,a force,f",
		"run":                   "auth cancel-timeout,T creds no-pull pull-timeout,pt runtime,r username with-pull",
		"run jsonschema,js":     "pod,p container,c",
		"runp":                  "cancel-timeout,T runtime,r",
		"runp jsonschema,js":    "",
		"runtime-config":        "",
		"start":                 "",
		"stats":                 "all,a id label output,o pod,p seconds,s watch,w",
		"statsp":                "id label output,o seconds,s watch,w",
		"stop":                  "all,a timeout,t",
		"stopp":                 "",
		"update":                "cpu-count cpu-maximum cpu-period cpu-quota cpu-share cpuset-cpus cpuset-mems memory oom-score-adj",
		"update-runtime-config": "pod-cidr,p",
		"version":               "",
	} {
		commands, flags, found := app.Commands, app.Flags, true
		for _, word := range strings.Fields(names) {
			found = false
			for _, c := range commands {
				if found = strings.Join(c.Names(), ",") == word; found {
					commands, flags = c.Subcommands, c.Flags
					break
				}
			}
		}
		if !found {
			t.Errorf("there is no command %s", names)
			continue
		}
		for _, flag := range strings.Fields(want) {
			if !slices.ContainsFunc(flags, func(f cli.Flag) bool { return strings.Join(f.Names(), ",") == flag }) {
				t.Errorf("%s: there is no flag --%s", names, flag)
			}
		}
	}
}

// TestEnvironment: the flags that have a variable of crictl's.
func TestEnvironment(t *testing.T) {
	f, endpoint := world(t)
	t.Setenv("CONTAINER_RUNTIME_ENDPOINT", endpoint)
	if o := call(t, "", "version"); o.code != 0 || !strings.Contains(o.out, "fake") {
		t.Errorf("CONTAINER_RUNTIME_ENDPOINT: %+v", o)
	}
	other := (&fake{}).serve(t)
	t.Setenv("IMAGE_SERVICE_ENDPOINT", other)
	if o := call(t, "", "images", "-q"); o.code != 0 || o.out != "" {
		t.Errorf("IMAGE_SERVICE_ENDPOINT: %+v", o)
	}
	if o := call(t, "", "--image-endpoint", endpoint, "images", "-q"); o.code != 0 || o.out == "" {
		t.Errorf("a flag goes before a variable: %+v", o)
	}
	for name, value := range map[string]string{"CRICTL_CREDS": "envuser:p", "CRICTL_AUTH": "dTpw"} {
		t.Setenv("CRICTL_CREDS", "")
		t.Setenv("CRICTL_AUTH", "")
		t.Setenv(name, value)
		if o := call(t, "", "--image-endpoint", endpoint, "pull", "x"); o.code != 0 {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if all := strings.Join(f.requests("PullImage"), "\n"); !strings.Contains(all, "envuser") || strings.Count(all, "\n") != 1 {
		t.Errorf("pulled with %s", all)
	}
	t.Setenv("CRICTL_PULL_TIMEOUT", "-1s")
	if o := call(t, "", "pull", "x"); !strings.Contains(o.errs, "--pull-timeout -1s") {
		t.Errorf("CRICTL_PULL_TIMEOUT: %+v", o)
	}
	t.Setenv("CONTAINER_RUNTIME_ENDPOINT", "")
	if o := call(t, "", "version"); o.code != 1 || !strings.Contains(o.errs, "--runtime-endpoint is empty") {
		t.Errorf("an empty variable: %+v", o)
	}
}

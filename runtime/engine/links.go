package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/network"
)

// A link is Docker's old way for a container to know another: by lines of its hosts file and, in the default network, which
// has no DNS server, by variables of its environment. They say where the other one is when this one starts.

// link is a container that another one knows.
type link struct {
	other Container
	alias string
}

// parseLink reads CONTAINER[:ALIAS].
func parseLink(text string) (name, alias string) {
	name, alias, _ = strings.Cut(text, ":")
	if alias == "" {
		alias = strings.TrimPrefix(name, "/")
	}
	return strings.TrimPrefix(name, "/"), alias
}

// links are those of a container's network that lead to containers that there are.
func (e *Engine) links(c Container, of NetworkAttachment) []link {
	var all []link
	for _, text := range of.Links {
		name, alias := parseLink(text)
		if l, err := e.find(c.Namespace, name); err == nil {
			all = append(all, link{l.record(), alias})
		}
	}
	return all
}

// checkLinks refuses the start of a container in the default network that is linked to one that does not run, as Docker does.
func (e *Engine) checkLinks(c Container) error {
	for _, n := range c.Net.Networks {
		if n.Network != network.Default {
			continue // names are looked up when they are needed
		}
		for _, text := range n.Links {
			name, alias := parseLink(text)
			l, err := e.find(c.Namespace, name)
			if err != nil {
				return fmt.Errorf("could not get container for %s: %w", name, err)
			}
			if other := l.record(); other.State != Running && other.State != Paused {
				return fmt.Errorf("cannot link to a non running container: /%s AS /%s/%s: start it first: %w", orID(other), orID(c), alias, errdefs.ErrFailedPrecondition)
			}
		}
	}
	return nil
}

// linked are the lines of the hosts file for the containers that this one is linked to, as far as they run.
func (e *Engine) linked(c Container) []string {
	var lines []string
	for _, n := range c.Net.Networks {
		for _, l := range e.links(c, n) {
			var names []string
			for _, name := range []string{l.alias, id.Short(l.other.ID), orID(l.other)} {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			for _, a := range l.other.Attachments {
				for _, ip := range a.IPs {
					lines = append(lines, fmt.Sprintf("%s\t%s", ip, strings.Join(names, " ")))
				}
			}
		}
	}
	return lines
}

// linkEnv is what a container in the default network finds in its environment of those that it is linked to.
func (e *Engine) linkEnv(c Container) []string {
	var env []string
	for _, n := range c.Net.Networks {
		if n.Network != network.Default {
			continue
		}
		for _, l := range e.links(c, n) {
			env = append(env, linkVariables(orID(c), l)...)
		}
	}
	return env
}

// linkVariables are Docker's: the ports that the other container exposes, and its own variables.
func linkVariables(own string, l link) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(l.alias, "-", "_"))
	var ip netip.Addr
	for _, a := range l.other.Attachments {
		for _, addr := range a.IPs {
			if addr.Is4() && !ip.IsValid() {
				ip = addr
			}
		}
	}
	env := []string{prefix + "_NAME=/" + own + "/" + l.alias}
	ports, err := Exposed(l.other)
	if err != nil || !ip.IsValid() {
		ports = nil
	}
	for _, p := range l.other.Net.Ports { // what is published is exposed
		p = network.Port{Protocol: protocolOf(p), ContainerPort: p.ContainerPort}
		if ip.IsValid() && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	for i, p := range ports {
		url := fmt.Sprintf("%s://%s:%d", p.Protocol, ip, p.ContainerPort)
		if i == 0 {
			env = append(env, prefix+"_PORT="+url)
		}
		port := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.ContainerPort, strings.ToUpper(p.Protocol))
		env = append(env, port+"="+url, fmt.Sprintf("%s_ADDR=%s", port, ip), fmt.Sprintf("%s_PORT=%d", port, p.ContainerPort), fmt.Sprintf("%s_PROTO=%s", port, p.Protocol))
	}
	variables := l.other.ImageConfig.Env
	if l.other.Request != nil {
		variables = slices.Concat(variables, l.other.Request.Env)
	}
	for _, v := range variables {
		if key, _, ok := strings.Cut(v, "="); ok && key != "HOME" && key != "PATH" {
			env = append(env, prefix+"_ENV_"+v)
		}
	}
	return env
}

// hasLinks says whether the environment of a container depends on others, and is to be made at each start.
func hasLinks(c Container) bool {
	return slices.ContainsFunc(c.Net.Networks, func(n NetworkAttachment) bool { return n.Network == network.Default && len(n.Links) > 0 })
}

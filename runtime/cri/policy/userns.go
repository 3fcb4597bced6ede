package policy

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// IDRange are ids of the host, for users and groups alike.
type IDRange struct {
	First uint32
	Size  uint32
}

// defaultIDs is how many ids a pod's user namespace has that does not say.
const defaultIDs = 1 << 16

// userNamespace reads the words of CRI-O's annotation: host; auto[:OPTIONS], a namespace with ids that no other pod has;
// keep-id[:OPTIONS], the same, in which the pod's user keeps its id; private:OPTIONS with the maps themselves. Options are
// size=N, uidmapping=CONTAINER:HOST:SIZE, gidmapping=…, keep-id=true and map-to-root=true, with semicolons between them.
func (s *Settings) userNamespace(o *engine.PodOptions, security *v1.LinuxSandboxSecurityContext, text string, free func(IDRange, uint32) (uint32, error)) error {
	mode, rest, _ := strings.Cut(text, ":")
	options, err := pairs(usernsMode, rest)
	if err != nil {
		return err
	}
	for key := range options {
		switch key {
		case "size", "uidmapping", "gidmapping", "keep-id", "map-to-root":
		default:
			return invalid("option %.32q: there are size, uidmapping, gidmapping, keep-id and map-to-root", key)
		}
	}
	if len(o.UIDMap) > 0 {
		return invalid("the client asks for a user namespace too: leave the annotation out")
	}
	switch mode {
	case "host", "":
		return nil
	case "private":
		return explicit(o, options)
	case "keep-id":
		options["keep-id"] = "true"
	case "auto":
	default:
		return invalid("mode %.32q: there are auto, keep-id, private and host", mode)
	}
	if options["uidmapping"] != "" || options["gidmapping"] != "" {
		return invalid("mode %s chooses the ids itself: use private with maps of your own", mode)
	}
	return s.chosen(o, security, options, free)
}

func explicit(o *engine.PodOptions, options map[string]string) (err error) {
	uids := options["uidmapping"]
	gids := options["gidmapping"]
	if uids == "" && gids == "" {
		return invalid("mode private needs uidmapping=CONTAINER:HOST:SIZE")
	}
	if uids == "" {
		uids = gids
	}
	if gids == "" {
		gids = uids
	}
	if o.UIDMap, err = idMap(uids); err != nil {
		return err
	}
	o.GIDMap, err = idMap(gids)
	return err
}

// idMap reads CONTAINER:HOST:SIZE,….
func idMap(text string) ([]specs.LinuxIDMapping, error) {
	var maps []specs.LinuxIDMapping
	for _, part := range list(text) {
		fields := strings.Split(part, ":")
		var n [3]uint64
		ok := len(fields) == 3
		for i := 0; ok && i < 3; i++ {
			var err error
			n[i], err = strconv.ParseUint(fields[i], 10, 32)
			ok = err == nil
		}
		if !ok || n[2] == 0 || n[0]+n[2] > 1<<32-1 || n[1]+n[2] > 1<<32-1 {
			return nil, invalid("map %.64q: give CONTAINER:HOST:SIZE", part)
		}
		maps = append(maps, specs.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])})
	}
	if len(maps) > 340 { // the kernel's limit, user_namespaces(7)
		return nil, invalid("%d maps: the kernel takes 340", len(maps))
	}
	return maps, nil
}

// chosen makes the maps of ids that nobody has.
func (s *Settings) chosen(o *engine.PodOptions, security *v1.LinuxSandboxSecurityContext, options map[string]string, free func(IDRange, uint32) (uint32, error)) error {
	size := uint32(defaultIDs)
	if text := options["size"]; text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 {
			return invalid("size %.32q: give a number of ids", text)
		}
		size = uint32(n)
	}
	if s.UserRange.Size == 0 {
		return unable("there are no ids to choose from: set cri.userns_range")
	}
	keep, root := options["keep-id"] == "true", options["map-to-root"] == "true"
	if keep && root {
		return invalid("keep-id and map-to-root contradict each other")
	}
	first, err := free(s.UserRange, size)
	if err != nil {
		return err
	}
	uid, gid := security.GetRunAsUser(), security.GetRunAsGroup()
	if (keep || root) && uid == nil {
		return invalid("keep-id and map-to-root need run_as_user in the pod's security context")
	}
	user, group := uint32(uid.GetValue()), uint32(uid.GetValue())
	if gid != nil {
		group = uint32(gid.GetValue())
	}
	at := func(host uint32) []specs.LinuxIDMapping {
		switch {
		case keep:
			return around(first, size, host, host)
		case root:
			return around(first, size, 0, host)
		}
		return []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: size}}
	}
	o.UIDMap, o.GIDMap = at(user), at(group)
	return nil
}

// around maps the ids from 0 on to a row of the host's, but for one that has an id of its own there.
func around(first, size, inside, host uint32) []specs.LinuxIDMapping {
	if inside >= size {
		return []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: size}, {ContainerID: inside, HostID: host, Size: 1}}
	}
	var maps []specs.LinuxIDMapping
	if inside > 0 {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: 0, HostID: first, Size: inside})
	}
	maps = append(maps, specs.LinuxIDMapping{ContainerID: inside, HostID: host, Size: 1})
	if inside+1 < size {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: inside + 1, HostID: first + inside + 1, Size: size - inside - 1})
	}
	return maps
}

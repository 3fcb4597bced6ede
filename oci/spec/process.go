package spec

import (
	"path"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// processRule sets what is executed: the command line, the working directory and the terminal.
// https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md#process
func processRule(b *builder) error {
	p := b.spec.Process
	p.Args = CommandLine(b.in.Image, b.req)
	if len(p.Args) == 0 {
		return invalid("no command: the image has neither entrypoint nor cmd, so name one after the image")
	}
	if p.Args[0] == "" {
		return invalid("the command's name is empty")
	}
	for i, a := range p.Args {
		if strings.ContainsRune(a, 0) {
			return invalid("argument %d (%q) has a NUL byte, which no program can receive", i, a)
		}
	}
	cwd, err := workingDirectory(b.req.Cwd, b.in.Image.WorkingDir)
	if err != nil {
		return err
	}
	p.Cwd = cwd
	p.Terminal = b.req.Terminal
	if b.req.ConsoleSize != nil {
		if !p.Terminal {
			return invalid("a console size was given, but no terminal is asked for")
		}
		size := *b.req.ConsoleSize
		p.ConsoleSize = &size
	}
	return nil
}

// CommandLine merges the image's words with the request's, as the image specification and every client do: arguments
// replace cmd; an entrypoint replaces both.
func CommandLine(image ocispec.ImageConfig, r *Request) []string {
	head, tail := image.Entrypoint, image.Cmd
	if r.Entrypoint != nil {
		head, tail = *r.Entrypoint, nil
	}
	if len(r.Args) > 0 {
		tail = r.Args
	}
	return append(append(make([]string, 0, len(head)+len(tail)), head...), tail...)
}

// workingDirectory picks the request's directory over the image's over "/". It must be absolute: a relative one would
// depend on where the runtime stands.
func workingDirectory(request, image string) (string, error) {
	cwd := request
	if cwd == "" {
		cwd = image
		if cwd != "" && !path.IsAbs(cwd) {
			cwd = "/" + cwd // images of old builders have it so, and mean it from the root
		}
	}
	if cwd == "" {
		return "/", nil
	}
	if !path.IsAbs(cwd) {
		return "", invalid("working directory %q is relative: give it from the container's root, like /%s", cwd, cwd)
	}
	return path.Clean(cwd), nil
}

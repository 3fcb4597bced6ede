// Command protogen makes the Go code of .proto files. It needs no protoc: the files are compiled in Go, and the
// plugins are the module's own tools, so their versions are those of go.mod.
//
//	go run ./tools/protogen DIR FILE.proto…
//
// DIR is the import root, and the generated files are put beside their sources. Imports are resolved in DIR; the
// well-known google/protobuf files are known.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugin is a command of go.mod's tool lines, and what it is told.
type plugin struct{ name, parameter string }

func plugins() []plugin {
	const beside = "paths=source_relative"
	return []plugin{
		{"protoc-gen-go", beside},
		{"protoc-gen-go-grpc", beside},
		// Messages that encode and decode themselves: a program that ends after one call has no time for reflection.
		{"protoc-gen-go-vtproto", beside + ",features=marshal+size+unmarshal"},
	}
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: protogen DIR FILE.proto…")
		os.Exit(2)
	}
	if err := generate(context.Background(), os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, dir string, files []string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments become docstrings
	}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return err
	}
	described := descriptors(compiled)
	for _, p := range plugins() {
		request, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pluginpb.CodeGeneratorRequest{
			FileToGenerate: files,
			Parameter:      proto.String(p.parameter),
			ProtoFile:      described,
		})
		if err != nil {
			return err
		}
		if err := run(ctx, p.name, request, dir); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// descriptors lists the files and all that they import, imports first.
func descriptors(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var list []*descriptorpb.FileDescriptorProto
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		imports := f.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		list = append(list, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range files {
		add(f)
	}
	return list
}

// run gives the request to a plugin and writes the files that it answers.
func run(ctx context.Context, plugin string, request []byte, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return fmt.Errorf("decode its answer: %w", err)
	}
	if response.Error != nil {
		return fmt.Errorf("%s", *response.Error)
	}
	for _, f := range response.File {
		if err := os.WriteFile(filepath.Join(dir, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

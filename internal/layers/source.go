package layers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// File is one parsed source file.
type File struct {
	Path      string // slash-separated, relative to the module
	Lines     int
	Test      bool
	Generated bool
	Text      string
	Syntax    *ast.File
	Set       *token.FileSet
}

// Package is the files of one folder.
type Package struct {
	Dir   string
	Files []*File
}

// ParseFile parses one source.
func ParseFile(name string, text []byte) (*File, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &File{
		Path: name, Lines: strings.Count(string(text), "\n"), Test: strings.HasSuffix(name, "_test.go"),
		Generated: ast.IsGenerated(syntax), Text: string(text), Syntax: syntax, Set: set,
	}, nil
}

// Load parses every package of the module at root; modules inside it are left out.
func Load(root string) ([]*Package, error) {
	byDir := map[string]*Package{}
	var packages []*Package
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(root, name, d.Name())
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := ParseFile(filepath.ToSlash(rel), text)
		if err != nil {
			return err
		}
		dir := path.Dir(f.Path)
		if byDir[dir] == nil {
			byDir[dir] = &Package{Dir: dir}
			packages = append(packages, byDir[dir])
		}
		byDir[dir].Files = append(byDir[dir].Files, f)
		return nil
	})
	return packages, err
}

// skipDir leaves out what the go command leaves out, and modules of their own.
func skipDir(root, name, base string) error {
	if name == root {
		return nil
	}
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "bin" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// Imports lists the imports of a package's ordinary files. Tests may reach across the floors.
func (p *Package) Imports(module string) []Import {
	var imports []Import
	for _, f := range p.Files {
		if f.Test {
			continue
		}
		for _, spec := range f.Syntax.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue
			}
			local, isLocal := strings.CutPrefix(to, module+"/")
			if first, _, _ := strings.Cut(to, "/"); !strings.Contains(first, ".") {
				continue // the standard library
			}
			imports = append(imports, Import{From: p.Dir, To: local, Local: isLocal, Where: f.at(spec.Pos())})
		}
	}
	return imports
}

func (f *File) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Path, f.Set.Position(pos).Line)
}

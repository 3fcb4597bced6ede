package layers

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// variables are those of a package, by name and by declaration.
type variables struct {
	names map[string]bool
	specs map[*ast.ValueSpec]bool
}

// checkVariables finds package variables that change, or look made to: a variable of a package is a table, an error, a
// regular expression or something else that is complete when the program starts, and nothing assigns to it.
func (r *Rules) checkVariables(p *Package) []string {
	var bad []string
	known := variables{names: map[string]bool{}, specs: map[*ast.ValueSpec]bool{}}
	for _, f := range p.Files {
		if f.Generated || f.Test {
			continue
		}
		for _, d := range f.Syntax.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, s := range decl.Specs {
				bad = append(bad, r.checkVariable(f, decl, s.(*ast.ValueSpec), known)...)
			}
		}
	}
	for _, f := range p.Files {
		if !f.Generated && !f.Test {
			bad = append(bad, known.checkAssignments(f)...)
		}
	}
	return bad
}

func (r *Rules) checkVariable(f *File, decl *ast.GenDecl, spec *ast.ValueSpec, known variables) []string {
	var bad []string
	known.specs[spec] = true
	for i, id := range spec.Names {
		if id.Name == "_" || r.Exempt("variable", f.Path, id.Name) {
			continue
		}
		known.names[id.Name] = true
		switch {
		case i < len(spec.Values) && complete(spec.Values[i]):
		case embedded(decl, spec), linked(f, spec):
		default:
			bad = append(bad, fmt.Sprintf("%s: package variable %s: only tables, errors, regular expressions and the like; "+
				"put state into a struct", f.at(id.Pos()), id.Name))
		}
	}
	return bad
}

// complete says whether an initialiser makes something that needs no change later.
func complete(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		name := typeName(e.Type)
		return name == "sync.Pool" || !strings.HasPrefix(name, "sync.") && !strings.HasPrefix(name, "atomic.")
	case *ast.UnaryExpr:
		return complete(e.X)
	case *ast.CallExpr:
		return completeCall(e)
	case *ast.BinaryExpr:
		return complete(e.X) && complete(e.Y)
	case *ast.ParenExpr:
		return complete(e.X)
	case *ast.BasicLit, *ast.SelectorExpr, *ast.Ident, *ast.FuncLit:
		return true
	default:
		return false
	}
}

// completeCall knows the constructors of things that stay as they are.
func completeCall(call *ast.CallExpr) bool {
	if _, ok := call.Fun.(*ast.ArrayType); ok {
		return true
	}
	if id, ok := call.Fun.(*ast.Ident); ok {
		return id.Name != "make" && id.Name != "new"
	}
	name := typeName(call.Fun)
	for _, prefix := range []string{"sync.New", "context.", "make", "os.", "time.Now", "rand."} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	case *ast.Ident:
		return e.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.StarExpr:
		return typeName(e.X)
	default:
		return ""
	}
}

// embedded is a variable filled by go:embed.
func embedded(decl *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{decl.Doc, spec.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// linked is a string of a main package that the linker's -X sets.
func linked(f *File, spec *ast.ValueSpec) bool {
	return f.Syntax.Name.Name == "main" && typeName(spec.Type) == "string" && len(spec.Values) == 0
}

// checkAssignments finds statements that change one of them.
func (v variables) checkAssignments(f *File) []string {
	var bad []string
	check := func(target ast.Expr, pos token.Pos) {
		if id := root(target); id != nil && v.declares(id) {
			bad = append(bad, fmt.Sprintf("%s: package variable %s is changed", f.at(pos), id.Name))
		}
	}
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, target := range n.Lhs {
					check(target, n.Pos())
				}
			}
		case *ast.IncDecStmt:
			check(n.X, n.Pos())
		}
		return true
	})
	return bad
}

// root is the variable that an assignment's target starts from.
func root(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	default:
		return nil
	}
}

// declares says whether the name means the variable of the package. The parser resolves names within a file; one that it
// does not know is of the package.
func (v variables) declares(id *ast.Ident) bool {
	if !v.names[id.Name] {
		return false
	}
	object := id.Obj
	if object == nil {
		return true
	}
	spec, ok := object.Decl.(*ast.ValueSpec)
	return ok && v.specs[spec]
}

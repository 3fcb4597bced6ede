package layers

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strings"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 80
)

var (
	openTask = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b(\([^)]+\): \S)?`)
	vague    = regexp.MustCompile(`(?i)^(utils?|helpers?|common|misc|managers?)(_test)?$`)
)

// CheckHouse returns the house rules that a package breaks.
func (r *Rules) CheckHouse(p *Package) []string {
	var bad []string
	for _, element := range strings.Split(p.Dir, "/") {
		if vague.MatchString(element) {
			bad = append(bad, fmt.Sprintf("%s: a folder is named after what it holds, not %q", p.Dir, element))
		}
	}
	bad = append(bad, r.checkComment(p)...)
	bad = append(bad, r.checkVariables(p)...)
	for _, f := range p.Files {
		if f.Generated {
			continue
		}
		if base := strings.TrimSuffix(path.Base(f.Path), ".go"); vague.MatchString(base) {
			bad = append(bad, fmt.Sprintf("%s: a file is named after what it holds", f.Path))
		}
		if !f.Test {
			bad = append(bad, r.checkLengths(f)...)
		}
		bad = append(bad, r.checkTasks(f)...)
		bad = append(bad, r.checkCalls(f)...)
	}
	return bad
}

func (r *Rules) checkComment(p *Package) []string {
	ordinary := 0
	for _, f := range p.Files {
		if f.Syntax.Doc != nil && (!f.Test || strings.HasSuffix(f.Syntax.Name.Name, "_test")) {
			return nil
		}
		if !f.Test {
			ordinary++
		}
	}
	if ordinary == 0 || r.Exempt("comment", p.Dir, "") {
		return nil
	}
	return []string{fmt.Sprintf("%s: the package comment is missing: what lives here, and what does not", p.Dir)}
}

// checkLengths is for ordinary files: tables make tests long.
func (r *Rules) checkLengths(f *File) []string {
	var bad []string
	if f.Lines >= maxFileLines && !r.Exempt("length", f.Path, "") {
		bad = append(bad, fmt.Sprintf("%s: %d lines; fewer than %d, split it by noun", f.Path, f.Lines, maxFileLines))
	}
	for _, d := range f.Syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := fn.Name.Name
		lines := f.Set.Position(fn.End()).Line - f.Set.Position(fn.Pos()).Line + 1
		if lines > maxFunctionLines && !r.Exempt("length", f.Path, name) {
			bad = append(bad, fmt.Sprintf("%s: function %s has %d lines; at most %d", f.at(fn.Pos()), name, lines, maxFunctionLines))
		}
		if name == "init" && fn.Recv == nil && !r.Exempt("init", f.Path, "") {
			bad = append(bad, f.at(fn.Pos())+": func init: wire things by ordinary calls")
		}
	}
	return bad
}

func (r *Rules) checkTasks(f *File) []string {
	var bad []string
	for _, group := range f.Syntax.Comments {
		for _, c := range group.List {
			for _, m := range openTask.FindAllStringSubmatch(c.Text, -1) {
				if m[2] == "" && !r.Exempt("task", f.Path, "") {
					bad = append(bad, fmt.Sprintf("%s: %s without a reason; write %s(why it is not done now): what", f.at(c.Pos()), m[1], m[1]))
				}
			}
		}
	}
	return bad
}

// checkCalls looks at error texts and at skipped tests.
func (r *Rules) checkCalls(f *File) []string {
	var bad []string
	ast.Inspect(f.Syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		on, _ := sel.X.(*ast.Ident)
		switch {
		case on == nil:
		case on.Name == "errors" && sel.Sel.Name == "New", on.Name == "fmt" && sel.Sel.Name == "Errorf":
			if text := firstText(call); strings.HasPrefix(strings.ToLower(text), "failed to") {
				bad = append(bad, fmt.Sprintf("%s: error %q: say the operation and the object, not that it failed", f.at(call.Pos()), text))
			}
		case f.Test && (on.Name == "t" || on.Name == "b" || on.Name == "tb") && strings.HasPrefix(sel.Sel.Name, "Skip") && sel.Sel.Name != "Skipped":
			if len(call.Args) == 0 || isEmptyText(call.Args[0]) {
				bad = append(bad, f.at(call.Pos())+": a test is skipped without a reason")
			}
		}
		return true
	})
	return bad
}

func firstText(call *ast.CallExpr) string {
	if len(call.Args) == 0 {
		return ""
	}
	if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
		return strings.Trim(lit.Value, "\"`")
	}
	return ""
}

func isEmptyText(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && strings.Trim(lit.Value, "\"` ") == ""
}

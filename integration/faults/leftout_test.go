package faults

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLeftOut: what a subject leaves out is a test of this package, or a case of one, and that test asks for it. Else a
// test that got another name, or a slip of the pen, would look as if it had a reason.
func TestLeftOut(t *testing.T) {
	files, err := parser.ParseDir(token.NewFileSet(), ".", nil, 0) //nolint:staticcheck // no build constraints here
	must(t, err)
	tests := map[string]*ast.FuncDecl{}
	for _, file := range files["faults"].Files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = f
			}
		}
	}
	for _, s := range Subjects {
		for name, why := range s.LeftOut {
			if complaint := leftOut(tests, name); complaint != "" || why == "" {
				t.Errorf("%s leaves out %q (%s): %s", s.Name, name, why, complaint)
			}
		}
	}
	for _, name := range []string{"TestNothing", "TestTakenAway/nothing", "TestCheckFinds/removed", "TestStatusWithoutFirewall/ready", ""} {
		if leftOut(tests, name) == "" {
			t.Errorf("there is no %q, and nobody has noticed", name)
		}
	}
}

// leftOut says what is wrong with the name of a test, or of a case of one.
func leftOut(tests map[string]*ast.FuncDecl, name string) string {
	name, item, isCase := strings.Cut(name, "/")
	f := tests[name]
	if f == nil {
		return "there is no such test"
	}
	var asks, cases []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			asks = append(asks, n.Name)
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil {
				cases = append(cases, text)
			}
		}
		return true
	})
	switch {
	case !isCase && !slices.ContainsFunc([]string{"eachSubject", "eachPlugin", "eachChange"}, func(f string) bool { return slices.Contains(asks, f) }):
		return "the test does not ask whether it is left out"
	case isCase && !slices.Contains(asks, "takesIn"):
		return "the test does not ask whether a case is left out"
	case isCase && !slices.Contains(cases, item):
		return "the test has no such case"
	}
	return ""
}

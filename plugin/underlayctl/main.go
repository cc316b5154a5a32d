// Underlayctl is the operator's command. This release implements only its version.
package main

import (
	"fmt"
	"io"
	"os"

	"underlay-cni/plugin"
)

const usage = `usage: underlayctl version

plan, diagnose, gc and uninstall are not implemented in this release.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit status: 0, or 2 for a wrong command line.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "version" {
		_, _ = fmt.Fprintln(stdout, plugin.Version)
		return 0
	}
	_, _ = io.WriteString(stderr, usage)
	return 2
}

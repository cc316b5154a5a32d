#!/bin/sh
# go.sh: is the Go in PATH new enough? Go 1.21 and later fetch the version that go.mod names by themselves; an older one, as
# Debian 12's own 1.19, stops at go.mod with a parse error that does not say so.
set -eu

cd "$(dirname "$0")/.."
wanted=$(sed -n 's/^go //p' go.mod)
advice="install Go $wanted in /usr/local/go, and put /usr/local/go/bin first in PATH"
command -v go >/dev/null || {
	echo "go: not in PATH, nor is there /usr/local/go/bin/go; $advice" >&2
	exit 1
}
# Outside of the module: in it an older Go reads go.mod first.
have=$(cd / && GOTOOLCHAIN=local go version | sed -n 's/^go version go\([0-9]*\.[0-9]*\).*/\1/p')
[ -n "$have" ] || exit 0 # a development version
if [ "$(printf '1.21\n%s\n' "$have" | sort -V | head -n 1)" != 1.21 ]; then
	echo "go: $(command -v go) is Go $have; accepted: Go $wanted, or 1.21 and later, which fetches it; $advice" >&2
	exit 1
fi

#!/bin/sh
# fuzz.sh SECONDS: runs each fuzz target of the module so long, one after the other. It fails where one has found something (the
# input is in testdata/fuzz of its package, where `go test` tries it from then on), and where there is no target at all.
set -eu

seconds=${1:?usage: fuzz.sh SECONDS}
cd "$(dirname "$0")/.."
found=0
for package in $(grep -rl --include='*_test.go' --exclude-dir=.tools '^func Fuzz' . | xargs -n 1 dirname | sort -u); do
	list=$(go test -list '^Fuzz' "$package") # fails by itself where the package does not build
	for target in $(printf '%s\n' "$list" | grep '^Fuzz'); do
		found=$((found + 1))
		echo "fuzz: $package $target, $seconds s"
		if ! said=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" "$package" 2>&1); then
			printf '%s\n' "$said" >&2
			echo "fuzz: $package $target has failed" >&2
			exit 1
		fi
	done
done
if [ "$found" = 0 ]; then
	echo "fuzz: no targets" >&2
	exit 1
fi
echo "fuzz: $found targets found nothing"

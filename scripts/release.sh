#!/bin/sh
# release.sh [ARCH...]: dist/underlay-cni-VERSION-linux-ARCH.tar.gz with SHA256SUMS. The same commit gives the same bytes.
set -eu

cd "$(dirname "$0")/.."
version=$(git describe --tags --always --dirty)
date=$(git log -1 --format=%cI)
[ $# -gt 0 ] || set -- amd64 arm64

rm -rf dist
for arch; do
	name=underlay-cni-$version-linux-$arch
	GOOS=linux GOARCH=$arch make build BIN="dist/$name"
	cp LICENSE README*.md "dist/$name"
	tar -C dist --sort=name --mtime="$date" --owner=0 --group=0 --numeric-owner -c "$name" | gzip -9n >"dist/$name.tar.gz"
	rm -r "dist/$name"
done
cd dist
sha256sum ./*.tar.gz >SHA256SUMS
cat SHA256SUMS

#!/bin/sh
# Install the Debian packages that the tests, the demo and the benchmarks need, and only those that are missing.
set -eu

missing=
# need COMMAND-OR-FILE PACKAGE
need() {
	command -v "$1" >/dev/null || [ -e "$1" ] || missing="$missing $2"
}

PATH=$PATH:/usr/sbin:/sbin
need ip iproute2
need nft nftables
need iptables iptables
need sysctl procps # Debian's minbase and the image debian:12 lack it
need shellcheck shellcheck
need /etc/ssl/certs/ca-certificates.crt ca-certificates # go fetches modules over TLS

[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || {
	echo "setup: not root, and these packages are missing:$missing" >&2
	exit 1
}
echo "setup: apt-get install$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # a list of words
apt-get -qq install -y --no-install-recommends $missing >/dev/null

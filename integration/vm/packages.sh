#!/bin/sh
# packages.sh DIR PACKAGE...: download Debian packages, with what they depend on and this machine has not, and unpack
# them below DIR. Nothing is installed. The second time there is nothing to do.
set -eu

dir=$1
shift
[ "$(cat "$dir/.packages" 2>/dev/null)" != "$*" ] || exit 0
apt-get -qq update
rm -rf "$dir"
mkdir -p "$dir/debs/partial"
wanted=
for package; do
	case $package in
	# Which kernel that is changes, and nothing else that it depends on is of use here.
	linux-image-*) package=$(apt-cache depends "$package" | sed -n 's/ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1) ;;
	esac
	wanted="$wanted $package"
done
# shellcheck disable=SC2086 # a list of words
apt-get -qq install -y --download-only --no-install-recommends -o Dir::Cache::archives="$dir/debs" -o APT::Sandbox::User=root $wanted >"$dir/log"
for deb in "$dir"/debs/*.deb; do
	dpkg-deb -x "$deb" "$dir"
done
rm -r "$dir/debs"
echo "$*" >"$dir/.packages"

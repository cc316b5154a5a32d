#!/bin/sh
# install.sh DIR FILE...: put the files into DIR by rename. A runtime may be executing the old ones: writing onto
# a running program fails with "text file busy", and so does running one that is being written.
set -eu

dir=$1
shift
mkdir -p "$dir"
for file; do
	new=$dir/.${file##*/}.$$
	trap 'rm -f "$new"' EXIT
	install -m 0755 "$file" "$new"
	mv -f "$new" "$dir/${file##*/}"
	echo "install: $dir/${file##*/}"
done

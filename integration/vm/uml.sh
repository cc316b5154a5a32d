#!/bin/sh
# uml.sh SYS OUT: as qemu.sh, in user-mode Linux. That is a process like any other and starts in a second, but it has
# one processor, slow system calls and no nf_tables: iptables-legacy is all there is.
set -eu

sys=$1 out=$2 here=$(realpath "$(dirname "$0")")
mkdir -p "$sys/lib/modules"
ln -sfn "$sys"/usr/lib/uml/modules/* "$sys/lib/modules/"

rm -f "$out/status"
died=125
timeout -k 5 "${VM_SECONDS:-600}" "$sys/usr/bin/linux.uml" mem=1G root=/dev/root rootfstype=hostfs rootflags=/ ro init="$here/init.sh" \
	con=null con0=null,fd:1 ssl=null quiet loglevel=1 umid=uml uml_dir="$out/uml/" \
	VM_FS=hostfs VM_OUT="$out" VM_SYS="$sys" </dev/null >"$out/console" 2>&1 || [ $? != 124 ] || died=124
tr -d '\r' <"$out/console"
[ ! -s "$out/status" ] || exit "$(cat "$out/status")"
exit $died

#!/bin/sh
# test.sh: the tests that need a kernel which this machine has not, on Debian's stock one in qemu: pods on the real
# ipvlan in its three modes, and kube-proxy's IPVS mode. It is the test binary that runs here, on the binaries of
# `make build cni-tools`. Where the packages are not to be had it says so, and is no failure.
#
# VM_RUN is what to run in place of the usual, as -test.run takes it, with LAB_PARENT as the default of the lab.
set -eu

cd "$(dirname "$0")/../.."
sys=$PWD/.tools/vm
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
start=$(date +%s)

untested() {
	cat >&2 <<-END
		vm: ******************************************************************************************
		vm: SKIPPED, NOT TESTED: pods on the real ipvlan (l2, l3, l3s); kube-proxy's IPVS mode
		vm: $*
		vm: ******************************************************************************************
	END
	exit 0
}

[ "$(uname -m)" = x86_64 ] || untested "the kernel in qemu is one for x86_64, not for $(uname -m)"
[ "$(id -u)" = 0 ] || untested "not root"
integration/vm/packages.sh "$sys" linux-image-cloud-amd64 qemu-system-x86 busybox-static kmod cpio ipvsadm >&2 ||
	untested "the packages cannot be downloaded from Debian's archive"

CGO_ENABLED=0 go test -c -o "$out/integration.test" ./integration
cat >"$out/modules" <<END
veth
macvlan
ipvlan
bridge
nf_tables
nft_compat
nf_conntrack_netlink
ip_vs
ip_vs_rr
END
cat >"$out/command" <<END
cd $PWD/integration
export TMPDIR=/mnt LAB_SLOWNESS=3
status=0
run() {
	LAB_PARENT=\$1 /mnt/out/integration.test -test.v -test.timeout 20m -test.run "\$2" || status=1
}
END
if [ -n "${VM_RUN-}" ]; then
	echo "run '${LAB_PARENT-macvlan}' '$VM_RUN'"
else
	# The strict rp_filter, which paths break on first.
	echo "run macvlan 'TestPaths\$/^(ipvlan-.*|macvlan_ipvs)_rp_filter_1_'"
	echo "run ipvlan-l2 'TestPathsElsewhere|TestDel|TestAddTwice|TestCheckAfterAdd|TestView|TestMove'"
fi >>"$out/command"
echo "exit \$status" >>"$out/command"

status=0
VM_SECONDS=${VM_SECONDS-900} integration/vm/qemu.sh "$sys" "$out" >"$out/tests" || status=$?
count() { grep -cE "^ *--- $1: " "$out/tests" || true; }
echo "vm: $(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped in $(($(date +%s) - start)) s: integration.test on the kernel of ${sys#"$PWD/"}"
if [ $status = 0 ] && [ "$(count SKIP)" = 0 ] && [ "$(count PASS)" != 0 ]; then
	exit 0
fi
grep -vE '^=== (RUN|PAUSE|CONT)|^ *--- PASS: ' "$out/tests" >&2 || true
echo "vm: exit status $status" >&2
exit 1

#!/bin/sh
# test.sh [qemu|uml]: the tests that need a kernel which this machine has not: pods on the real ipvlan in its three
# modes, and kube-proxy's IPVS mode. In qemu it is Debian's stock kernel; in user-mode Linux there is no nf_tables, so
# that is the place of the iptables backend. The test binary is the one of `go test`, on the plugins of
# `make build cni-tools`. Where the packages are not to be had it says so, and is no failure.
#
# VM_RUN is what to run in place of the usual, as -test.run takes it; LAB_PARENT and LAB_FIREWALL are then the defaults
# of the lab. The last output stays in .tools/vm-MACHINE.log. The usual in qemu makes the README's table of what holds
# where, and fails if the README has another.
set -eu

cd "$(dirname "$0")/../.."
machine=${1-qemu}
log=.tools/vm-$machine.log
sys=$PWD/.tools/$machine
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
start=$(date +%s)

untested() {
	cat >&2 <<-END
		vm: ******************************************************************************************
		vm: SKIPPED, NOT TESTED ($machine): pods on the real ipvlan (l2, l3, l3s); kube-proxy's IPVS mode
		vm: $*
		vm: ******************************************************************************************
	END
	exit 0
}

parent=${LAB_PARENT-ipvlan-l2} firewall=${LAB_FIREWALL-auto}
run() { # PARENT FIREWALL PATTERN
	echo "LAB_PARENT=$1 LAB_FIREWALL=$2 /mnt/out/integration.test -test.v -test.timeout 20m -test.run '$3' || status=1"
}
case $machine in
qemu)
	packages="linux-image-cloud-amd64 qemu-system-x86 busybox-static kmod cpio ipvsadm"
	modules="veth macvlan ipvlan bridge nf_tables nft_chain_nat nft_ct nft_fib_inet nft_masq nft_nat nft_compat nf_conntrack_netlink ip_vs ip_vs_rr"
	# Under the strict rp_filter, which paths break on first. Without ipMasq the rules for Services are others, and
	# IPVS has one of its own among them.
	usual() {
		run macvlan auto 'TestPaths$/_rp_filter_1_ipMasq_true'
		run macvlan auto 'TestPathsIPTables/_ipMasq_true'
		run macvlan auto 'TestPaths$/^(ipvlan-.*|macvlan_ipvs)_rp_filter_1_ipMasq_false'
		run macvlan auto 'TestPathsIPTables/(ipvlan-l2_nft|ipvlan-l2_ipvs|macvlan_ipvs)_ipMasq_false'
		run macvlan auto 'TestVethPaths/^(nftables_(ipvlan-.*|macvlan_ipvs)|iptables-legacy_ipvlan-l2_nft)_rp_filter_1'
		run macvlan auto 'TestRouterPaths/^(calico_nftables_(ipvlan-.*_nft|ipvlan-l2_ipvs|macvlan_ipvs)|(ptp_nftables|calico_iptables-nft)_ipvlan-l2_nft)_rp_filter_1'
		run ipvlan-l2 auto 'TestRouterPathsElsewhere/^net2,_all_of_it,_calico,_nftables|TestRouterDel/^calico_dual|TestRouterRouteGet/calico'
		run ipvlan-l2 auto 'TestPathsElsewhere/^(all_of_it|all_of_it,_ipMasq_false|beside_portmap|a_wire_.*|two_.*|no_.*),_nftables$'
		run ipvlan-l2 auto 'TestDelLeavesTheNodeAsItWas/^dual|TestDelNeedsNothing|TestAddTwice|TestCheckAfterAdd|TestView|TestMove|TestExamples/^ipvlan-(openstack|iptables).conflist'
	}
	;;
uml)
	packages="user-mode-linux kmod"
	iptables=legacy
	modules="veth macvlan ipvlan bridge iptable_mangle iptable_nat ip6table_mangle ip6table_nat"
	usual() {
		run macvlan iptables 'TestPathsIPTables/^iptables-legacy_.*_iptables-legacy'
		run macvlan iptables 'TestRouterPaths/^calico_iptables-legacy_(macvlan|ipvlan-l2)_iptables-legacy'
		run ipvlan-l2 auto 'TestCheckAfterAdd/dual_1.0.0|TestMove'
	}
	;;
esac

[ "$(uname -m)" = x86_64 ] || untested "its kernel is one for x86_64, not for $(uname -m)"
[ "$(id -u)" = 0 ] || untested "not root"
# shellcheck disable=SC2086 # a list of words
integration/vm/packages.sh "$sys" $packages >&2 || untested "the packages cannot be had from Debian's archive:" $packages

CGO_ENABLED=0 go test -c -o "$out/integration.test" ./integration
# shellcheck disable=SC2086 # a list of words
printf '%s\n' $modules >"$out/modules"
{
	echo "cd $PWD/integration; export TMPDIR=/mnt LAB_SLOWNESS=3 LAB_IPTABLES=${iptables-}; status=0"
	if [ -n "${VM_RUN-}" ]; then
		run "$parent" "$firewall" "$VM_RUN"
	else
		usual
	fi
	echo "exit \$status"
} >"$out/command"

status=0
VM_SECONDS=${VM_SECONDS-1800} "integration/vm/$machine.sh" "$sys" "$out" >"$log" || status=$?
count() { grep -cE "^ *--- $1: " "$log" || true; }
echo "vm: $(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped in $(($(date +%s) - start)) s: integration.test in $machine"
if [ $status = 0 ] && [ "$(count SKIP)" = 0 ] && [ "$(count PASS)" != 0 ]; then
	[ "$machine" = qemu ] && [ -z "${VM_RUN-}" ] || exit 0
	awk -f integration/vm/table.awk "$log" >.tools/vm-table.md
	for readme in README.md README.zh-CN.md; do
		! grep -vxFf "$readme" .tools/vm-table.md || { echo "vm: $readme does not have these lines of the table" >&2; status=1; }
	done
	exit $status
fi
grep -vE '^=== (RUN|PAUSE|CONT)|^ *--- PASS: ' "$log" >&2 || true
echo "vm: exit status $status, see $log" >&2
exit 1

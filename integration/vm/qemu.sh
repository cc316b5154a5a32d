#!/bin/sh
# qemu.sh SYS OUT: run the shell script OUT/command as root on Debian's cloud kernel in qemu, as init.sh says. SYS is
# where the packages of test.sh are unpacked. What the command prints is printed here; the exit status is its own, 124
# after VM_SECONDS, 125 if the machine died.
set -eu

sys=$1 out=$2 here=$(realpath "$(dirname "$0")")
version=$(basename "$sys"/lib/modules/*-cloud-amd64)
initrd=$sys/initrd-$version
program() { command -v "$1" || echo "$sys/bin/$1"; }

# The first root file system: busybox and the modules that lead to the shared one.
if [ ! -s "$initrd" ]; then
	ln -sf "$(program kmod)" "$sys/depmod"
	ln -sf "$(program kmod)" "$sys/modprobe"
	"$sys/depmod" -b "$sys" "$version"
	root=$out/initrd
	mkdir -p "$root/root" "$root/modules"
	cp "$(program busybox)" "$root/busybox"
	number=10
	for name in virtio_pci virtiofs; do
		"$sys/modprobe" -d "$sys" -S "$version" --show-depends "$name"
	done | sed -n 's/^insmod //p' | awk '!seen[$0]++' | while read -r file; do
		number=$((number + 1)) # they are loaded in this order
		cp "$file" "$root/modules/$number-${file##*/}"
	done
	cat >"$root/init" <<-'END'
		#!/busybox sh
		for module in /modules/*; do
			/busybox insmod "$module"
		done
		/busybox mount -t virtiofs -o ro host /root
		exec /busybox switch_root /root "$VM_INIT"
	END
	chmod +x "$root/init"
	(cd "$root" && find . | "$(program cpio)" -o -H newc --quiet) | gzip -1 >"$initrd.new"
	mv "$initrd.new" "$initrd"
fi

if command -v qemu-system-x86_64 >/dev/null; then
	qemu=qemu-system-x86_64 data=/usr/share virtiofsd=/usr/lib/qemu/virtiofsd
else
	qemu=$sys/usr/bin/qemu-system-x86_64 data=$sys/usr/share virtiofsd=$sys/usr/lib/qemu/virtiofsd
	export LD_LIBRARY_PATH="$sys/usr/lib/x86_64-linux-gnu:$sys/lib/x86_64-linux-gnu"
fi
"$virtiofsd" --socket-path="$out/host.sock" -o source=/ -o cache=always -o sandbox=chroot -f >"$out/host.log" 2>&1 &
host=$!
"$virtiofsd" --socket-path="$out/out.sock" -o source="$out" -o cache=auto -o sandbox=chroot -f >"$out/out.log" 2>&1 &
trap 'kill $host $! 2>/dev/null || true' EXIT
until [ -S "$out/host.sock" ] && [ -S "$out/out.sock" ]; do
	kill -0 $host $! || exit 125
	sleep 0.1
done

rm -f "$out/status"
died=125
timeout -k 5 "${VM_SECONDS:-600}" "$qemu" -L "$data/qemu" -L "$data/seabios" -M q35 -accel tcg -cpu max -smp 2 -m 2048 \
	-nodefaults -no-user-config -no-reboot -display none -serial stdio \
	-object memory-backend-memfd,id=mem,size=2048M,share=on -numa node,memdev=mem \
	-chardev socket,id=host,path="$out/host.sock" -device vhost-user-fs-pci,chardev=host,tag=host \
	-chardev socket,id=out,path="$out/out.sock" -device vhost-user-fs-pci,chardev=out,tag=out -device virtio-rng-pci \
	-kernel "$sys/boot/vmlinuz-$version" -initrd "$initrd" \
	-append "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off random.trust_cpu=on VM_FS=virtiofs VM_SYS=$sys VM_INIT=$here/init.sh" \
	</dev/null >"$out/console" 2>&1 || [ $? != 124 ] || died=124
tr -d '\r' <"$out/console"
[ ! -s "$out/status" ] || exit "$(cat "$out/status")"
exit $died

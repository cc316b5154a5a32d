#!/bin/sh
# init.sh is the first process of a virtual machine whose root is the file system of the machine that runs it,
# read-only. It mounts what programs need to write to, loads modules as the kernel asks for them, runs the file
# `command` of the directory that both machines share, leaves its exit status there and switches the machine off.
#
# From the kernel's command line: VM_FS, the type of the shared directory; VM_OUT, its path outside; VM_SYS, where the
# packages with the modules are unpacked.

export PATH=/mnt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null || true # user-mode Linux has done it
for dir in /run /root /var/lib /var/log /mnt; do
	mount -t tmpfs none $dir
done
mkdir -p /dev/pts /run/netns /mnt/bin /mnt/out
mount -t devpts pts /dev/pts
ln -sfn /proc/self/fd /dev/fd
case $VM_FS in
hostfs) mount -t hostfs -o "$VM_OUT" none /mnt/out ;;
*) mount -t "$VM_FS" out /mnt/out ;;
esac

cat >/mnt/bin/ipvsadm <<-END
	#!/bin/sh
	LD_LIBRARY_PATH=$VM_SYS/lib/x86_64-linux-gnu:$VM_SYS/usr/lib/x86_64-linux-gnu exec $VM_SYS/sbin/ipvsadm "\$@"
END
cat >/mnt/bin/load <<-END
	#!/bin/sh
	exec /mnt/bin/modprobe -d $VM_SYS "\$@"
END
chmod 755 /mnt/bin/*
ln -s "$(command -v kmod || echo "$VM_SYS/bin/kmod")" /mnt/bin/modprobe
echo /mnt/bin/load >/proc/sys/kernel/modprobe
while read -r module; do
	load "$module" || echo "vm: no module $module"
done </mnt/out/modules

ip link set lo up
cd /mnt/out || exit
sh ./command
echo $? >/mnt/out/status
sync
echo o >/proc/sysrq-trigger
sleep 10

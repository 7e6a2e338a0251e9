#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# First process of the guest: inserts the disk modules, mounts the root image (read-only) and
# hands over to /init of the same initramfs' payload. Every command is a busybox applet; few of
# them, since each fork costs milliseconds under software emulation.
export PATH=/bin
b=busybox
fail() {
	echo "bpfthrow-init: $*" > /dev/console
	echo "bpfthrow-init: the guest cannot go on; powering off" > /dev/console
	$b poweroff -f
}
$b mount -t devtmpfs dev /dev || fail "no devtmpfs (CONFIG_DEVTMPFS)"
$b mount -t proc proc /proc
while read -r module; do
	$b insmod "/modules/$module" || fail "cannot insert $module"
done < /modules/boot.list
tries=0
until [ -b /dev/vda ]; do
	tries=$((tries + 1))
	[ $tries -gt 100 ] && fail "no /dev/vda: the kernel lacks virtio_blk or virtio_pci"
	$b sleep 0.05
done
$b mount -t erofs -o ro /dev/vda /root || fail "cannot mount the root image: no erofs in this kernel, or a damaged image"
$b mount -t tmpfs -o mode=755 run /root/run
$b mv /payload /root/run/bpfthrow
$b mount --move /dev /root/dev
$b mount --move /proc /root/proc
exec $b switch_root /root /usr/bin/busybox sh /run/bpfthrow/init

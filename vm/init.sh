#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Second half of the guest's start, in the root image: file systems that BPF needs, then one sshd
# per virtio-serial port named bpfthrow.sshN, for ever. sshd talks over the port (inetd mode): no
# network, no listening socket. Keys are this guest's own; they came with the initramfs.
export PATH=/usr/sbin:/usr/bin HOME=/run
cd /run || exit 1
b=busybox
say() { echo "bpfthrow-init: $*" > /dev/console; }

serve() {
	# Opening the port fails while the last connection's sshd still holds it.
	while :; do
		sshd -i -f /run/bpfthrow/sshd_config <> "$1" >&0 2>> /run/sshd.log
		# 255 is the end of a connection; 126 and 127 are a root image without a working sshd. When
		# the harness' own sshd is killed, its next one would talk into the middle of a conversation,
		# and the host would wait for the rest of it: better there is no guest any more.
		case $?$1 in
		126* | 127*) say "sshd: $($b tail -n 1 /run/sshd.log)" ;;
		137*p11) say "sshd was killed" && $b poweroff -f ;;
		esac
		$b sleep 0.1
	done
}

# The harness waits for the first port: its sshd goes first, the rest is done while it waits for the
# other side. The numbers are vm.py's.
$b mkdir -p /run/sshd /dev/pts
set -- /dev/vport*p11
[ -c "$1" ] || say "no virtio-serial port: the kernel lacks virtio_console"
serve "$1" &
$b renice -n 19 -p $$ > /dev/null

$b mount -t tmpfs tmp /tmp
$b mount -t sysfs sys /sys
$b mount -t devpts devpts /dev/pts
$b mount -t bpf bpf /sys/fs/bpf || say "no bpffs (CONFIG_BPF_SYSCALL)"
$b mount -t tracefs trace /sys/kernel/tracing || say "no tracefs (CONFIG_TRACING)"
$b mount -t debugfs debug /sys/kernel/debug
# Every load of an object with kfuncs reads it whole; sysfs gives it out in pages of 4 KiB.
$b cp /sys/kernel/btf/vmlinux /run/vmlinux.btf &&
	$b mount --bind /run/vmlinux.btf /sys/kernel/btf/vmlinux
# the agent listens there
$b ifconfig lo up
# Whoever starts the agent waits for this file.
: > /run/bpfthrow/ready

# For people who look around by `bpfthrow vm ssh`; sshd_config has the path.
$b sleep 5
$b mkdir /run/bin
$b --install -s /run/bin
set -- /dev/vport*p12
# not last in the queue behind a busy guest
$b renice 0 -p $$ > /dev/null
serve "$1" &

# First process: collects orphans until the machine is switched off from outside.
while :; do
	wait
	$b sleep 3600
done

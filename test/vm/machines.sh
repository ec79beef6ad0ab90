# Virtual machines for the tests in this directory, which source it: up to three, by software
# emulation, on this computer's own root filesystem.
#
# Each machine sees / of the computer read-only through virtio-9p, below an overlay whose upper
# layer is in its memory. So it has every program that is installed here and can write
# anywhere, and nothing of it stays. Its data is on a disk of its own, an ext4 image. Two
# machines, a and b, share a network that exists between them only: 192.168.77.1 and .2. A test
# may have a third one, c.
#
# A machine runs commands that the test gives it: "on a COMMAND". They go through a directory
# that is shared with the machine and not through the network, which is part of the test.
#
# What is not visible here: KVM is not used. It would be much faster, and is often not to be had
# where tests run.
# shellcheck shell=bash

# What a machine needs before it sees the root filesystem; everything else is loaded later.
early_modules="virtio_pci virtio_net virtio_blk 9pnet_virtio 9p overlay crc32c_generic ext4"

# The newest kernel here that has soft-RoCE. (Debian's kernels for clouds have not.)
find_kernel() {
	local image

	kernel=
	while read -r image; do
		if modinfo -k "${image#/boot/vmlinuz-}" rdma_rxe >/dev/null 2>&1; then
			kernel=${image#/boot/vmlinuz-}
			return 0
		fi
	done < <(find /boot -name 'vmlinuz-*' 2>/dev/null | sort -rV)
	return 1
}

# Prints why there can be no machines here, or nothing.
why_no_machines() {
	local program

	for program in qemu-system-x86_64 busybox modinfo mke2fs cpio xz; do
		if ! command -v "$program" >/dev/null; then
			echo "there is no $program"
			return
		fi
	done
	[ "$(uname -m)" = x86_64 ] || { echo "this is no x86-64 computer" && return; }
	[ "$(id -u)" -eq 0 ] || { echo "only root can give machines this computer's files" && return; }
	find_kernel || echo "there is no kernel with the module rdma_rxe in /boot"
}

# Kernel and first root filesystem, in $machines. Uncompressed: unpacking takes long where
# every instruction is emulated.
prepare_machines() {
	local root=$machines/root module file offset

	mkdir -p "$machines"
	offset=$(LC_ALL=C grep -abo $'\xfd7zXZ' "/boot/vmlinuz-$kernel" | head -n 1 | cut -d : -f 1)
	tail -c "+$((offset + 1))" "/boot/vmlinuz-$kernel" |
		xz -dc --single-stream >"$machines/vmlinux" 2>/dev/null || true
	[ -s "$machines/vmlinux" ] || die "could not unpack /boot/vmlinuz-$kernel"

	mkdir -p "$root"/{bin,modules,dev,proc,sys,lower,upper,new}
	cp "$(command -v busybox)" "$root/bin/busybox"
	for module in $early_modules; do
		modprobe -S "$kernel" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		cp "$file" "$root/modules/"
		basename "$file" >>"$root/modules/order"
	done
	install -m 755 "$here/init" "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$machines/initrd"
}

# start_machine NAME [DIRECTORY]: boots it. DIRECTORY is what lies on its disk, /data; without
# one it has the disk that it had, if any. $process1 is agent or systemd, $memory is in MB.
start_machine() {
	local name=$1 directory=$machines/$1 number arguments network

	number=$(printf '%d' "'$1")
	number=$((number - 96)) # a is 1
	network=dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port=$((machine_port + number))
	network+=,remote.type=inet,remote.host=127.0.0.1,remote.port=$((machine_port + 3 - number))
	if "$three"; then
		network=socket,id=n0,mcast=230.77.77.77:$machine_port,localaddr=127.0.0.1
	fi
	rm -rf "$directory"
	mkdir -p "$directory/commands" "$machines/shared"
	install -m 755 "$here/agent" "$directory/agent"
	cp "$here/systemd" "$directory/"
	if [ $# -gt 1 ]; then
		rm -f "$machines/disk-$name"
		truncate -s 1G "$machines/disk-$name"
		mke2fs -q -F -t ext4 -E root_owner=0:0 -d "$2" "$machines/disk-$name"
	fi
	arguments=(-name "$name" -machine "q35,usb=off,vmport=off" -accel "tcg,thread=multi" -cpu "max,la57=off"
		-smp 1 -m "$memory" -nodefaults -no-user-config -display none -no-reboot
		-kernel "$machines/vmlinux" -initrd "$machines/initrd"
		-append "console=ttyS0 quiet panic=1 mitigations=off nokaslr audit=0 net.ifnames=0 \
			tsc=reliable no_timer_check random.trust_cpu=on systemd.show_status=0 \
			machine=$name number=$number process1=$process1"
		-serial "file:$directory/console" -qmp "unix:$directory/qmp,server=on,wait=off"
		-fsdev "local,id=f0,path=/,security_model=none,readonly=on,multidevs=remap"
		-device "virtio-9p-pci,fsdev=f0,mount_tag=root"
		-fsdev "local,id=f1,path=$directory,security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=f1,mount_tag=machine"
		-fsdev "local,id=f2,path=$machines/shared,security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=f2,mount_tag=shared"
		-netdev "$network"
		-device "virtio-net-pci,netdev=n0,mac=52:54:00:77:00:0$number,romfile=")
	if [ -f "$machines/disk-$name" ]; then
		arguments+=(-drive "file=$machines/disk-$name,format=raw,if=virtio,cache=writeback")
	fi
	qemu-system-x86_64 "${arguments[@]}" >"$directory/qemu.log" 2>&1 &
	machine_pid[$name]=$!
	echo 0 >"$directory/last"
}

machine_runs() {
	kill -0 "${machine_pid[$1]}" 2>/dev/null
}

# begin NAME COMMAND: has a machine run a command, and does not wait. It becomes the last one.
begin() {
	local directory=$machines/$1/commands number

	# in a file: this may run in a subshell
	number=$(($(cat "$machines/$1/last") + 1))
	echo "$number" >"$machines/$1/last"
	printf '%s\n' "$2" >"$directory/$number.new"
	mv "$directory/$number.new" "$directory/$number.run"
}

# finish NAME: waits for the machine's last command; prints what that said and returns its
# status, 125 if the machine is gone.
finish() {
	local directory=$machines/$1/commands number end=$((SECONDS + ${machine_limit:-120}))

	number=$(cat "$machines/$1/last")
	until [ -e "$directory/$number.status" ]; do
		machine_runs "$1" || return 125
		[ "$SECONDS" -lt "$end" ] || { echo "no answer from machine $1" && return 124; }
		sleep 0.1
	done
	cat "$directory/$number.out"
	return "$(cat "$directory/$number.status")"
}

on() {
	begin "$1" "$2"
	finish "$1"
}

# Ends the machines, however they are.
end_machines() {
	local name

	for name in "${!machine_pid[@]}"; do
		kill "${machine_pid[$name]}" 2>/dev/null || true
		wait "${machine_pid[$name]}" 2>/dev/null || true
	done
	machine_pid=()
}

machines=${machines:-} # a directory of the test's own
process1=agent
memory=1024
three=false # machines; two have a cable, three a switch
declare -A machine_pid
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
machine_port=$((20000 + $$ % 10000))

#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
# In the emulated machine (scripts/test-engines-emulated --module): raid456.ko with the engine that it chooses, and with each one.
# Every time the same is written to an array of level 6; every engine must leave the same bytes on all members, which a check finds
# right, and read the same without two members.

wrong=0
fail() {
	echo "FAIL $*"
	wrong=1
}

for file in /modules/*.ko; do
	case $file in
	*brd.ko) insmod "$file" rd_nr=6 rd_size=2048 ;;
	*) insmod "$file" ;;
	esac || fail "insmod $file"
done
export MDADM_NO_UDEV=1
members="/dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3 /dev/ram4 /dev/ram5"
head -c 1310720 /bin/busybox >/data
cat /data /data /data /data >/whole
length=$(wc -c </whole)
first=

# Blocks that are changed afterwards, on the array or in the file.
change() {
	for block in 3 77 300 301 302 577 1001; do
		dd if=/data of="$1" bs=4k count=1 skip=$((block / 2)) seek=$block conv=notrunc,fsync 2>/dev/null
	done
}
cp /whole /after
change /after
after=$(md5sum </after)

for engine in auto scalar kernel avx2 avx512 gfni256 gfni512; do
	insmod /raid456.ko parity_engine=$engine || {
		fail "$engine: insmod"
		continue
	}
	echo "asked for $engine: $(cat /sys/module/raid456/parameters/parity_engine)"
	for member in $members; do
		dd if=/dev/zero of="$member" bs=64k 2>/dev/null
	done
	# The superblock is at the end.
	# shellcheck disable=SC2086
	mdadm --quiet --create /dev/md0 --run --level=6 --raid-devices=6 --chunk=16 --metadata=1.0 --bitmap=none --assume-clean $members || fail "$engine: create"
	# Whole rows, then single blocks.
	dd if=/whole of=/dev/md0 bs=64k conv=fsync 2>/dev/null
	change /dev/md0
	echo check >/sys/block/md0/md/sync_action
	mdadm --quiet --wait /dev/md0
	[ "$(cat /sys/block/md0/md/mismatch_cnt)" = 0 ] || fail "$engine: parity is wrong"
	for member in $members; do
		head -c 1572864 "$member"
	done | md5sum >/sums
	[ -n "$first" ] || first=$(cat /sums)
	[ "$first" = "$(cat /sums)" ] || fail "$engine: the members have other bytes"
	mdadm --quiet /dev/md0 --fail /dev/ram1 --fail /dev/ram4 2>/dev/null || fail "$engine: fail two members"
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(head -c "$length" /dev/md0 | md5sum)" = "$after" ] || fail "$engine: reads of lost blocks"
	mdadm --quiet --stop /dev/md0 || fail "$engine: stop"
	rmmod raid456 || fail "$engine: rmmod"
done
dmesg | grep 'raid456.*parity engine'
exit $wrong

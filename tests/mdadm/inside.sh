#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# inside.sh TEST[=SECONDS]...
#
# In a guest with mdadm's own suite in /mnt/share/suite: runs these tests of it, and says for each
# "RESULT name passed|failed|skipped seconds"; one that takes longer than SECONDS (240) fails. Of a failed test there are in
# /mnt/share/logs what it said and did (name.log), and the kernel's messages and the arrays by then (name.state.log).

set -u
# The suite asks for what a guest does not have, and needs nothing of it.
for tool in systemctl getenforce setenforce udevadm; do
	printf '#!/bin/sh\nexit 0\n' >"/usr/local/sbin/$tool"
	chmod +x "/usr/local/sbin/$tool"
done
# The links udev would make: by them the suite knows a member's name from its number.
mkdir -p /dev/block
for number in $(seq 0 15); do
	[[ -e /dev/loop$number ]] || mknod "/dev/loop$number" b 7 "$number"
	ln -sf "../loop$number" "/dev/block/7:$number"
done
echo 1 >/sys/kernel/rcu_expedited
mkdir -p /tmp/suite /var/tmp
cp -a /mnt/share/suite/. /tmp/suite/
cd /tmp/suite || exit
# It looks whether mdadm was built beside it, and then runs the one in PATH.
ln -sf "$(command -v mdadm)" mdadm
# The tests look for it where mdadm is built; some by a variable that nobody sets ("always fails", the suite says of them).
ln -sf /raid456/raid6check raid6check
export dir=$PWD
# "check wait" waits up to 22 s for a sync that may be over already, and 5 s after that: with hundreds of them no test ends.
# While there is one it looks every 2 s whether it is over. What waits for mdmon to find a spare has its 22 s, though: where a new
# array is made at that very moment both take the same disk, and mdadm fails (10ddf-fail-spare).
# shellcheck disable=SC2016 # for the suite's shell
sed -i -e '/^check() {/,/^}/s/^\(\t*\)sleep \([25]\)$/\1sleep ${TENTH}\2/' -e '/^wait_for_reshape_end() {/,/^}/s/sleep 2$/sleep ${TENTH}2/' tests/func.sh
# While an array is being stopped its sync may run 40 times as fast. By the time that mdadm has begun, what is left of 20 MB may be
# done, and 04r5swap, which assembles the array again, waits for a rebuild that it does not need. A reshape is to get somewhere, though.
sed -i '/^mdadm() {/,/^}/s/^\(\t*\)\(echo 20000 >\)/\1grep -q reshape \/proc\/mdstat \&\& \2/' test
# md core keeps arrays that were made by name (00names) after they were stopped, as devices of no size, and the suite takes any whose
# name has "raid" in it for one that runs.
sed -i '/^check_env() {/,/^}/s/lsblk -a |/lsblk -a | grep -v ^md_ |/' tests/func.sh
# Some copy what they test with from the root's disk. There is none: a file will do.
cat >>tests/env-ddf-template <<'END'
get_rootdev() {
	[ -s /tmp/rootdev ] || head -c 80M /dev/urandom >/tmp/rootdev || exit 1
	echo /tmp/rootdev
}
END
# Without udev mdadm gives a second array of the same name another one, where this expects it to refuse.
sed -i '/^if mdadm -CR r5 -l1/,/^fi/d' tests/10ddf-create
# It plants its errors where data begins at 1 MiB, and mdadm 4.4 by itself begins at 2 MiB: in another stripe than it repairs then.
sed -i 's/^\([[:space:]]*mdadm -CR \)/\1--data-offset=1024 /' tests/19raid6repair
# Two volumes of IMSM's, and what it keeps for itself, need more than 20 MB.
# shellcheck disable=SC2016 # for the suite's shell
sed -i 's/^size=20000$/size=${SIZE:-20000}/' tests/func.sh
# No udev makes them.
export MDADM_NO_UDEV=1

for word in "$@"; do
	name=${word%%=*} limit=${word#"${word%%=*}"}
	limit=${limit#=}
	export TENTH=0. SIZE=
	case $name in
	10ddf-fail-*) TENTH= ;;
	09imsm-create-*) SIZE=40000 ;;
	esac
	began=$SECONDS
	rm -f /var/tmp/log "/tmp/logs/$name.log" "/tmp/logs/fail$name.log"
	out=$(timeout "${limit:-240}" ./test --tests="$name" --logdir=/tmp/logs --disable-multipath --disable-linear 2>&1)
	case $out in
	*succeeded*) result=passed ;;
	# Whatever the test, the suite says first that it is skipping others.
	*"/$name... "*skipping*) result=skipped ;;
	*) result=failed ;;
	esac
	if [[ $result != passed ]]; then
		{
			printf '%s\n' "$out"
			# One whose time was up has it where it was written. How the suite saves its logs is left out.
			sed '/^++* save_log fail$/,$d' "/tmp/logs/$name.log" || cat /var/tmp/log
		} >"/mnt/share/logs/$name.log" 2>/dev/null
		cp "/tmp/logs/fail$name.log" "/mnt/share/logs/$name.state.log" 2>/dev/null
		mdadm -Ssq 2>/dev/null
	fi
	echo "RESULT $name $result $((SECONDS - began))"
done

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the scripts share: where things are, and how they speak. Sourced, never run.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${RAID456_CACHE:-$HOME/.cache/raid456-rs}
KERNELS=(uml debian debug arm64)

# The build trees hold absolute names, so the cache needs one too.
[[ $CACHE == /* ]] || CACHE=$PWD/$CACHE
export RAID456_CACHE=$CACHE

me=${0##*/}

die() {
	printf '%s: %s\n' "$me" "$*" >&2
	exit 1
}

say() {
	printf '[%s] %s\n' "$me" "$*"
}

need_root() {
	[[ $(id -u) == 0 ]] || die "this needs root (it mounts and enters a directory tree): run it with sudo"
}

# is_kernel NAME: is it one of them?
is_kernel() {
	local k
	for k in "${KERNELS[@]}"; do
		[[ $k == "$1" ]] && return 0
	done
	return 1
}

# The source tree's version, "7.2.12", and the stock kernel's release, "7.2.12+deb13-amd64": chosen by scripts/setup.
kernel_version() {
	sed -n 's/^version=//p' "$CACHE/kernel-version"
}

debian_release() {
	sed -n 's/^release=//p' "$CACHE/kernel-version"
}

kernel_source() {
	printf '%s/linux-source-%s\n' "$CACHE" "$(kernel_version)"
}

# kdir KERNEL: the folder that `make -C` takes to build a module for this kernel.
kdir() {
	printf '%s/%s\n' "$CACHE" "$1"
}

# kernel_make KERNEL: the words, a line each, that every make for this kernel and its modules needs.
kernel_make() {
	case $1 in
	uml) printf '%s\n' ARCH=um ;;
	debian) printf '%s\n' ARCH=x86_64 "KERNELRELEASE=$(debian_release)" ;;
	debug) printf '%s\n' ARCH=x86_64 LLVM=1 ;;
	arm64) printf '%s\n' ARCH=arm64 LLVM=1 ;;
	esac
}

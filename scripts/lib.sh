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

# The kernel's make does not build in folders of such names, and overlayfs's options do not name them.
case $REPO$CACHE in
*[[:space:]:,%\#\$\'\"\`\\\;\&\(\)\*\?]*) die "the names of the checkout ($REPO) and the cache ($CACHE, RAID456_CACHE) may have no spaces, and nothing that means something to make or the shell" ;;
esac

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

# need_kernel NAME: stops unless it is the name of a kernel whose build folder is there.
need_kernel() {
	is_kernel "$1" || die "which kernel: ${KERNELS[*]}?"
	[[ -e $CACHE/stamps/$1 ]] || die "there is no $1 build folder in $CACHE: run scripts/setup $1"
}

# build_for_tests KERNEL WHAT: the modules in tests/WHAT for this kernel, into build/KERNEL/WHAT. A warning is an error.
build_for_tests() {
	local out=$REPO/build/$1/$2 words
	mkdir -p "$out"
	exec 6>"$out/.lock"
	flock 6
	mapfile -t words < <(kernel_make "$1")
	"$REPO/scripts/in-root" -- make -C "$(kdir "$1")" "${words[@]}" "M=$REPO/tests/$2" "MO=$out" modules >"$out/build.log" 2>&1 || {
		sed "s|$REPO/||g" "$out/build.log" >&2
		die "tests/$2 for $1 did not build"
	}
	! grep -E '(warning|error):' "$out/build.log" >&2 || die "tests/$2 for $1 builds with warnings"
}

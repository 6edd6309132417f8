# SPDX-License-Identifier: GPL-2.0
#
# What people type. The module itself is described in Kbuild, which the kernel's make reads.

KDIR ?= /lib/modules/$(shell uname -r)/build
KERNEL ?= uml
LEVEL ?= 5

.PHONY: all help setup module demo test test-emulated test-faults test-powercut test-mdadm bench bench-growth bench-instructions bench-parity lint guest clean
all: ## build/RELEASE/raid456.ko for the prepared kernel tree KDIR=... (default: the running kernel's)
	@scripts/build-here "$(KDIR)"

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r target text; do \
		[ "$$target" != all ] || target=; printf 'make %-18s %s\n' "$$target" "$$text"; done
	@echo
	@echo 'One test, one kernel, one command: see scripts/test --help, scripts/build-module, scripts/guest --help.'

setup: ## the build root and the kernels in ~/.cache/raid456-rs (RAID456_CACHE=...)
	@scripts/setup

module: ## raid456.ko for a guest's kernel, KERNEL=uml|debian|debug (default: uml)
	@scripts/setup $(KERNEL)
	@scripts/build-module $(KERNEL)

demo: ## a RAID array in a guest, LEVEL=5|6: files on it, one or two members lost, rebuilt, checked, over to C and back
	@$(MAKE) --no-print-directory module KERNEL=uml
	@scripts/demo --level $(LEVEL)

test: ## all tests; LIST=1 lists them, ONLY=REGEX runs some, JOBS=N at a time; LEAST=1: guests', with the least memory; ON=debug: those of User-mode Linux on another kernel; MORE=1: also where tests take long or add little
	@scripts/test $(if $(LIST),--list) $(if $(LEAST),--least) $(if $(ON),--on $(ON)) $(if $(MORE),--more) $(if $(ONLY),--only '$(value ONLY)') $(if $(JOBS),--jobs $(JOBS))

test-faults: ## random schedules of faults, N=1000 of them, from SEED=1 on; each is a seed
	@scripts/torture faults -n $(or $(N),1000) --first $(or $(SEED),1)

test-powercut: ## power cuts, 8 for each seed, N=250 seeds from SEED=1 on
	@scripts/torture powercut -n $(or $(N),250) --first $(or $(SEED),1)

test-mdadm: ## mdadm's own test suite under both drivers, in two columns
	@scripts/setup uml
	@scripts/build-module --quiet uml
	@scripts/test-mdadm

test-emulated: ## the host's tests of all parity engines on a CPU that bochs emulates, with AVX-512 and GFNI; ONLY=FILTER, MODULE=1: the module instead
	@scripts/test-engines-emulated $(if $(MODULE),--module) $(if $(ONLY),'$(value ONLY)')

bench: ## arrays under this driver and the kernel's in turn, with raid0 beside: a table and pictures; QUICK=1, ROWS=REGEX
	@scripts/bench $(if $(QUICK),--quick) $(if $(ROWS),--rows '$(value ROWS)')

bench-growth: ## throughput against I/Os in flight, jobs, members and chunk, both drivers: pictures of curves, cliffs named
	@scripts/bench --growth $(if $(ROWS),--rows '$(value ROWS)')

bench-instructions: ## instructions per I/O on Debian's kernel, both drivers; ROWS=REGEX, PROFILE=N: and where they are
	@scripts/bench-instructions $(if $(ROWS),--rows '$(value ROWS)') $(if $(PROFILE),--profile $(PROFILE))

bench-parity: ## the parity engines against the kernel's lib/raid on this CPU: a table and a picture in build/bench
	@scripts/bench-parity

lint: ## rustfmt, clippy, what lanes may reach, rustdoc, checkpatch, shellcheck, pyflakes
	@scripts/lint

guest: ## a shell in a guest with four disks; KERNEL=uml|debian|debug
	@$(MAKE) --no-print-directory module KERNEL=$(KERNEL)
	@scripts/guest --kernel $(KERNEL) --disks 4 --disk-size 128

clean: ## remove what was built here (the cache stays)
	rm -rf build tests/host/target bench/target

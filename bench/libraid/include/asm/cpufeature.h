/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stands for the kernel's header of this name. What the kernel does at boot is compiled, and never called: the
 * benchmark itself looks what the CPU has.
 */
#ifndef BENCH_CPUFEATURE_H
#define BENCH_CPUFEATURE_H

#define __always_inline inline __attribute__((always_inline))
#define boot_cpu_has(feature) 0
#define IS_ENABLED(option) 0

#endif

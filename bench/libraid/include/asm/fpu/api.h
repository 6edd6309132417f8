/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stands for the kernel's header of this name. A program's vector registers are its own, so nothing is saved.
 *
 * The end clears the registers' upper halves, as the compilers' own code in the program expects it: otherwise whatever
 * uses SSE next would be slow, and be blamed for it. It takes a nanosecond.
 */
#ifndef BENCH_FPU_API_H
#define BENCH_FPU_API_H

static inline void kernel_fpu_begin(void)
{
}

static inline void kernel_fpu_end(void)
{
	asm volatile("vzeroupper" : : : "memory");
}

#endif

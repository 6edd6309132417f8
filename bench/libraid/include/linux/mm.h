/* SPDX-License-Identifier: GPL-2.0 */
/* Stands for the kernel's header of this name: the page of zeros is all that recovery wants of it. */
#ifndef BENCH_MM_H
#define BENCH_MM_H

#include <linux/types.h>

extern u8 bench_zero_page[4096];

#define ZERO_PAGE(vaddr) bench_zero_page
#define page_address(page) ((void *)(page))

#endif

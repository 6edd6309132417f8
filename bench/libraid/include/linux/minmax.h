/* SPDX-License-Identifier: GPL-2.0 */
/* Stands for the kernel's header of this name, for arguments without side effects. */
#ifndef BENCH_MINMAX_H
#define BENCH_MINMAX_H

#define min(a, b) ((a) < (b) ? (a) : (b))

#endif

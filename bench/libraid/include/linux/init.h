/* SPDX-License-Identifier: GPL-2.0 */
/* Stands for the kernel's header of this name: a program has no sections that go away. */
#ifndef BENCH_INIT_H
#define BENCH_INIT_H

#define __init

#endif

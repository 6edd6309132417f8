/* SPDX-License-Identifier: GPL-2.0 */
/* Stands for the kernel's header of this name: a program has no symbols to export to modules. */
#ifndef BENCH_EXPORT_H
#define BENCH_EXPORT_H

#define EXPORT_SYMBOL(name)

#endif

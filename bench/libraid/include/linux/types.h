/* SPDX-License-Identifier: GPL-2.0 */
/* Stands for the kernel's header of this name when lib/raid is compiled as a part of an ordinary program. */
#ifndef BENCH_TYPES_H
#define BENCH_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define __aligned(x) __attribute__((aligned(x)))

#endif

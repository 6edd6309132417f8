// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's lib/raid as a shared library: its variants by number, for the benchmark.
 *
 * Compiled together with the kernel's own files, which scripts/bench-parity takes from the kernel's source. A variant
 * may only be called on a CPU that has what its name says.
 */
#include <linux/types.h>
#include <linux/raid/pq.h>
#include <linux/raid/xor.h>
#include "raid6/algos.h"
#include "xor/xor_impl.h"

u8 bench_zero_page[4096] __aligned(4096);

extern const struct raid6_calls raid6_avx2x1, raid6_avx2x2, raid6_avx2x4;
extern const struct raid6_calls raid6_avx512x1, raid6_avx512x2, raid6_avx512x4;
extern const struct raid6_recov_calls raid6_recov_avx2, raid6_recov_avx512;
extern struct xor_block_template xor_block_avx;

static const struct {
	const struct raid6_calls *calls;
	const struct raid6_recov_calls *recov;
} variants[] = {
	{ &raid6_avx2x1, &raid6_recov_avx2 },
	{ &raid6_avx2x2, &raid6_recov_avx2 },
	{ &raid6_avx2x4, &raid6_recov_avx2 },
	{ &raid6_avx512x1, &raid6_recov_avx512 },
	{ &raid6_avx512x2, &raid6_recov_avx512 },
	{ &raid6_avx512x4, &raid6_recov_avx512 },
};

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

/* The variant whose gen_syndrome() recovery calls. */
static const struct raid6_calls *chosen = &raid6_avx2x1;

void raid6_gen_syndrome(int disks, size_t bytes, void **ptrs)
{
	chosen->gen_syndrome(disks, bytes, ptrs);
}

/* The variant's name, "avx2x1" for example; NULL behind the last one. */
const char *libraid_name(unsigned int variant)
{
	return variant < VARIANTS ? variants[variant].calls->name : NULL;
}

void libraid_gen(unsigned int variant, int disks, size_t bytes, void **ptrs)
{
	variants[variant].calls->gen_syndrome(disks, bytes, ptrs);
}

void libraid_delta(unsigned int variant, int disks, int slot, size_t bytes, void **ptrs)
{
	variants[variant].calls->xor_syndrome(disks, slot, slot, bytes, ptrs);
}

void libraid_recover_two(unsigned int variant, int disks, size_t bytes, int a, int b, void **ptrs)
{
	chosen = variants[variant].calls;
	variants[variant].recov->data2(disks, bytes, a, b, ptrs);
}

void libraid_recover_data_p(unsigned int variant, int disks, size_t bytes, int a, void **ptrs)
{
	chosen = variants[variant].calls;
	variants[variant].recov->datap(disks, bytes, a, ptrs);
}

void libraid_xor(void *dest, void **srcs, unsigned int count, unsigned int bytes)
{
	xor_block_avx.xor_gen(dest, srcs, count, bytes);
}

/* What the kernel's memcpy() and memset() are on a CPU with fast short string operations. */
void libraid_copy(void *to, const void *from, size_t bytes)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

void libraid_zero(void *to, size_t bytes)
{
	asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
}

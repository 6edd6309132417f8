// SPDX-License-Identifier: GPL-2.0
/*
 * The field of 256 elements with polynomial 0x11d, multiplied out bit by bit once: so that the tests have
 * arithmetic that shares nothing with the driver's, nor with lib/raid's.
 */
#include <linux/types.h>

#include "dma.h"

static u8 products[256][256];

static u8 product(u8 a, u8 b)
{
	unsigned int sum = 0, bit;

	for (bit = 0; bit < 8; bit++)
		if (b & (1 << bit))
			sum ^= (unsigned int)a << bit;
	for (bit = 14; bit >= 8; bit--)
		if (sum & (1 << bit))
			sum ^= 0x11d << (bit - 8);
	return sum;
}

void field_init(void)
{
	unsigned int a, b;

	for (a = 0; a < 256; a++)
		for (b = 0; b < 256; b++)
			products[a][b] = product(a, b);
}

void field_add(u8 *to, const u8 *from, size_t len)
{
	size_t i;

	for (i = 0; i + 8 <= len; i += 8)
		*(u64 *)(to + i) ^= *(const u64 *)(from + i);
	for (; i < len; i++)
		to[i] ^= from[i];
}

void field_add_multiple(u8 *to, const u8 *from, u8 factor, size_t len)
{
	const u8 *row = products[factor];
	size_t i;

	for (i = 0; i < len; i++)
		to[i] ^= row[from[i]];
}

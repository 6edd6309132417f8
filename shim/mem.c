// SPDX-License-Identifier: GPL-2.0
/*
 * Pages and pools. A page is known by its address: the pages allocated here always have one.
 */
#include <linux/gfp.h>
#include <linux/mempool.h>
#include <linux/sched/mm.h>

#include "shim.h"

static gfp_t raid456_gfp(enum raid456_wait wait)
{
	switch (wait) {
	case RAID456_SETUP:
		return GFP_KERNEL;
	case RAID456_MAY_BLOCK:
		return GFP_NOIO;
	default:
		return GFP_NOWAIT | __GFP_NOWARN;
	}
}

void *raid456_page_alloc(enum raid456_wait wait)
{
	return (void *)__get_free_page(raid456_gfp(wait));
}

void raid456_page_free(void *page)
{
	put_page(virt_to_page(page));
}

/* May sleep. */
mempool_t *raid456_mempool_create(int min, size_t size)
{
	return mempool_create_kmalloc_pool(min, size);
}

void *raid456_mempool_alloc(mempool_t *pool, bool may_block)
{
	return mempool_alloc(pool, raid456_gfp(may_block ? RAID456_MAY_BLOCK : RAID456_NO_WAIT));
}

unsigned int raid456_noio_save(void)
{
	return memalloc_noio_save();
}

void raid456_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

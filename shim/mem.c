// SPDX-License-Identifier: GPL-2.0
/*
 * Pages and pools. A page is known by its address: the pages allocated here always have one.
 */
#include <linux/gfp.h>
#include <linux/mempool.h>

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

/*
 * The users of a page are counted in its private word: the owner and bios that only read it as one each, bios that
 * change it (reads from a member) as CHANGER. The last one frees it.
 */
#define CHANGER 0x10000L

static atomic_long_t *raid456_page_users(struct page *page)
{
	static_assert(sizeof(page->private) == sizeof(atomic_long_t));
	return (atomic_long_t *)&page->private;
}

static void raid456_page_drop(struct page *page, long users)
{
	if (atomic_long_sub_and_test(users, raid456_page_users(page)))
		put_page(page);
}

/* The caller is the only user of a new page. */
void *raid456_page_alloc(enum raid456_wait wait)
{
	void *page = (void *)__get_free_page(raid456_gfp(wait));

	if (page)
		atomic_long_set(raid456_page_users(virt_to_page(page)), 1);
	return page;
}

/* Counts a bio as a user of a page that the caller is a user of. */
void raid456_page_hold(void *page, bool to_change)
{
	atomic_long_add(to_change ? CHANGER : 1, raid456_page_users(virt_to_page(page)));
}

/* The bio has ended. */
void raid456_page_unhold(void *page, bool to_change)
{
	raid456_page_drop(virt_to_page(page), to_change ? CHANGER : 1);
}

/* The owner is not a user any more. */
void raid456_page_put(void *page)
{
	raid456_page_drop(virt_to_page(page), 1);
}

/* Whether no bio changes the page; what those that have ended have written is seen then. For its owner. */
bool raid456_page_may_view(void *page)
{
	return atomic_long_read_acquire(raid456_page_users(virt_to_page(page))) < CHANGER;
}

/* Whether the owner is the only user. */
bool raid456_page_may_change(void *page)
{
	return atomic_long_read_acquire(raid456_page_users(virt_to_page(page))) == 1;
}

/* May sleep. */
mempool_t *raid456_mempool_create(int min, size_t size)
{
	return mempool_create_kmalloc_pool(min, size);
}

/* For when there is no free memory: what must not block looks only at what was set aside. */
void *raid456_mempool_alloc(mempool_t *pool, bool may_block)
{
	return may_block ? mempool_alloc(pool, raid456_gfp(RAID456_MAY_BLOCK)) : mempool_alloc_preallocated(pool);
}

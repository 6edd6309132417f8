// SPDX-License-Identifier: GPL-2.0
/*
 * Pages and pools. A page is known by its address: the pages allocated here always have one.
 */
#include <linux/gfp.h>
#include <linux/mempool.h>
#include <linux/moduleparam.h>
#include <linux/sched/mm.h>
#include <linux/shrinker.h>
#include <linux/slab.h>

#include "shim.h"

/*
 * The users of a page are counted in its private word: the owner and bios that only read it as one each, bios that
 * change it (reads from a member) as CHANGER. The last one frees it.
 */
#define CHANGER 0x10000L

/* Pages that were allocated here and have not come back. They are taken for long, so the count is in nobody's way. */
static atomic_long_t raid456_pages = ATOMIC_LONG_INIT(0);

static atomic_long_t *raid456_page_users(struct page *page)
{
	static_assert(sizeof(page->private) == sizeof(atomic_long_t));
	return (atomic_long_t *)&page->private;
}

static void raid456_page_drop(struct page *page, long users)
{
	if (atomic_long_sub_and_test(users, raid456_page_users(page))) {
		put_page(page);
		atomic_long_dec(&raid456_pages);
	}
}

/* The caller is the only user of a new page. */
static void *raid456_page_own(unsigned long page)
{
	if (page) {
		atomic_long_set(raid456_page_users(virt_to_page((void *)page)), 1);
		atomic_long_inc(&raid456_pages);
	}
	return (void *)page;
}

/* May sleep. */
void *raid456_page_alloc(void)
{
	return raid456_page_own(__get_free_page(GFP_KERNEL));
}

/* If there is one at once. */
void *raid456_page_take(void)
{
	return raid456_page_own(__get_free_page(GFP_NOWAIT | __GFP_NOWARN));
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

/* The module goes: by now every page has come back. (kmemleak, which sees all else, does not look after pages.) */
void raid456_pages_are_back(void)
{
	long pages = atomic_long_read(&raid456_pages);

	WARN(pages, "raid456: %ld pages were lost\n", pages);
}

static bool least_memory;
module_param(least_memory, bool, 0644);
MODULE_PARM_DESC(least_memory, "For tests: arrays that are started get the least memory that they can work with, and are slow");

bool raid456_least_memory(void)
{
	return READ_ONCE(least_memory);
}

/* Fills a pool when it is made. After that there is nothing but what it has. */
static void *raid456_mempool_fill(gfp_t gfp, void *size)
{
	return gfp & __GFP_FS ? kmalloc((size_t)size, gfp) : NULL;
}

/* May sleep. */
mempool_t *raid456_mempool_create(int min, size_t size)
{
	if (raid456_least_memory())
		return mempool_create(1, raid456_mempool_fill, mempool_kfree, (void *)size);
	return mempool_create_kmalloc_pool(min, size);
}

/* What gives memory back. */
struct raid456_shrinker {
	struct shrinker *shrinker;
	unsigned long (*count)(void *of);
	unsigned long (*shrink)(void *of, unsigned long most);
	void *of;
};

static unsigned long raid456_shrinker_count(struct shrinker *shrinker, struct shrink_control *control)
{
	struct raid456_shrinker *own = shrinker->private_data;

	return own->count(own->of) ?: SHRINK_EMPTY;
}

static unsigned long raid456_shrinker_scan(struct shrinker *shrinker, struct shrink_control *control)
{
	struct raid456_shrinker *own = shrinker->private_data;

	return own->shrink(own->of, control->nr_to_scan) ?: SHRINK_STOP;
}

/* The two are called where memory is short: they must not sleep or allocate. May sleep itself; NULL without memory. */
struct raid456_shrinker *raid456_shrinker_new(unsigned long (*count)(void *of),
					      unsigned long (*shrink)(void *of, unsigned long most), void *of)
{
	struct raid456_shrinker *own = kzalloc(sizeof(*own), GFP_KERNEL);

	if (!own)
		return NULL;
	own->shrinker = shrinker_alloc(0, "raid456");
	if (!own->shrinker) {
		kfree(own);
		return NULL;
	}
	own->count = count;
	own->shrink = shrink;
	own->of = of;
	own->shrinker->count_objects = raid456_shrinker_count;
	own->shrinker->scan_objects = raid456_shrinker_scan;
	own->shrinker->private_data = own;
	shrinker_register(own->shrinker);
	return own;
}

/* Waits until nobody is at it, and returns what it was for. Sleeps. */
void *raid456_shrinker_free(struct raid456_shrinker *own)
{
	void *of = own->of;

	shrinker_free(own->shrinker);
	kfree(own);
	return of;
}

/* Memory for kfree(). May sleep. */
void *raid456_alloc(size_t size)
{
	return kmalloc(size, GFP_KERNEL);
}

/* The same, if there is some at once. */
void *raid456_take(size_t size)
{
	return kmalloc(size, GFP_NOWAIT | __GFP_NOWARN);
}

/* For when there is no free memory: looks only at what was set aside. */
void *raid456_mempool_take(mempool_t *pool)
{
	return mempool_alloc_preallocated(pool);
}

/* The same, but waits until there is some. May sleep. */
void *raid456_mempool_wait_take(mempool_t *pool)
{
	return mempool_alloc(pool, GFP_NOIO);
}

/* Allocations of this task start no I/O until the counterpart, which gets what this returns. */
unsigned int raid456_noio_save(void)
{
	return memalloc_noio_save();
}

void raid456_noio_restore(unsigned int before)
{
	memalloc_noio_restore(before);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * md core: what drivers/md/md.h has as macros and inline functions, bits of its flag words, and members.
 */
#include <linux/badblocks.h>
#include <linux/blkdev.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/seqlock.h>

#include "md.h"
#include "md-bitmap.h"
#include "shim.h"

/* MAX_SECTOR in src/md/mddev.rs. */
static_assert(MaxSector == U64_MAX);

/* Threads */

/*
 * For the array's thread, without which no failure is recorded: who frees memory by writing to the array may wait for
 * that. So md core, which asks for some where a member comes or a rebuild begins, gets it from the kernel's reserves
 * here, and waits for none.
 */
void raid456_check_recovery(struct mddev *mddev)
{
	unsigned int before = memalloc_noreclaim_save();

	md_check_recovery(mddev);
	memalloc_noreclaim_restore(before);
}

/* The array's own thread may be gone already: then nothing is woken. */
void raid456_wake_thread(struct mddev *mddev)
{
	/*
	 * md core says so to the thread by a bit that it sets without any order. So what the caller did is made
	 * visible first: a thread that takes the bit back, passes a full barrier, and looks, finds what it is woken
	 * for.
	 */
	smp_mb__before_atomic();
	md_wakeup_thread(mddev->thread);
}

/* What is there was registered, or is NULL; it is freed a grace period after it was made NULL. */
void raid456_wake_thread_at(struct md_thread **thread)
{
	/* As above. */
	smp_mb__before_atomic();
	md_wakeup_thread((struct md_thread __rcu *)READ_ONCE(*thread));
}

void raid456_set_thread(struct mddev *mddev, struct md_thread *thread)
{
	rcu_assign_pointer(mddev->thread, thread);
}

/* The array */

bool raid456_is_dm(struct mddev *mddev)
{
	return mddev_is_dm(mddev);
}

/* Whether md core lets no request in. */
bool raid456_is_suspended(struct mddev *mddev)
{
	return percpu_ref_is_dying(&mddev->active_io);
}

/* Whether somebody holds reconfig_mutex. If not, what was done under it is seen from here on. */
bool raid456_is_locked(struct mddev *mddev)
{
	bool locked = mutex_is_locked(&mddev->reconfig_mutex);

	/* What the caller reads next is not older than what was said of the mutex. */
	smp_mb();
	return locked;
}

/* Whether the caller is the array's sync thread. */
bool raid456_is_sync_thread(struct mddev *mddev)
{
	struct md_thread *thread;
	bool is;

	rcu_read_lock();
	thread = rcu_dereference(mddev->sync_thread);
	is = thread && thread->tsk == current;
	rcu_read_unlock();
	return is;
}

const char *raid456_mdname(struct mddev *mddev)
{
	return mdname(mddev);
}

/* Sleeps, interruptibly. */
int raid456_mddev_lock(struct mddev *mddev)
{
	return mddev_lock(mddev);
}

void raid456_mddev_unlock(struct mddev *mddev)
{
	mddev_unlock(mddev);
}

/* Sleeps, interruptibly. */
int raid456_suspend_and_lock(struct mddev *mddev)
{
	return mddev_suspend_and_lock(mddev);
}

void raid456_unlock_and_resume(struct mddev *mddev)
{
	mddev_unlock_and_resume(mddev);
}

/* The spinlock that keeps mddev->pers and ->private; not for interrupt context. */
void raid456_lock_state(struct mddev *mddev)
{
	spin_lock(&mddev->lock);
}

void raid456_unlock_state(struct mddev *mddev)
{
	spin_unlock(&mddev->lock);
}

void raid456_set_bit(unsigned int nr, unsigned long *word)
{
	set_bit(nr, word);
}

bool raid456_test_and_set_bit(unsigned int nr, unsigned long *word)
{
	return test_and_set_bit(nr, word);
}

bool raid456_test_and_clear_bit(unsigned int nr, unsigned long *word)
{
	return test_and_clear_bit(nr, word);
}

/* Sets all bits of mask at once. */
void raid456_set_mask(unsigned long *word, unsigned long mask)
{
	set_mask_bits(word, 0, mask);
}

void raid456_add_mismatches(struct mddev *mddev, s64 sectors)
{
	atomic64_add(sectors, &mddev->resync_mismatches);
}

bool raid456_bitmap_enabled(struct mddev *mddev)
{
	return md_bitmap_enabled(mddev, false);
}

bool raid456_bitmap_is_lockless(struct mddev *mddev)
{
	return mddev->bitmap_id == ID_LLBITMAP;
}

/*
 * The sectors of a member that each state of the lockless bitmap is about, a power of two; 0 without one. That is md
 * core's secret, but it tells when it is to end a sync; and where there is no state it does nothing else.
 */
sector_t raid456_lockless_chunk(struct mddev *mddev)
{
	const sector_t behind_all = 1ULL << 62;
	sector_t chunk = 0;

	/* Its number is a long. */
	static_assert(sizeof(long) == sizeof(sector_t));
	if (raid456_bitmap_is_lockless(mddev) && md_bitmap_enabled(mddev, false))
		md_bitmap_end_sync(mddev, behind_all, &chunk);
	return is_power_of_2(chunk) ? chunk : 0;
}

bool raid456_bitmap_start_sync(struct mddev *mddev, sector_t offset, sector_t *sectors, bool degraded)
{
	return md_bitmap_start_sync(mddev, offset, sectors, degraded);
}

void raid456_bitmap_end_sync(struct mddev *mddev, sector_t offset, sector_t *sectors)
{
	md_bitmap_end_sync(mddev, offset, sectors);
}

void raid456_bitmap_cond_end_sync(struct mddev *mddev, sector_t sector, bool force)
{
	if (md_bitmap_enabled(mddev, false))
		mddev->bitmap_ops->cond_end_sync(mddev, sector, force);
}

void raid456_bitmap_close_sync(struct mddev *mddev)
{
	if (md_bitmap_enabled(mddev, false))
		mddev->bitmap_ops->close_sync(mddev);
}

/* Only a lockless bitmap knows. */
bool raid456_bitmap_synced(struct mddev *mddev, sector_t offset)
{
	return !md_bitmap_enabled(mddev, false) || !mddev->bitmap_ops->blocks_synced ||
	       mddev->bitmap_ops->blocks_synced(mddev, offset);
}

/* Sleeps. The caller keeps the bitmap: it holds reconfig_mutex, or as below; and is the only one who flushes. */
void raid456_bitmap_flush(struct mddev *mddev)
{
	if (md_bitmap_enabled(mddev, true))
		mddev->bitmap_ops->unplug(mddev, true);
}

/* The reference keeps the bitmap: whoever takes it away waits until there is none. */
void raid456_bitmap_unplug(struct mddev *mddev)
{
	if (!percpu_ref_tryget(&mddev->active_io))
		return;
	raid456_bitmap_flush(mddev);
	percpu_ref_put(&mddev->active_io);
}

/* The classic bitmap, and how sectors of members become numbers of its chunks; NULL if there is none. */
const void *raid456_classic_bitmap(struct mddev *mddev, unsigned int *shift)
{
	unsigned long chunk = READ_ONCE(mddev->bitmap_info.chunksize) >> SECTOR_SHIFT;

	if (mddev->bitmap_id != ID_BITMAP || !is_power_of_2(chunk))
		return NULL;
	*shift = ilog2(chunk);
	return READ_ONCE(mddev->bitmap);
}

/*
 * Has states of the lockless bitmap that say that parity is right say that it is to be made. The others stay what
 * they are: nothing was written there, or it is to be made already.
 */
static void raid456_lockless_mark(struct mddev *mddev, sector_t chunk, sector_t begin, sector_t end)
{
	const struct bitmap_operations *ops = mddev->bitmap_ops;
	sector_t at;

	for (at = round_down(begin, chunk); at < end; at += chunk) {
		unsigned long state = at >> ilog2(chunk);

		if (!ops->blocks_synced(mddev, at))
			continue;
		/* The one way there: as if it had been discarded, and is written for the first time. */
		ops->start_discard(mddev, at, chunk);
		ops->end_discard(mddev, at, chunk);
		ops->dirty_bits(mddev, state, state);
	}
}

/*
 * Says that what members have from begin to end is to be synced, in a bitmap that is large enough: in memory, and
 * by bits that are to be flushed. May lower resync_offset to where the first chunk begins. Sleeps, and may wait for
 * memory; the caller holds reconfig_mutex, and with a lockless bitmap lets no request in.
 */
void raid456_bitmap_mark(struct mddev *mddev, sector_t begin, sector_t end)
{
	sector_t chunk = raid456_lockless_chunk(mddev);
	unsigned int shift;

	if (begin >= end)
		return;
	if (chunk)
		raid456_lockless_mark(mddev, chunk, begin, end);
	else if (raid456_classic_bitmap(mddev, &shift))
		mddev->bitmap_ops->dirty_bits(mddev, begin >> shift, (end - 1) >> shift);
}

/*
 * Which of the superblock's events was the last one when a write ended with no member missing; false without a
 * classic bitmap.
 */
static bool raid456_bitmap_events_cleared(struct mddev *mddev, u64 *events)
{
	struct md_bitmap_stats stats;

	if (mddev->bitmap_id != ID_BITMAP || !md_bitmap_enabled(mddev, false) ||
	    mddev->bitmap_ops->get_stats(mddev->bitmap, &stats))
		return false;
	*events = stats.events_cleared;
	return true;
}

/*
 * Has a classic bitmap take note that no member is missing: those that were away lack what its bits are cleared
 * for. It does so when a write ends, and this is one, of nothing, in the last chunk. Returns whether that is so;
 * then a bit may have to be flushed. If more writes to that chunk are under way than its counter counts, 16383, it
 * waits until one ends, as others do. May sleep; the caller holds reconfig_mutex.
 */
bool raid456_bitmap_is_whole(struct mddev *mddev)
{
	sector_t last = mddev->dev_sectors - 1;
	u64 cleared;

	if (mddev->degraded || !md_is_rdwr(mddev) || !raid456_bitmap_events_cleared(mddev, &cleared))
		return false;
	if (cleared < mddev->events) {
		mddev->bitmap_ops->start_write(mddev, last, 1);
		mddev->bitmap_ops->end_write(mddev, last, 1);
	}
	return true;
}

/*
 * Has a classic bitmap forget what was to be synced; it is known to be there. Should a member fail meanwhile, what
 * is to be synced for that one is not told from the rest, and nothing is forgotten. May sleep; the caller holds
 * reconfig_mutex, and no sync is under way.
 */
void raid456_bitmap_all_synced(struct mddev *mddev)
{
	const struct bitmap_operations *ops = mddev->bitmap_ops;
	sector_t at, sectors;

	for (at = 0; at < mddev->resync_max_sectors; at += sectors) {
		ops->start_sync(mddev, at, &sectors, false);
		cond_resched();
	}
	/* A write that has ended without some member by now found it counted as missing, under the lock taken above. */
	if (!READ_ONCE(mddev->degraded)) {
		ops->close_sync(mddev);
		return;
	}
	for (at = 0; at < mddev->resync_max_sectors; at += sectors)
		ops->end_sync(mddev, at, &sectors);
}

/*
 * Whether the lockless bitmap has room for the states of so many sectors. md core does not ask: it would look for
 * them behind the pages that it has, or take those that are there for states of longer chunks.
 */
static bool raid456_lockless_has_room(struct mddev *mddev, sector_t sectors)
{
	/* The states come behind this in the first page: BITMAP_DATA_OFFSET in md-llbitmap.c. */
	const u64 head = 1024;
	u64 states = DIV_ROUND_UP_ULL(sectors, raid456_lockless_chunk(mddev) ?: 1);
	struct md_bitmap_stats stats;

	if (mddev->bitmap_ops->get_stats(mddev->bitmap, &stats))
		return false;
	return states + head <= (u64)stats.pages * PAGE_SIZE &&
	       states <= (u64)mddev->bitmap_info.space << SECTOR_SHIFT;
}

int raid456_bitmap_resize(struct mddev *mddev, sector_t sectors)
{
	if (!md_bitmap_enabled(mddev, false))
		return 0;
	if (raid456_bitmap_is_lockless(mddev) && !raid456_lockless_has_room(mddev, sectors))
		return -ENOSPC;
	return mddev->bitmap_ops->resize(mddev, sectors, 0);
}

/* The superblock */

/*
 * As md_allow_write(), up to where that waits: it marks the array active, where it was not, and says whether the
 * superblock is to be written for it, or for a member that has failed, or for a resync that has ended. What is asked
 * for at any time can be done by nobody while the caller holds reconfig_mutex, so waiting for it may never end.
 */
bool raid456_mark_active(struct mddev *mddev)
{
	bool was_clean;

	/*
	 * Of external metadata whoever writes it is asked by the first write, and answers without the mutex. A failure
	 * he records with it, so that must not be waited for.
	 */
	if (!mddev->pers || !md_is_rdwr(mddev) || mddev->external)
		return false;
	spin_lock(&mddev->lock);
	was_clean = mddev->in_sync;
	if (was_clean) {
		/* In this order: who finds the array active waits while the flag is set. */
		set_mask_bits(&mddev->sb_flags, 0, BIT(MD_SB_CHANGE_CLEAN) | BIT(MD_SB_CHANGE_PENDING));
		WRITE_ONCE(mddev->in_sync, 0);
		if (mddev->safemode_delay && !mddev->safemode)
			mddev->safemode = 1;
	}
	spin_unlock(&mddev->lock);
	if (was_clean)
		sysfs_notify_dirent_safe(mddev->sysfs_state);
	return test_bit(MD_SB_CHANGE_PENDING, &mddev->sb_flags);
}

/* Queue limits */

/*
 * Whether a device forgets every run of unit bytes at a multiple of it in its data, with no remainder at the ends
 * that it might keep.
 */
bool raid456_rdev_can_discard(struct md_rdev *rdev, unsigned int unit)
{
	unsigned int granularity = max(bdev_discard_granularity(rdev->bdev), SECTOR_SIZE);
	unsigned int begin = bdev_limits(rdev->bdev)->discard_alignment % granularity;
	u64 start = (get_start_sect(rdev->bdev) + rdev->data_offset) << SECTOR_SHIFT;

	return bdev_max_discard_sectors(rdev->bdev) && unit % granularity == 0 && do_div(start, granularity) == begin;
}

/* Whether all members do that. The caller holds reconfig_mutex. */
bool raid456_members_can_discard(struct mddev *mddev, unsigned int unit)
{
	struct md_rdev *rdev;

	rdev_for_each(rdev, mddev)
		if (!test_bit(Faulty, &rdev->flags) && !raid456_rdev_can_discard(rdev, unit))
			return false;
	return true;
}

/* As mddev_stack_rdev_limits(), for where the members' data is after a reshape. The caller holds reconfig_mutex. */
void raid456_stack_new_offsets(struct mddev *mddev, struct queue_limits *limits)
{
	struct md_rdev *rdev;

	rdev_for_each(rdev, mddev)
		queue_limits_stack_bdev(limits, rdev->bdev, rdev->new_data_offset, mddev->gendisk->disk_name);
}

/*
 * For whoever lets no request in, so it waits for nobody: who changes another limit through sysfs holds this lock, and
 * waits until nobody is in the queue, where requests wait to be let in. -EBUSY if somebody has it. May sleep.
 */
int raid456_set_stable_writes(struct request_queue *queue, bool stable)
{
	struct queue_limits limits;

	if (!mutex_trylock(&queue->limits_lock))
		return -EBUSY;
	/* As queue_limits_start_update(). */
	limits = queue->limits;
	if (stable)
		limits.features |= BLK_FEAT_STABLE_WRITES;
	else
		limits.features &= ~BLK_FEAT_STABLE_WRITES;
	return queue_limits_commit_update(queue, &limits);
}

/* Sysfs */

/*
 * Adds attributes to those of the array. If they are about to be removed, they are still there and stay. May sleep;
 * the caller holds reconfig_mutex.
 */
int raid456_sysfs_add(struct mddev *mddev, const struct attribute_group *group)
{
	if (mddev->to_remove == group) {
		mddev->to_remove = NULL;
		return 0;
	}
	return mddev->kobj.sd ? sysfs_create_group(&mddev->kobj, group) : 0;
}

/* Members */

/*
 * The member in a slot, counted as pending, unless it is missing or faulty.
 *
 * A slot is emptied before its member may go, and the remover looks at the count only after a grace period: so either
 * it sees our count, or we see here that the slot has changed.
 */
struct md_rdev *raid456_rdev_get(struct md_rdev **slot)
{
	struct md_rdev *rdev;

	rcu_read_lock();
	rdev = READ_ONCE(*slot);
	if (rdev && test_bit(Faulty, &rdev->flags))
		rdev = NULL;
	if (rdev) {
		atomic_inc(&rdev->nr_pending);
		/* The count is visible before the slot is looked at again. */
		smp_mb__after_atomic();
		if (READ_ONCE(*slot) != rdev) {
			rdev_dec_pending(rdev, rdev->mddev);
			rdev = NULL;
		}
	}
	rcu_read_unlock();
	return rdev;
}

/* Counts once more a member that the caller has counted. */
void raid456_rdev_hold(struct md_rdev *rdev)
{
	atomic_inc(&rdev->nr_pending);
}

/*
 * Who lets go last of a member that has failed wakes the array's thread after that. Who frees the array waits for the
 * count, and for read sections that have begun by then.
 */
void raid456_rdev_put(struct md_rdev *rdev)
{
	rcu_read_lock();
	rdev_dec_pending(rdev, rdev->mddev);
	rcu_read_unlock();
}

int raid456_rdev_pending(struct md_rdev *rdev)
{
	/* What came before, such as emptying the slot, is visible first. */
	smp_mb();
	return atomic_read(&rdev->nr_pending);
}

bool raid456_rdev_blocked(struct md_rdev *rdev)
{
	return rdev_blocked(rdev);
}

int raid456_rdev_badblocks(struct md_rdev *rdev, sector_t sector, sector_t sectors, sector_t *first, sector_t *count)
{
	return is_badblock(rdev, sector, sectors, first, count);
}

/*
 * Whether some bad block is not acknowledged, of the whole device. badblocks_check() cannot say: it counts sectors in
 * an int, and of a longer range it never finds the end.
 */
bool raid456_rdev_has_unrecorded(struct md_rdev *rdev)
{
	struct badblocks *list = &rdev->badblocks;
	unsigned int seq;
	bool found;
	int i;

	do {
		seq = read_seqbegin(&list->lock);
		found = false;
		for (i = 0; i < list->count; i++)
			found |= !BB_ACK(list->page[i]);
	} while (read_seqretry(&list->lock, seq));
	return found;
}

/* Adds to the number of read errors in a row, and returns it. */
int raid456_rdev_read_errors(struct md_rdev *rdev, int add)
{
	return atomic_add_return(add, &rdev->read_errors);
}

int raid456_rdev_count_read_errors(struct md_rdev *rdev)
{
	return atomic_read(&rdev->read_errors);
}

void raid456_rdev_reset_read_errors(struct md_rdev *rdev)
{
	atomic_set(&rdev->read_errors, 0);
}

/* Halves the number of read errors once for each hour since the last one, as md's raid1 and raid10 do. */
void raid456_rdev_decay_read_errors(struct md_rdev *rdev)
{
	time64_t now = ktime_get_seconds();
	time64_t last = xchg(&rdev->last_read_error, now);
	s64 hours = last ? div_s64(now - last, 3600) : 0;

	if (hours > 0)
		atomic_set(&rdev->read_errors, hours < 31 ? atomic_read(&rdev->read_errors) >> hours : 0);
}

void raid456_rdev_add_corrected(struct md_rdev *rdev, int sectors)
{
	atomic_add(sectors, &rdev->corrected_errors);
}

void raid456_rdev_notify_state(struct md_rdev *rdev)
{
	sysfs_notify_dirent_safe(rdev->sysfs_state);
}

void raid456_rdev_name(struct md_rdev *rdev, char *buf, size_t size)
{
	snprintf(buf, size, "%pg", rdev->bdev);
}

/* The member after rdev in the array's list, or the first. The caller holds reconfig_mutex. */
struct md_rdev *raid456_rdev_next(struct mddev *mddev, struct md_rdev *rdev)
{
	struct list_head *next = rdev ? rdev->same_set.next : mddev->disks.next;

	return next == &mddev->disks ? NULL : list_entry(next, struct md_rdev, same_set);
}

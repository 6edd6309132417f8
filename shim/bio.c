// SPDX-License-Identifier: GPL-2.0
/*
 * User bios, direct reads, and the bios that go to members.
 *
 * A request is a bio as md core hands it over. Once accounted, md core's clone of it stands for it: a *slice* is a
 * reference to that clone (of its bi_remaining count, and for writes of writes_pending) with an iterator over a part of
 * it. Every slice ends once.
 */
#include <linux/bio.h>
#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "md.h"
#include "shim.h"

/* Requests */

enum raid456_op raid456_bio_op(struct bio *bio)
{
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		return RAID456_OP_READ;
	case REQ_OP_WRITE:
		return RAID456_OP_WRITE;
	case REQ_OP_DISCARD:
		return RAID456_OP_DISCARD;
	default:
		return RAID456_OP_OTHER;
	}
}

bool raid456_bio_is_write(struct bio *bio)
{
	return bio_data_dir(bio) == WRITE;
}

/* Ends a request that was not accounted. */
void raid456_request_end(struct mddev *mddev, struct bio *bio, bool writing, blk_status_t status)
{
	if (writing)
		md_write_end(mddev);
	bio->bi_status = status;
	bio_endio(bio);
}

/*
 * Whether somebody may be about to say that the array is not clean. For the first write md core sets in_sync to 0 and
 * then MD_SB_CHANGE_PENDING, both under mddev->lock: between the two only the lock tells that the superblock still says
 * "clean". The caller has seen in_sync at 0, and looks at MD_SB_CHANGE_PENDING afterwards.
 */
static bool state_may_change(struct mddev *mddev)
{
	/* Who sees what was stored under the lock sees the lock. */
	if (IS_ENABLED(CONFIG_X86_64))
		return spin_is_locked(&mddev->lock);

	/* Elsewhere he may see that later. It is never held for long. */
	spin_lock(&mddev->lock);
	spin_unlock(&mddev->lock);
	return false;
}

/*
 * Counts a write as md_write_start() does if that would not sleep: the superblock says that the array is not clean, and
 * nobody waits until it is written. Else counts nothing, and returns false.
 */
bool raid456_request_try_write(struct mddev *mddev)
{
	bool must_wait;

	if (!md_is_rdwr(mddev))
		return false;
	percpu_ref_get(&mddev->writes_pending);
	/*
	 * Who is about to say that the array is clean raises sync_checkers, looks at writes_pending, sets in_sync and
	 * then lowers sync_checkers. Either it sees our count, or we see one of the two.
	 */
	smp_mb();
	must_wait = READ_ONCE(mddev->sync_checkers);
	/* In the reverse order of set_in_sync(). */
	smp_rmb();
	must_wait |= READ_ONCE(mddev->in_sync);
	if (!must_wait && test_bit(MD_HAS_SUPERBLOCK, &mddev->flags)) {
		/* in_sync is set to 0 with the lock held, */
		smp_rmb();
		must_wait = state_may_change(mddev);
		/* and the other is set before that is let go. */
		smp_rmb();
		must_wait |= test_bit(MD_SB_CHANGE_PENDING, &mddev->sb_flags);
	}
	if (must_wait)
		md_write_end(mddev);
	return !must_wait;
}

/* May sleep. The writes_pending count of the request, if it has one, becomes the slice's. */
void raid456_request_account(struct mddev *mddev, struct bio *bio, struct raid456_slice *slice)
{
	md_account_bio(mddev, &bio);
	slice->bio = bio;
	slice->iter = bio->bi_iter;
}

/* As raid456_request_account(), for some of the request's sectors; with the others nothing is done. */
void raid456_request_account_part(struct mddev *mddev, struct bio *bio, sector_t sector, unsigned int sectors,
				  struct raid456_slice *slice)
{
	struct bvec_iter iter = bio->bi_iter;
	struct bio *clone = bio;

	/* md core and the bitmap hear of the part alone. */
	bio->bi_iter.bi_sector = sector;
	bio->bi_iter.bi_size = sectors << SECTOR_SHIFT;
	md_account_bio(mddev, &clone);
	bio->bi_iter = iter;
	slice->bio = clone;
	slice->iter = clone->bi_iter;
}

/* The end of a clone that raid456_request_try_account() made. */
static void raid456_clone_end(struct bio *bio)
{
	struct md_io_clone *clone = container_of(bio, struct md_io_clone, bio_clone);
	struct mddev *mddev = clone->mddev;
	struct bio *orig = clone->orig_bio;

	if (bio->bi_status && !orig->bi_status)
		orig->bi_status = bio->bi_status;
	if (clone->start_time)
		bio_end_io_acct(orig, clone->start_time);
	bio_put(bio);
	bio_endio(orig);
	percpu_ref_put(&mddev->active_io);
}

/*
 * As raid456_request_account(), without sleeping: returns false, and does nothing, if there is no memory at once, or if
 * the bitmap has to take note of the request, which may sleep in ways that cannot be foreseen from here.
 */
bool raid456_request_try_account(struct mddev *mddev, struct bio *bio, struct raid456_slice *slice)
{
	struct md_io_clone *clone;
	struct bio *copy;

	if (bio_data_dir(bio) == WRITE && raid456_bitmap_enabled(mddev))
		return false;
	copy = bio_alloc_clone(bio->bi_bdev, bio, GFP_NOWAIT, &mddev->io_clone_set);
	if (!copy)
		return false;

	/* The array stays while the request is under way, as md core does it. */
	percpu_ref_get(&mddev->active_io);
	clone = container_of(copy, struct md_io_clone, bio_clone);
	clone->mddev = mddev;
	clone->orig_bio = bio;
	clone->start_time = blk_queue_io_stat(bio->bi_bdev->bd_disk->queue) ? bio_start_io_acct(bio) : 0;
	copy->bi_end_io = raid456_clone_end;
	copy->bi_private = NULL;

	slice->bio = copy;
	slice->iter = copy->bi_iter;
	return true;
}

/* Slices */

/* The array that a slice is a request to. */
struct mddev *raid456_slice_mddev(struct bio *bio)
{
	return container_of(bio, struct md_io_clone, bio_clone)->mddev;
}

/* Counts one more slice of a bio; among the array's pending writes too if the others are. */
void raid456_slice_hold(struct bio *bio, bool counted)
{
	bio_inc_remaining(bio);
	if (counted)
		md_write_inc(raid456_slice_mddev(bio), bio);
}

/* Cuts the first sectors off a slice, which must have more than these. */
void raid456_slice_split(struct raid456_slice *slice, unsigned int sectors, bool counted, struct raid456_slice *front)
{
	unsigned int bytes = sectors << SECTOR_SHIFT;

	raid456_slice_hold(slice->bio, counted);
	front->bio = slice->bio;
	front->iter = slice->iter;
	front->iter.bi_size = bytes;
	bio_advance_iter(slice->bio, &slice->iter, bytes);
}

void raid456_slice_end(struct bio *bio, bool counted)
{
	if (counted)
		md_write_end(raid456_slice_mddev(bio));
	bio_endio(bio);
}

/*
 * Copies len bytes of pages, from byte `at` on, counted from the start of the first and on through the next, to a
 * slice, from byte offset on. The caller has checked that the slice and the pages are long enough.
 */
void raid456_slice_copy(const struct raid456_slice *slice, unsigned int offset, unsigned int len,
			const void *const *pages, unsigned int at)
{
	struct bvec_iter iter = slice->iter;
	struct bio_vec bv;

	pages += at / PAGE_SIZE;
	at %= PAGE_SIZE;
	bio_advance_iter(slice->bio, &iter, offset);
	iter.bi_size = len;
	__bio_for_each_segment(bv, slice->bio, iter, iter) {
		char *user = bvec_kmap_local(&bv);
		char *to = user;
		unsigned int left = bv.bv_len;

		while (left) {
			unsigned int n = min_t(unsigned int, left, PAGE_SIZE - at);

			memcpy(to, *pages + at, n);
			to += n;
			left -= n;
			at += n;
			if (at == PAGE_SIZE) {
				at = 0;
				pages++;
			}
		}
		flush_dcache_page(bv.bv_page);
		kunmap_local(user);
	}
}

/* Where a slice's bytes from offset on lie; the caller has checked that it has so many. */
void raid456_slice_seek(const struct raid456_slice *slice, unsigned int offset, unsigned int len,
			struct bvec_iter *iter)
{
	*iter = slice->iter;
	bio_advance_iter(slice->bio, iter, offset);
	iter->bi_size = len;
}

/* Pages of requests have addresses of their own. */
static_assert(!IS_ENABLED(CONFIG_HIGHMEM));

/* The address and length of what lies together at iter, which has bytes left and moves behind them. */
const void *raid456_slice_segment(const struct raid456_slice *slice, struct bvec_iter *iter, unsigned int *len)
{
	struct bio_vec bv = mp_bvec_iter_bvec(slice->bio->bi_io_vec, *iter);

	bio_advance_iter_single(slice->bio, iter, bv.bv_len);
	*len = bv.bv_len;
	return bvec_virt(&bv);
}

/* Direct reads */

/*
 * A direct read sends md core's clone itself to a member. What has to be known when it ends is kept where md core keeps
 * the bitmap's range of a write, which a read does not have; the owner is in bi_private.
 */
static_assert(sizeof_field(struct md_io_clone, offset) >= sizeof(bio_end_io_t *));
static_assert(sizeof_field(struct md_io_clone, sectors) >= sizeof(struct md_rdev *));

/* Whether this is a read, covers its request, and no other slice of the request is left. */
bool raid456_slice_is_whole(const struct raid456_slice *slice)
{
	struct bio *bio = slice->bio;

	return bio_op(bio) == REQ_OP_READ && !bio_flagged(bio, BIO_CHAIN) &&
	       slice->iter.bi_size == bio->bi_iter.bi_size;
}

void raid456_direct_submit(struct bio *bio, struct md_rdev *rdev, sector_t sector, bio_end_io_t *end_io, void *owner)
{
	struct md_io_clone *clone = container_of(bio, struct md_io_clone, bio_clone);

	clone->offset = (sector_t)(unsigned long)bio->bi_end_io;
	clone->sectors = (unsigned long)rdev;
	bio->bi_end_io = end_io;
	bio->bi_private = owner;
	/* A member that came later than the queue's limits may not know the flag. */
	if (!bdev_nowait(rdev->bdev))
		bio->bi_opf &= ~REQ_NOWAIT;
	bio->bi_iter.bi_sector = sector + rdev->data_offset;
	bio_set_dev(bio, rdev->bdev);
	mddev_trace_remap(clone->mddev, bio, clone->orig_bio->bi_iter.bi_sector);
	submit_bio_noacct(bio);
}

/* Makes the clone again what md core made it, and a slice of it; returns how the read ended. */
blk_status_t raid456_direct_finish(struct bio *bio, struct md_rdev **rdev, void **owner, struct raid456_slice *slice)
{
	struct md_io_clone *clone = container_of(bio, struct md_io_clone, bio_clone);
	struct bio *orig = clone->orig_bio;
	blk_status_t status = bio->bi_status;

	*rdev = (struct md_rdev *)clone->sectors;
	*owner = bio->bi_private;

	bio->bi_end_io = (bio_end_io_t *)(unsigned long)clone->offset;
	bio->bi_private = NULL;
	bio->bi_next = NULL;
	bio->bi_status = BLK_STS_OK;
	bio->bi_iter = orig->bi_iter;
	/* Lower levels may have split the bio, and throttled or counted it. */
	bio->bi_flags &= ~(BIT(BIO_QUIET) | BIT(BIO_CHAIN) | BIT(BIO_BPS_THROTTLED) | BIT(BIO_TRACE_COMPLETION) |
			   BIT(BIO_QOS_THROTTLED) | BIT(BIO_QOS_MERGED) | BIT(BIO_REMAPPED));
	atomic_set(&bio->__bi_remaining, 1);
	bio->bi_bdev = orig->bi_bdev;

	slice->bio = bio;
	slice->iter = bio->bi_iter;
	return status;
}

/* Bios of members */

/*
 * Submits a run of whole pages, or a discard. The bio and its vectors are not in use; the pages are held while it is
 * under way.
 *
 * The bio is charged to the root cgroup: a span serves many, and one group's limit must not hold it.
 */
void raid456_member_submit(const struct raid456_member_io *io)
{
	enum req_op op = io->write ? REQ_OP_WRITE : REQ_OP_READ;
	struct bio *bio = io->bio;
	unsigned short i;

	if (!io->count)
		op = REQ_OP_DISCARD;
	bio_init(bio, NULL, io->count ? io->vecs : NULL, io->count, op | io->flags);
	bio->bi_bdev = io->rdev->bdev;
	bio_associate_blkg_from_css(bio, blkcg_root_css);
	bio->bi_iter.bi_sector = io->sector + io->rdev->data_offset;
	for (i = 0; i < io->count; i++) {
		raid456_page_hold(io->pages[i], !io->write);
		__bio_add_page(bio, virt_to_page(io->pages[i]), PAGE_SIZE, 0);
	}
	if (!io->count)
		bio->bi_iter.bi_size = io->sectors << SECTOR_SHIFT;
	bio->bi_end_io = io->end_io;
	mddev_trace_remap(io->rdev->mddev, bio, io->origin);
	submit_bio_noacct(bio);
}

/* Takes back what raid456_member_submit() took, when the bio has ended; returns how it ended. */
blk_status_t raid456_member_finish(struct bio *bio)
{
	unsigned short i;

	for (i = 0; i < bio->bi_vcnt; i++)
		raid456_page_unhold(bvec_virt(&bio->bi_io_vec[i]), !op_is_write(bio_op(bio)));
	bio_uninit(bio);
	return bio->bi_status;
}

/* Where code runs */

/*
 * Whether the end of a bio of this device may go on with the work at once: it ended in the context that submitted it,
 * in a task, and what is submitted now is only queued. See "Where a span may run" in Documentation/architecture.md.
 */
bool raid456_may_run_inline(struct block_device *bdev)
{
	return bdev_synchronous(bdev) && in_task() && !softirq_count() && !irqs_disabled() && current->bio_list;
}

/* Whether the device ends bios before submit_bio() returns, as RAM disks do. */
bool raid456_is_synchronous(struct block_device *bdev)
{
	return bdev_synchronous(bdev);
}

/* Whether a CPU may read what is written to the device at once: a RAM disk does, and a device upon others may. */
bool raid456_is_copied(struct block_device *bdev)
{
	return bdev_synchronous(bdev) || !queue_is_mq(bdev_get_queue(bdev));
}

bool raid456_has_plug(void)
{
	return current->plug;
}

/*
 * Puts a callback that is being called, and not by schedule(), on the task's plug again: who flushes that looks until
 * there is none left. Returns whether there is a plug.
 */
bool raid456_plug_again(struct blk_plug_cb *cb)
{
	struct blk_plug *plug = current->plug;

	if (plug)
		list_add(&cb->list, &plug->cb_list);
	return plug;
}

unsigned int raid456_cpu(void)
{
	return raw_smp_processor_id();
}

unsigned int raid456_online_cpus(void)
{
	return num_online_cpus();
}

u64 raid456_jiffies(void)
{
	return get_jiffies_64();
}

void raid456_cond_resched(void)
{
	cond_resched();
}

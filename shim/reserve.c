// SPDX-License-Identifier: GPL-2.0
/*
 * Bios that an array keeps for itself: for parts of requests that are cut, and for flushes of the members' caches.
 *
 * Below submit_bio() a bio for a member only queues until make_request returns. So whoever waits there for memory
 * that comes back when others' bios end must not have any of the same reserve already, or two who each have a part of
 * it wait for each other. Hence:
 *
 * - Requests are not cut with the disk's own bio_split: the block layer may have taken one of it for this very request.
 * - A flush takes its bios all or none: only one takes bios at a time, from a reserve that has enough for one, and none
 *   goes out before it has them all.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "md.h"
#include "shim.h"

struct raid456_reserve {
	struct bio_set cuts;
	struct bio_set flushes;
	/* Held while a flush takes its bios. */
	struct mutex taking;
	/* Flushes and cut off parts that have not ended, and one for the owner. */
	atomic_t users;
};

/* The part of a request that was cut off. */
struct cut {
	struct raid456_reserve *reserve;
	/* Last: this is a bio_set's front padding. */
	struct bio bio;
};

/* A member's flush. The first one of all keeps the count, and goes last. */
struct raid456_member_flush {
	struct raid456_member_flush *first;
	/* NULL when the flush has ended well. */
	struct md_rdev *rdev;
	/* Its place among those that have failed. */
	struct llist_node node;
	/* Of the first: */
	struct llist_head failed;
	atomic_t left;
	struct raid456_reserve *reserve;
	struct mddev *mddev;
	void (*end)(void *private, struct raid456_member_flush *failed);
	void *private;
	/* Last: this is a bio_set's front padding. */
	struct bio bio;
};

/* For arrays that never have more than so many devices in use. May sleep; NULL without memory. */
struct raid456_reserve *raid456_reserve_new(unsigned int devices)
{
	struct raid456_reserve *reserve = kzalloc(sizeof(*reserve), GFP_KERNEL);

	if (!reserve)
		return NULL;
	if (bioset_init(&reserve->cuts, raid456_least_memory() ? 1 : BIO_POOL_SIZE, offsetof(struct cut, bio), 0))
		goto no_cuts;
	if (bioset_init(&reserve->flushes, devices, offsetof(struct raid456_member_flush, bio), 0))
		goto no_flushes;
	mutex_init(&reserve->taking);
	atomic_set(&reserve->users, 1);
	return reserve;

no_flushes:
	bioset_exit(&reserve->cuts);
no_cuts:
	kfree(reserve);
	return NULL;
}

static void reserve_put(struct raid456_reserve *reserve)
{
	/* Who waits may free it as soon as he sees 0; the address is all that is used then. */
	if (atomic_dec_and_test(&reserve->users))
		wake_up_var(&reserve->users);
}

/* Waits for the end of what is under way. Sleeps. */
void raid456_reserve_free(struct raid456_reserve *reserve)
{
	reserve_put(reserve);
	wait_var_event(&reserve->users, !atomic_read(&reserve->users));
	bioset_exit(&reserve->flushes);
	bioset_exit(&reserve->cuts);
	kfree(reserve);
}

/* As a chained bio ends, whose parent is what is left of the request. */
static void cut_end(struct bio *bio)
{
	struct raid456_reserve *reserve = container_of(bio, struct cut, bio)->reserve;
	struct bio *parent = bio->bi_private;

	if (bio->bi_status && !parent->bi_status)
		parent->bi_status = bio->bi_status;
	bio_put(bio);
	bio_endio(parent);
	reserve_put(reserve);
}

/*
 * Cuts a request after some of its sectors and submits the rest again. Returns the front part; NULL if that could not
 * be done, and then the request has ended. May sleep, for memory that parts cut off before have.
 */
struct bio *raid456_request_cut(struct raid456_reserve *reserve, struct bio *bio, unsigned int sectors)
{
	struct bio *front = bio_submit_split_bioset(bio, sectors, &reserve->cuts);

	/* What is not cut is no bio of ours. */
	if (front && front != bio) {
		atomic_inc(&reserve->users);
		container_of(front, struct cut, bio)->reserve = reserve;
		front->bi_end_io = cut_end;
	}
	return front;
}

static struct raid456_member_flush *failed_flush(struct llist_node *node)
{
	return node ? llist_entry(node, struct raid456_member_flush, node) : NULL;
}

static void flush_put(struct raid456_member_flush *first)
{
	struct raid456_reserve *reserve = first->reserve;
	struct mddev *mddev = first->mddev;
	void (*end)(void *private, struct raid456_member_flush *failed) = first->end;
	void *private = first->private;
	struct raid456_member_flush *failed;

	if (!atomic_dec_and_test(&first->left))
		return;
	failed = failed_flush(llist_del_all(&first->failed));
	/* If it has failed, it goes with those. */
	if (!first->rdev)
		bio_put(&first->bio);
	end(private, failed);
	/* The array goes after the reserve. */
	percpu_ref_put(&mddev->active_io);
	reserve_put(reserve);
}

static void member_flush_end(struct bio *bio)
{
	struct raid456_member_flush *flush = container_of(bio, struct raid456_member_flush, bio);
	struct raid456_member_flush *first = flush->first;

	if (bio->bi_status)
		pr_err("md: %pg flush io error %d\n", bio->bi_bdev, blk_status_to_errno(bio->bi_status));
	/*
	 * Who does not know the command holds nothing back. BLK_STS_TARGET is no such word: a SCSI disk's "hardware
	 * error" is one as well. Who rejects flushes though he has announced a cache fails as soon as md core writes
	 * its superblock.
	 */
	if (bio->bi_status && bio->bi_status != BLK_STS_NOTSUPP) {
		/* Kept until all have ended: what becomes of it depends on how many there are. */
		llist_add(&flush->node, &first->failed);
	} else {
		rdev_dec_pending(flush->rdev, flush->rdev->mddev);
		flush->rdev = NULL;
		if (flush != first)
			bio_put(bio);
	}
	flush_put(first);
}

/* The member whose flush has failed; it is counted as pending. */
struct md_rdev *raid456_flush_rdev(struct raid456_member_flush *failed)
{
	return failed->rdev;
}

/* The next one that has failed, or NULL. */
struct raid456_member_flush *raid456_flush_next(struct raid456_member_flush *failed)
{
	return failed_flush(failed->node.next);
}

/* Lets go of members whose flushes have failed: of this one and those after it. */
void raid456_flush_release(struct raid456_member_flush *failed)
{
	while (failed) {
		struct raid456_member_flush *next = raid456_flush_next(failed);

		rdev_dec_pending(failed->rdev, failed->rdev->mddev);
		bio_put(&failed->bio);
		failed = next;
	}
}

/*
 * Has the members flush their caches and calls end(private, failed), in any context, when that has ended. Those whose
 * flush has failed are kept until raid456_flush_release(), which end() sees to; failed is NULL if there are none. The
 * caller keeps the array from being suspended during the call, and it is not before the end either. May sleep, for
 * memory that others' flushes have; below submit_bio() the flushes go out when that returns.
 *
 * Members are found in md core's list, not in their slots: who takes one out of its slot meanwhile may have looked
 * whether it is pending before that is counted here. It stays in the list, and open, until the array is suspended.
 */
void raid456_flush(struct raid456_reserve *reserve, struct mddev *mddev,
		   void (*end)(void *private, struct raid456_member_flush *failed), void *private)
{
	struct bio_list bios = BIO_EMPTY_LIST;
	struct raid456_member_flush *first = NULL;
	struct md_rdev *rdev;
	struct bio *bio;

	atomic_inc(&reserve->users);
	mutex_lock(&reserve->taking);
	rdev_for_each(rdev, mddev) {
		struct raid456_member_flush *flush;

		if (rdev->raid_disk < 0 || test_bit(Faulty, &rdev->flags))
			continue;
		bio = bio_alloc_bioset(rdev->bdev, 0, REQ_OP_WRITE | REQ_PREFLUSH, GFP_NOIO, &reserve->flushes);
		bio->bi_end_io = member_flush_end;
		flush = container_of(bio, struct raid456_member_flush, bio);
		if (!first) {
			first = flush;
			/* One for us, so that it stays until all have been submitted. */
			atomic_set(&first->left, 1);
			init_llist_head(&first->failed);
			first->reserve = reserve;
			first->mddev = mddev;
			percpu_ref_get(&mddev->active_io);
			first->end = end;
			first->private = private;
		}
		flush->first = first;
		atomic_inc(&first->left);
		flush->rdev = rdev;
		atomic_inc(&rdev->nr_pending);
		bio_list_add(&bios, bio);
	}
	mutex_unlock(&reserve->taking);

	if (!first) {
		end(private, NULL);
		reserve_put(reserve);
		return;
	}
	while ((bio = bio_list_pop(&bios)))
		submit_bio(bio);
	flush_put(first);
}

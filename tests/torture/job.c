// SPDX-License-Identifier: GPL-2.0
/*
 * One job: a thread that keeps bios in flight, many or few, of all sizes and places, and compares what it reads with what
 * the model says.
 *
 * Addresses change their manner now and then: anywhere, within a few rows (where I/Os meet), one after the other, whole
 * chunks, whole stripes, strips.
 */

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "check.h"

#define PAGES (MAX_IO_SECTORS / PAGE_SECTORS + 1)

struct slot {
	struct bio bio;
	struct llist_node node;
	struct job *job;
	struct bio_vec *vecs;
	struct page *pages[PAGES];
	struct allowed *allowed;
	u32 sector, count;
	u32 begun;		/* by the model's clock */
	u32 shift;		/* where in the first page the data begins */
	u64 begin_ns;
	bool busy;
};

enum mode { ANYWHERE, NEAR, SEQUENCE, CHUNKS, STRIPES, STRIPS, MODES };

static u32 below(struct job *job, u32 limit)
{
	u64 x = job->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	job->random = x;
	return mul_u64_u32_shr(x * 0x2545F4914F6CDD1Dull >> 32, limit, 32);
}

static bool percent(struct job *job, u32 chance)
{
	return below(job, 100) < chance;
}

static u32 some_length(struct job *job)
{
	switch (below(job, 8)) {
	case 0:
		return 1;
	case 1:
		return 1 + below(job, 8);
	case 2:
	case 3:
		return 8;
	case 4:
		return 8 * (1 + below(job, 8));
	case 5:
		return shape.chunk;
	case 6:
		return 1 + below(job, 64);
	default:
		return 1 + below(job, job->load->longest);
	}
}

/* Chooses the slot's sectors. */
static void choose(struct job *job, struct slot *slot)
{
	u32 stripe = shape.chunk * shape.data, align = shape.block >> SECTOR_SHIFT, near = min(4 * stripe, shape.sectors);
	u32 sector, count = some_length(job);

	if (!job->turns--) {
		job->mode = below(job, MODES);
		job->turns = 20 + below(job, 300);
		job->base = below(job, shape.sectors - near + 1) / stripe * stripe;
	}
	switch (job->mode) {
	case NEAR:
		sector = job->base + below(job, near);
		break;
	case SEQUENCE:
		sector = job->next;
		break;
	case CHUNKS:
		count = shape.chunk;
		sector = round_down(below(job, shape.sectors), shape.chunk);
		break;
	case STRIPES:
		count = stripe * (1 + below(job, 2));
		sector = below(job, shape.sectors) / stripe * stripe;
		break;
	case STRIPS:
		count = 8;
		sector = round_down(below(job, shape.sectors), 8);
		break;
	default:
		sector = below(job, shape.sectors);
	}
	sector = round_down(sector, align);
	count = min(round_up(count, align), round_down(job->load->longest, align));
	slot->sector = sector;
	slot->count = min(count, shape.sectors - sector);
	job->next = slot->sector + slot->count < shape.sectors ? slot->sector + slot->count : 0;
}

static u8 *byte_of(struct slot *slot, u32 offset)
{
	offset += slot->shift;
	return page_address(slot->pages[offset / PAGE_SIZE]) + offset % PAGE_SIZE;
}

static void end_io(struct bio *bio)
{
	struct slot *slot = bio->bi_private;
	struct job *job = slot->job;

	/* What was not done because it would have had to wait, or was optional, is no error. */
	if (((bio->bi_opf & REQ_NOWAIT || bio_op(bio) == REQ_OP_DISCARD) && bio->bi_status == BLK_STS_NOTSUPP) ||
	    (bio->bi_opf & REQ_RAHEAD && bio->bi_status))
		bio->bi_status = BLK_STS_AGAIN;
	if (!slot->count)
		model_flush_end(slot->begun, bio->bi_status);
	else if (op_is_write(bio_op(bio)))
		model_write_end(slot->sector, slot->count, slot->begun, bio->bi_status);
	else if (bio->bi_status)
		model_read_failed(slot->sector, slot->count, slot->begun, bio->bi_status);
	/* The thread may be gone after the last of these: what it had is freed after a grace period. */
	rcu_read_lock();
	llist_add(&slot->node, &job->done);
	atomic_dec(&job->in_flight);
	wake_up_process(job->task);
	rcu_read_unlock();
}

static void submit(struct job *job, struct slot *slot, blk_opf_t opf)
{
	u32 left = slot->count << SECTOR_SHIFT, offset = 0, i;

	slot->busy = true;
	slot->begin_ns = ktime_get_ns();
	bio_init(&slot->bio, job->load->bdev, slot->vecs, PAGES, opf);
	slot->bio.bi_iter.bi_sector = slot->sector;
	slot->bio.bi_private = slot;
	slot->bio.bi_end_io = end_io;
	if (bio_op(&slot->bio) == REQ_OP_DISCARD) {
		slot->bio.bi_iter.bi_size = left;
		left = 0;
	}
	for (i = 0, offset = slot->shift; left; i++, offset = 0) {
		u32 length = min_t(u32, left, PAGE_SIZE - offset);

		__bio_add_page(&slot->bio, slot->pages[i], length, offset);
		left -= length;
	}
	atomic_inc(&job->in_flight);
	submit_bio(&slot->bio);
}

static void submit_flush(struct job *job, struct slot *slot)
{
	slot->sector = 0;
	slot->count = 0;
	slot->begun = model_flush_begin();
	submit(job, slot, REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC);
}

static void submit_read(struct job *job, struct slot *slot, blk_opf_t flags)
{
	job->reads++;
	slot->begun = model_read_begin(slot->sector, slot->count, slot->allowed);
	submit(job, slot, REQ_OP_READ | flags);
}

/* False if the model has no room for one more write there. */
static bool submit_write(struct job *job, struct slot *slot, blk_opf_t flags)
{
	u32 i;

	if (!model_write_begin(slot->sector, slot->count, flags & REQ_FUA, false, &slot->begun))
		return false;
	job->writes++;
	for (i = 0; i < slot->count; i++)
		model_fill(byte_of(slot, i << SECTOR_SHIFT), slot->sector + i, slot->begun);
	submit(job, slot, REQ_OP_WRITE | flags);
	return true;
}

/* The same, of whole stripes. */
static bool submit_discard(struct job *job, struct slot *slot)
{
	u32 stripe = shape.chunk * shape.data, first = slot->sector / stripe;

	slot->sector = first * stripe;
	slot->count = min(stripe * (1 + below(job, 3)), shape.sectors - slot->sector);
	if (!model_write_begin(slot->sector, slot->count, false, true, &slot->begun))
		return false;
	job->writes++;
	submit(job, slot, REQ_OP_DISCARD | REQ_SYNC);
	return true;
}

/* One I/O of a mixed load. */
static void one_of_many(struct job *job, struct slot *slot)
{
	const struct load *load = job->load;
	blk_opf_t flags = percent(job, load->nowait) ? REQ_NOWAIT : 0;

	if (below(job, 1000) < load->flush) {
		submit_flush(job, slot);
		return;
	}
	choose(job, slot);
	slot->shift = below(job, 3) ? 0 : round_down(below(job, 8) << SECTOR_SHIFT, shape.block) % PAGE_SIZE;
	if (percent(job, load->reads)) {
		submit_read(job, slot, flags | (percent(job, 2) ? REQ_RAHEAD : 0));
		return;
	}
	if (percent(job, load->discards)) {
		if (!submit_discard(job, slot))
			submit_flush(job, slot);
		return;
	}
	if (percent(job, 70))
		flags |= REQ_SYNC | REQ_IDLE;
	if (percent(job, load->fua))
		flags |= REQ_FUA;
	/* In a volatile cache there may be too much that can come back. */
	if (!submit_write(job, slot, flags))
		submit_flush(job, slot);
}

/* The next I/O of a load that goes over everything once; false at the end of the job's share. */
static bool next_of_all(struct job *job, struct slot *slot)
{
	u32 align = PAGE_SECTORS, share = round_up(shape.sectors / job->load->jobs + 1, align);
	u32 end = min(shape.sectors, (job->number + 1) * share);

	if (job->next >= end)
		return false;
	slot->sector = job->next;
	slot->shift = 0;
	slot->count = min3(job->load->longest, round_up(1 + below(job, job->load->longest), align), end - job->next);
	if (job->load->kind == JOB_VERIFY)
		submit_read(job, slot, 0);
	else if (!submit_write(job, slot, REQ_SYNC))
		return true;
	job->next += slot->count;
	return true;
}

static void check(struct job *job, struct slot *slot)
{
	u32 i;

	if (slot->bio.bi_status)
		job->errors++;
	else if (slot->count && !op_is_write(bio_op(&slot->bio)))
		for (i = 0; i < slot->count; i++)
			model_verify(byte_of(slot, i << SECTOR_SHIFT), slot->sector + i, slot->begun, &slot->allowed[i]);
	bio_uninit(&slot->bio);
	slot->busy = false;
}

/* Waits until no more than so many are in flight, and looks at all that have ended. */
static void reap(struct job *job, u32 most)
{
	struct llist_node *done;
	struct slot *slot, *next;

	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		if (atomic_read(&job->in_flight) <= (int)most)
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	done = llist_del_all(&job->done);
	llist_for_each_entry_safe(slot, next, done, node)
		check(job, slot);
}

static struct slot *idle_slot(struct job *job)
{
	u32 i;

	for (i = 0; i < job->load->depth; i++)
		if (!job->slots[i].busy)
			return &job->slots[i];
	return NULL;
}

/* A round of a load that goes over everything; false at its end. */
static bool round_of_all(struct job *job)
{
	struct slot *slot;
	u32 before;

	while ((slot = idle_slot(job))) {
		before = job->next;
		if (!next_of_all(job, slot))
			return false;
		if (job->next == before) {
			/* The model has no room: what is in flight ends, and a flush makes it durable. */
			reap(job, 0);
			submit_flush(job, slot);
			reap(job, 0);
		}
	}
	reap(job, job->load->depth - 1);
	return true;
}

static void round_of_many(struct job *job)
{
	u32 depth = job->load->depth, wanted = 1 + below(job, depth);
	bool plugged = below(job, 2);
	struct blk_plug plug;
	struct slot *slot;

	if (plugged)
		blk_start_plug(&plug);
	while (wanted-- && (slot = idle_slot(job)))
		one_of_many(job, slot);
	if (plugged)
		blk_finish_plug(&plug);
	reap(job, below(job, 8) ? below(job, depth) : 0);
	if (below(job, 1000) < job->load->pause) {
		reap(job, 0);
		msleep(1 + below(job, below(job, 4) ? 10 : 60));
	}
}

int job_thread(void *data)
{
	struct job *job = data;

	while (!READ_ONCE(job->load->stop)) {
		if (job->load->kind == JOB_MIX)
			round_of_many(job);
		else if (!round_of_all(job))
			break;
		cond_resched();
	}
	reap(job, 0);
	complete(&job->ended);

	/* The caller stops the thread. */
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

int job_init(struct job *job, struct load *load, u32 number)
{
	u32 i, k;

	*job = (struct job){ .load = load, .number = number };
	job->random = (load->seed + number + 1) * 0x9e3779b97f4a7c15ull;
	job->next = load->kind == JOB_MIX ? below(job, shape.sectors) :
		    number * round_up(shape.sectors / load->jobs + 1, PAGE_SECTORS);
	init_llist_head(&job->done);
	atomic_set(&job->in_flight, 0);
	init_completion(&job->ended);
	job->slots = kvcalloc(load->depth, sizeof(*job->slots), GFP_KERNEL);
	if (!job->slots)
		return -ENOMEM;
	for (i = 0; i < load->depth; i++) {
		struct slot *slot = &job->slots[i];

		slot->job = job;
		slot->vecs = kcalloc(PAGES, sizeof(*slot->vecs), GFP_KERNEL);
		slot->allowed = vcalloc(load->longest, sizeof(*slot->allowed));
		if (!slot->vecs || !slot->allowed)
			return -ENOMEM;
		for (k = 0; k <= (load->longest - 1) / PAGE_SECTORS + 1; k++) {
			slot->pages[k] = alloc_page(GFP_KERNEL);
			if (!slot->pages[k])
				return -ENOMEM;
		}
	}
	return 0;
}

void job_free(struct job *job)
{
	u32 i, k;

	for (i = 0; job->slots && i < job->load->depth; i++) {
		struct slot *slot = &job->slots[i];

		for (k = 0; k < PAGES; k++)
			if (slot->pages[k])
				__free_page(slot->pages[k]);
		kfree(slot->vecs);
		vfree(slot->allowed);
	}
	kvfree(job->slots);
}

/* How many are in flight. */
u32 job_pending(struct job *job)
{
	return atomic_read(&job->in_flight);
}

/* Tells of what does not end. */
void job_show_pending(struct job *job)
{
	u64 now = ktime_get_ns();
	u32 i;

	for (i = 0; i < job->load->depth; i++) {
		const struct slot *slot = &job->slots[i];

		if (slot->busy && now - slot->begin_ns > 5 * NSEC_PER_SEC)
			model_complain(slot->sector, "sectors %u +%u: a %s does not end, %llu ms so far\n", slot->sector,
				       slot->count, !slot->count ? "flush" : op_is_write(bio_op(&slot->bio)) ? "write" : "read",
				       div_u64(now - slot->begin_ns, NSEC_PER_MSEC));
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * One job of the load generator: a thread that keeps `depth` bios in flight.
 *
 * A completion puts its slot on a list and wakes the thread, no more: a device that completes in submit_bio() does not
 * make it recurse, and all counting is the thread's own. The thread takes all that is on the list, counts it, and
 * submits as many again in one plug: the batches that an io_uring submitter makes.
 *
 * Each slot writes the same pseudo-random bytes every time, others than its fellows; what is read goes to the same
 * pages.
 */

#include <linux/bio.h>
#include <linux/kthread.h>
#include <linux/llist.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "load.h"

struct load_slot {
	struct bio bio;
	struct llist_node node;
	struct load_job *job;
	struct bio_vec *vecs;
	u32 pages;
	u64 begin_ns;
	u64 end_ns;
};

static u64 next_random(u64 *state)
{
	u64 x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545F4914F6CDD1Dull;
}

/* Buckets of one unit up to 2^(SHIFT + 1), and 2^SHIFT of them for each octave above. */
static u32 bucket_of(u64 ns)
{
	u32 octave = ns >> (HISTOGRAM_SHIFT + 1) ? fls64(ns) - 1 - HISTOGRAM_SHIFT : 0;

	return min_t(u64, (octave << HISTOGRAM_SHIFT) + (ns >> octave), HISTOGRAM_BUCKETS - 1);
}

/* The middle of a bucket. */
u64 load_bucket_ns(u32 bucket)
{
	u32 octave = bucket >> (HISTOGRAM_SHIFT + 1) ? (bucket >> HISTOGRAM_SHIFT) - 1 : 0;

	return ((u64)(bucket - (octave << HISTOGRAM_SHIFT)) << octave) + ((1ull << octave) >> 1);
}

/* The byte at which a block of the set of addresses begins. */
u64 load_address(const struct load_run *run, u64 block)
{
	const struct load_request *request = &run->request;
	const struct load_addresses *set = &run->addresses;
	u64 rest, period, in_run;

	if (!request->period)
		return request->offset + block * request->bs;
	period = div64_u64_rem(block, set->per_period, &rest);
	rest = div64_u64_rem(rest, set->per_run, &in_run);
	return request->offset + period * request->period + rest * request->step + in_run * request->bs;
}

static u64 next_block(struct load_job *job)
{
	struct load_run *run = job->run;
	u64 block, wrapped;

	if (run->request.random)
		return mul_u64_u64_shr(next_random(&job->random), run->addresses.blocks, 64);
	if (run->request.shared) {
		div64_u64_rem(atomic64_fetch_inc(&run->stream), run->addresses.blocks, &wrapped);
		return wrapped;
	}
	block = job->first + job->next;
	job->next = job->next + 1 < job->blocks ? job->next + 1 : 0;
	return block;
}

static void load_end_io(struct bio *bio)
{
	struct load_slot *slot = bio->bi_private;
	struct load_job *job = slot->job;

	/* The thread may be gone after the last of these: it waits for this section before it is let go. */
	rcu_read_lock();
	if (job->run->request.clock)
		slot->end_ns = ktime_get_ns();
	llist_add(&slot->node, &job->done);
	/* Full order: either the thread sees this one, or this sees how many it waits for. */
	if (atomic_inc_return(&job->ready) == READ_ONCE(job->wanted))
		wake_up_process(job->task);
	rcu_read_unlock();
}

static void submit(struct load_job *job, struct load_slot *slot)
{
	const struct load_request *request = &job->run->request;
	bool read = request->mix && (request->mix >= 100 || (next_random(&job->random) >> 32) % 100 < request->mix);
	blk_opf_t opf = read ? REQ_OP_READ : REQ_OP_WRITE;

	if (!read && request->sync)
		opf |= REQ_SYNC | REQ_IDLE;
	if (!read && request->fua)
		opf |= REQ_FUA;
	bio_reset(&slot->bio, job->run->bdev, opf);
	slot->bio.bi_vcnt = slot->pages;
	slot->bio.bi_iter.bi_size = request->bs;
	slot->bio.bi_iter.bi_sector = load_address(job->run, next_block(job)) >> SECTOR_SHIFT;
	slot->bio.bi_end_io = load_end_io;
	slot->bio.bi_private = slot;
	if (request->clock)
		slot->begin_ns = ktime_get_ns();
	submit_bio(&slot->bio);
}

static void account(struct load_job *job, struct load_slot *slot)
{
	if (op_is_write(bio_op(&slot->bio)))
		job->writes++;
	else
		job->reads++;
	if (slot->bio.bi_status)
		job->errors++;
	if (job->run->request.clock) {
		u64 ns = slot->end_ns - slot->begin_ns;

		job->latency_sum += ns;
		job->latency_max = max(job->latency_max, ns);
		job->histogram[bucket_of(ns)]++;
	}
}

/* Waits until so many have completed, and takes all that have. */
static struct llist_node *reap(struct load_job *job, u32 least)
{
	WRITE_ONCE(job->wanted, least);
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		if (atomic_read(&job->ready) >= (int)least)
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return llist_del_all(&job->done);
}

static bool over(const struct load_job *job, u64 now)
{
	return !job->budget || now >= job->run->deadline_ns || READ_ONCE(job->run->stop);
}

int load_job_thread(void *data)
{
	struct load_job *job = data;
	const struct load_request *request = &job->run->request;
	struct load_slot *slot, *next;
	struct llist_node *idle = NULL;
	u32 in_flight = 0, i;

	for (i = request->depth; i-- > 0;) {
		job->slots[i].node.next = idle;
		idle = &job->slots[i].node;
	}
	while (idle || in_flight) {
		struct blk_plug plug;
		bool ending = over(job, ktime_get_ns());

		if (request->plug)
			blk_start_plug(&plug);
		llist_for_each_entry_safe(slot, next, idle, node) {
			if (ending || !job->budget)
				break;
			job->budget--;
			in_flight++;
			submit(job, slot);
		}
		if (request->plug)
			blk_finish_plug(&plug);
		idle = NULL;
		if (!in_flight)
			break;
		/* At the end all that is in flight is waited for, in portions as before. */
		idle = reap(job, min(in_flight, request->batch));
		i = 0;
		llist_for_each_entry(slot, idle, node) {
			account(job, slot);
			i++;
		}
		atomic_sub(i, &job->ready);
		in_flight -= i;
		cond_resched();
	}
	job->end_ns = ktime_get_ns();
	complete(&job->ended);

	/* The caller stops the thread when no completion can be at work on it any more. */
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static void fill(u64 *word, size_t bytes, u64 *random)
{
	size_t i;

	for (i = 0; i < bytes / sizeof(*word); i++)
		word[i] = next_random(random);
}

static int load_slot_init(struct load_slot *slot, struct load_job *job)
{
	u64 bs = job->run->request.bs;
	/* As few pages as one bio can have, as small as they can be. */
	u32 order = get_order(DIV_ROUND_UP(bs, BIO_MAX_VECS));
	u64 left = bs;

	slot->job = job;
	slot->vecs = kcalloc(DIV_ROUND_UP(bs, PAGE_SIZE << order), sizeof(*slot->vecs), GFP_KERNEL);
	if (!slot->vecs)
		return -ENOMEM;
	while (left) {
		u32 bytes = min_t(u64, left, PAGE_SIZE << order);
		void *memory;

		if (job->run->request.slab)
			memory = kmalloc(bytes, GFP_KERNEL);
		else
			memory = (void *)__get_free_pages(GFP_KERNEL | __GFP_COMP, order);
		if (!memory)
			return -ENOMEM;
		fill(memory, bytes, &job->random);
		bvec_set_virt(&slot->vecs[slot->pages++], memory, bytes);
		left -= bytes;
	}
	bio_init(&slot->bio, job->run->bdev, slot->vecs, slot->pages, 0);
	return 0;
}

/* On failure the caller frees what there is. */
int load_job_init(struct load_job *job, struct load_run *run, u32 number)
{
	const struct load_request *request = &run->request;
	u32 i;
	int ret;

	job->run = run;
	job->random = (request->seed + number + 1) * 0x9E3779B97F4A7C15ull | 1;
	job->blocks = div_u64(run->addresses.blocks, request->jobs);
	job->first = job->blocks * number;
	job->budget = U64_MAX;
	if (request->ios)
		job->budget = div_u64(request->ios * (number + 1), request->jobs) -
			      div_u64(request->ios * number, request->jobs);
	init_llist_head(&job->done);
	init_completion(&job->ended);
	job->histogram = kvcalloc(HISTOGRAM_BUCKETS, sizeof(*job->histogram), GFP_KERNEL);
	job->slots = kvcalloc(request->depth, sizeof(*job->slots), GFP_KERNEL);
	if (!job->histogram || !job->slots)
		return -ENOMEM;
	for (i = 0; i < request->depth; i++) {
		ret = load_slot_init(&job->slots[i], job);
		if (ret)
			return ret;
	}
	return 0;
}

void load_job_free(struct load_job *job)
{
	u32 i, page;

	for (i = 0; job->slots && i < job->run->request.depth; i++) {
		struct load_slot *slot = &job->slots[i];

		for (page = 0; page < slot->pages; page++) {
			struct bio_vec *vec = &slot->vecs[page];

			if (job->run->request.slab)
				kfree(bvec_virt(vec));
			else
				__free_pages(vec->bv_page, compound_order(vec->bv_page));
		}
		if (slot->bio.bi_io_vec)
			bio_uninit(&slot->bio);
		kfree(slot->vecs);
	}
	kvfree(job->slots);
	kvfree(job->histogram);
}

/* SPDX-License-Identifier: GPL-2.0 */
#ifndef RAID456_LOAD_H
#define RAID456_LOAD_H

#include <linux/atomic.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/llist.h>
#include <linux/types.h>

/* 32 steps an octave: a latency is known to 3 %. */
#define HISTOGRAM_SHIFT	5
#define HISTOGRAM_BUCKETS ((42 - HISTOGRAM_SHIFT) << HISTOGRAM_SHIFT)

#define LOAD_MAX_JOBS	64
#define LOAD_MAX_DEPTH	4096
#define LOAD_MAX_BS	(16 << 20)

/* What is asked for. Sizes in bytes. */
struct load_request {
	char dev[64];
	bool random;
	bool shared;		/* sequential jobs take turns in one stream */
	bool plug;
	bool pin;		/* job N on processor N */
	bool sync;		/* REQ_SYNC, as direct I/O has it */
	bool fua;
	bool clock;		/* latencies are taken */
	bool slab;		/* memory of kmalloc(), not of pages of its own */
	u32 mix;		/* percentage of reads */
	u32 depth;
	u32 jobs;
	u32 batch;		/* a job sleeps until so many of its I/Os are done */
	u64 bs;
	u64 offset;		/* where the addresses begin */
	u64 size;		/* of the range from there; 0: to the end */
	u64 period;		/* the pattern of addresses repeats after so much; 0: all of the range, no pattern */
	u64 step;		/* in a period there are `count` runs, `step` apart */
	u64 count;
	u64 length;		/* of a run */
	u64 seconds_ns;
	u64 ios;		/* of all jobs; 0: as many as the time allows */
	u64 seed;
	u64 profile;		/* ns between the profile's notes; 0: none */
};

/* The addresses: block N of `blocks` is in period N / per_period, run (N % per_period) / per_run. */
struct load_addresses {
	u64 blocks;
	u64 per_period;
	u64 per_run;
};

/* One run of the generator. */
struct load_run {
	struct load_request request;
	struct load_addresses addresses;
	struct block_device *bdev;
	atomic64_t stream;	/* next block of the shared sequence */
	u64 begin_ns;
	u64 deadline_ns;
	bool stop;
};

struct load_slot;

/* One submitter. Only its thread touches it, but for `done` and `ready`. */
struct load_job {
	struct load_run *run;
	struct task_struct *task;
	struct load_slot *slots;
	u64 random;
	u64 first;		/* its own part of a sequence: blocks from here */
	u64 blocks;
	u64 next;
	u64 budget;		/* I/Os still to submit */
	u32 wanted;		/* completions that wake the thread */

	struct llist_head done ____cacheline_aligned_in_smp;
	atomic_t ready;		/* how many are in `done` */

	struct completion ended;

	/* The outcome, valid from then on. */
	u64 reads ____cacheline_aligned_in_smp;
	u64 writes;
	u64 errors;
	u64 end_ns;
	u64 latency_sum;
	u64 latency_max;
	u32 *histogram;
};

u64 load_address(const struct load_run *run, u64 block);
int load_job_init(struct load_job *job, struct load_run *run, u32 number);
void load_job_free(struct load_job *job);
int load_job_thread(void *data);
u64 load_bucket_ns(u32 bucket);

struct seq_file;
int load_profile_start(u64 interval);
void load_profile_stop(void);
void load_profile_show(struct seq_file *file);
void load_profile_free(void);

#endif

/* SPDX-License-Identifier: GPL-2.0 */
#ifndef RAID456_CHECK_H
#define RAID456_CHECK_H

#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/llist.h>
#include <linux/types.h>

#define MAX_VALUES	6
#define MAX_IO_SECTORS	512
#define MAX_JOBS	16
#define MAX_DEPTH	256

/*
 * What a sector may hold: the write that began at `issued`, on the clock that counts all beginnings and ends. No two
 * writes begin at one time, so this names the write, too.
 */
struct value {
	u32 issued;
	u32 ended;		/* 0: in flight */
	bool failed;		/* it ended without success: the sector may hold it or not */
	bool settled;		/* but it will stay as it is */
	bool wild;		/* no write, but anything at all */
	bool fua;
	bool zero;		/* a discard: zeroes */
	bool past;		/* overwritten, but not by anything durable: a power cut may bring it back */
};

struct sector {
	struct value values[MAX_VALUES];
	u32 zeroed;		/* when the latest discard began */
	u8 count;
};

/* What a read of a sector that began at some moment may return, apart from writes that began later. */
struct allowed {
	u32 issued[MAX_VALUES];
	u8 zeroes;		/* a bit for each of these that is a discard */
	u8 count;
	bool wild;
	bool settled;		/* nothing in flight or failed: what is read is what stays */
};

/* The shape of the array under test, in sectors; rows are so many sectors wide on each member. */
struct model_shape {
	u32 sectors;
	u32 chunk;
	u32 data;		/* data members */
	u32 block;		/* logical block size */
	bool cached;		/* what was not flushed may be lost by a power cut */
	bool eio;		/* I/O errors are legal */
	u64 seed;
};

extern struct model_shape shape;

int model_new(const struct model_shape *wanted);
void model_free(void);
bool model_write_begin(u32 sector, u32 count, bool fua, bool zero, u32 *issued);
void model_write_end(u32 sector, u32 count, u32 issued, blk_status_t status);
u32 model_read_begin(u32 sector, u32 count, struct allowed *allowed);
void model_read_failed(u32 sector, u32 count, u32 began, blk_status_t status);
void model_fill(void *bytes, u32 sector, u32 issued);
void model_verify(const void *bytes, u32 sector, u32 began, const struct allowed *allowed);
u32 model_flush_begin(void);
void model_flush_end(u32 began, blk_status_t status);
void model_cut(bool hole);
void model_settle(void);
u32 model_violations(void);
void model_complain(u32 sector, const char *form, ...) __printf(2, 3);

struct seq_file;
void model_show(struct seq_file *file);
void model_history(struct seq_file *file);

enum job_kind { JOB_MIX, JOB_FILL, JOB_VERIFY };

/* What is asked for. */
struct load {
	enum job_kind kind;
	u32 jobs;
	u32 depth;
	u32 reads;		/* percent of I/Os that are reads */
	u32 longest;		/* sectors of an I/O */
	u32 fua;		/* percent of writes */
	u32 discards;		/* percent of writes: whole stripes are discarded instead */
	u32 flush;		/* permille of I/Os: a flush instead */
	u32 pause;		/* permille of rounds that end with a pause */
	u32 nowait;		/* percent of I/Os */
	u64 seed;
	struct block_device *bdev;
	bool stop;
};

struct slot;

/* One submitter. Only its thread touches it, but for `done` and `ready`. */
struct job {
	struct load *load;
	struct task_struct *task;
	struct slot *slots;
	u64 random;
	u32 number;
	u32 next;		/* of a sequence */
	u32 mode;		/* how addresses are chosen, for `turns` more I/Os */
	u32 turns;
	u32 base;
	struct llist_head done;
	atomic_t in_flight;
	struct completion ended;
	u64 reads, writes, errors;
	u64 oldest_ns;		/* when the oldest in flight began */
};

int job_init(struct job *job, struct load *load, u32 number);
void job_free(struct job *job);
int job_thread(void *data);
u32 job_pending(struct job *job);
void job_show_pending(struct job *job);

#endif

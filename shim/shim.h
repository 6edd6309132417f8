/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust side calls of C: macros, inline functions, and places where one call does the work of many.
 *
 * Every function may be called in any context unless its comment says otherwise. The Rust wrappers under src/ are the
 * only callers; what each requires of its arguments is said there.
 */
#ifndef RAID456_SHIM_H
#define RAID456_SHIM_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/percpu-refcount.h>
#include <linux/spinlock.h>
#include <linux/tracepoint-defs.h>
#include <linux/wait.h>

#include "md.h"
#include "raid5.h"

/*
 * What mddev->private points to. dm-raid reads two fields of struct r5conf through that pointer, so the real struct
 * comes first; nothing else of it is used.
 */
struct raid456_private {
	struct r5conf conf;
	/* The Rust side's: the array, its handles, and its operations. */
	void *array;
	void *handles;
	const void *ops;
};

/* module.c: what the module exports, and the dm-raid side of the private data */
struct raid456_private *raid456_private_alloc(void);
void raid456_private_free(struct raid456_private *private);
void raid456_private_set_stripes(struct raid456_private *private, int min, int max);
bool raid456_discard_is_safe(void);

/* Answered by the Rust side (src/md/exports.rs). */
int raid456_rs_set_cache_size(struct mddev *mddev, int size);
int raid456_rs_set_journal_mode(struct mddev *mddev, int mode);

/* md.c: md core */
void raid456_wake_thread(struct mddev *mddev);
void raid456_check_recovery(struct mddev *mddev);
void raid456_wake_thread_at(struct md_thread **thread);
void raid456_set_thread(struct mddev *mddev, struct md_thread *thread);
bool raid456_is_dm(struct mddev *mddev);
bool raid456_is_locked(struct mddev *mddev);
bool raid456_is_suspended(struct mddev *mddev);
bool raid456_is_sync_thread(struct mddev *mddev);
struct raid456_private *raid456_private_of(struct mddev *mddev);
const char *raid456_mdname(struct mddev *mddev);
int raid456_mddev_lock(struct mddev *mddev);
void raid456_mddev_unlock(struct mddev *mddev);
int raid456_suspend_and_lock(struct mddev *mddev);
void raid456_unlock_and_resume(struct mddev *mddev);
void raid456_lock_state(struct mddev *mddev);
void raid456_unlock_state(struct mddev *mddev);
void raid456_set_bit(unsigned int nr, unsigned long *word);
bool raid456_test_and_set_bit(unsigned int nr, unsigned long *word);
bool raid456_test_and_clear_bit(unsigned int nr, unsigned long *word);
void raid456_set_mask(unsigned long *word, unsigned long mask);
void raid456_add_mismatches(struct mddev *mddev, s64 sectors);
bool raid456_bitmap_enabled(struct mddev *mddev);
bool raid456_bitmap_is_lockless(struct mddev *mddev);
sector_t raid456_lockless_chunk(struct mddev *mddev);
bool raid456_bitmap_start_sync(struct mddev *mddev, sector_t offset, sector_t *sectors, bool degraded);
void raid456_bitmap_end_sync(struct mddev *mddev, sector_t offset, sector_t *sectors);
void raid456_bitmap_cond_end_sync(struct mddev *mddev, sector_t sector, bool force);
void raid456_bitmap_close_sync(struct mddev *mddev);
bool raid456_bitmap_synced(struct mddev *mddev, sector_t offset);
void raid456_bitmap_flush(struct mddev *mddev);
void raid456_bitmap_unplug(struct mddev *mddev);
void raid456_bitmap_mark(struct mddev *mddev, sector_t begin, sector_t end);
bool raid456_bitmap_is_whole(struct mddev *mddev);
void raid456_bitmap_all_synced(struct mddev *mddev);
const void *raid456_classic_bitmap(struct mddev *mddev, unsigned int *shift);
int raid456_bitmap_resize(struct mddev *mddev, sector_t sectors);
bool raid456_mark_active(struct mddev *mddev);

struct md_rdev *raid456_rdev_get(struct md_rdev **slot);
void raid456_rdev_hold(struct md_rdev *rdev);
void raid456_rdev_put(struct md_rdev *rdev);
int raid456_rdev_pending(struct md_rdev *rdev);
bool raid456_rdev_blocked(struct md_rdev *rdev);
int raid456_rdev_badblocks(struct md_rdev *rdev, sector_t sector, sector_t sectors, sector_t *first, sector_t *count);
bool raid456_rdev_has_unrecorded(struct md_rdev *rdev);
int raid456_rdev_read_errors(struct md_rdev *rdev, int add);
int raid456_rdev_count_read_errors(struct md_rdev *rdev);
void raid456_rdev_reset_read_errors(struct md_rdev *rdev);
void raid456_rdev_decay_read_errors(struct md_rdev *rdev);
void raid456_rdev_add_corrected(struct md_rdev *rdev, int sectors);
void raid456_rdev_notify_state(struct md_rdev *rdev);
void raid456_rdev_name(struct md_rdev *rdev, char *buf, size_t size);
bool raid456_rdev_can_discard(struct md_rdev *rdev, unsigned int unit);
bool raid456_members_can_discard(struct mddev *mddev, unsigned int unit);
void raid456_stack_new_offsets(struct mddev *mddev, struct queue_limits *limits);
int raid456_set_stable_writes(struct request_queue *queue, bool stable);
int raid456_sysfs_add(struct mddev *mddev, const struct attribute_group *group);
struct md_rdev *raid456_rdev_next(struct mddev *mddev, struct md_rdev *rdev);

/* bio.c: user bios and member bios */
struct raid456_slice {
	struct bio *bio;
	struct bvec_iter iter;
};

enum raid456_op {
	RAID456_OP_READ,
	RAID456_OP_WRITE,
	RAID456_OP_DISCARD,
	RAID456_OP_OTHER,
};

enum raid456_op raid456_bio_op(struct bio *bio);
bool raid456_bio_is_write(struct bio *bio);
void raid456_request_end(struct mddev *mddev, struct bio *bio, bool writing, blk_status_t status);
bool raid456_request_try_write(struct mddev *mddev);
void raid456_request_account(struct mddev *mddev, struct bio *bio, struct raid456_slice *slice);
void raid456_request_account_part(struct mddev *mddev, struct bio *bio, sector_t sector, unsigned int sectors,
				  struct raid456_slice *slice);
bool raid456_request_try_account(struct mddev *mddev, struct bio *bio, struct raid456_slice *slice);
struct mddev *raid456_slice_mddev(struct bio *bio);
void raid456_slice_hold(struct bio *bio, bool counted);
void raid456_slice_split(struct raid456_slice *slice, unsigned int sectors, bool counted, struct raid456_slice *front);
void raid456_slice_end(struct bio *bio, bool counted);
void raid456_slice_copy(const struct raid456_slice *slice, unsigned int offset, unsigned int len,
			const void *const *pages, unsigned int at);
void raid456_slice_seek(const struct raid456_slice *slice, unsigned int offset, unsigned int len,
			struct bvec_iter *iter);
const void *raid456_slice_segment(const struct raid456_slice *slice, struct bvec_iter *iter, unsigned int *len);
bool raid456_slice_is_whole(const struct raid456_slice *slice);
void raid456_direct_submit(struct bio *bio, struct md_rdev *rdev, sector_t sector, bio_end_io_t *end_io, void *owner);
blk_status_t raid456_direct_finish(struct bio *bio, struct md_rdev **rdev, void **owner, struct raid456_slice *slice);

struct raid456_member_io {
	struct bio *bio;
	struct bio_vec *vecs;
	struct md_rdev *rdev;
	sector_t sector;
	/* Where that is in the array, for who traces it. */
	sector_t origin;
	blk_opf_t flags;
	bool write;
	/* 0: so many sectors are discarded */
	unsigned short count;
	unsigned int sectors;
	void *const *pages;
	bio_end_io_t *end_io;
};

void raid456_member_submit(const struct raid456_member_io *io);
blk_status_t raid456_member_finish(struct bio *bio);

bool raid456_may_run_inline(struct block_device *bdev);
bool raid456_is_synchronous(struct block_device *bdev);
bool raid456_is_copied(struct block_device *bdev);
bool raid456_has_plug(void);
bool raid456_plug_again(struct blk_plug_cb *cb);
unsigned int raid456_cpu(void);
unsigned int raid456_online_cpus(void);
u64 raid456_jiffies(void);
void raid456_cond_resched(void);

/* reserve.c: bios that an array keeps for itself */
struct raid456_reserve;
struct raid456_member_flush;

struct raid456_reserve *raid456_reserve_new(unsigned int devices);
void raid456_reserve_free(struct raid456_reserve *reserve);
struct bio *raid456_request_cut(struct raid456_reserve *reserve, struct bio *bio, unsigned int sectors);
void raid456_flush(struct raid456_reserve *reserve, struct mddev *mddev,
		   void (*end)(void *private, struct raid456_member_flush *failed), void *private);
struct md_rdev *raid456_flush_rdev(struct raid456_member_flush *failed);
struct raid456_member_flush *raid456_flush_next(struct raid456_member_flush *failed);
void raid456_flush_release(struct raid456_member_flush *failed);

/* sync.c: locks and waiting */
unsigned long raid456_spin_lock(spinlock_t *lock);
bool raid456_spin_trylock(spinlock_t *lock, unsigned long *flags);
void raid456_spin_unlock(spinlock_t *lock, unsigned long flags);
void raid456_waitqueue_init(struct wait_queue_head *queue, const char *name, struct lock_class_key *key);
void raid456_wait(struct wait_queue_head *queue, bool (*condition)(void *data), void *data);
bool raid456_wait_timeout(struct wait_queue_head *queue, bool (*condition)(void *data), void *data, unsigned int msecs);
void raid456_wake_all(struct wait_queue_head *queue);

/* mem.c: pages and pools */
void *raid456_page_alloc(void);
void *raid456_page_take(void);
void raid456_page_hold(void *page, bool to_change);
void raid456_page_unhold(void *page, bool to_change);
void raid456_page_put(void *page);
bool raid456_page_may_view(void *page);
bool raid456_page_may_change(void *page);
void raid456_pages_are_back(void);
bool raid456_least_memory(void);
mempool_t *raid456_mempool_create(int min, size_t size);
struct raid456_shrinker;

struct raid456_shrinker *raid456_shrinker_new(unsigned long (*count)(void *of),
					      unsigned long (*shrink)(void *of, unsigned long most), void *of);
void *raid456_shrinker_free(struct raid456_shrinker *own);
void *raid456_alloc(size_t size);
void *raid456_take(size_t size);
void *raid456_mempool_take(mempool_t *pool);
void *raid456_mempool_wait_take(mempool_t *pool);
unsigned int raid456_noio_save(void);
void raid456_noio_restore(unsigned int before);

/* parity.c: parity engines */
void raid456_fpu_begin(void);
void raid456_fpu_end(void);
const char *raid456_engine_wanted(void);
void raid456_engine_chosen(const char *name, size_t length);

/* trace.c: tracepoints */
enum raid456_job {
	RAID456_JOB_RMW,
	RAID456_JOB_RCW,
	RAID456_JOB_DATA,
	RAID456_JOB_RECOVER,
	RAID456_JOB_DELIVER,
	RAID456_JOB_CHECK,
	RAID456_JOB_PARITY,
	RAID456_JOB_LOCATE,
};

enum raid456_park {
	RAID456_PARK_MEMORY,
	RAID456_PARK_SUPERBLOCK,
	RAID456_PARK_BITMAP,
};

/* What a span is after a step: the events that it took in, and which strips are in which phase. */
struct raid456_step {
	u64 sector;
	u32 events;
	u16 gathering;
	u16 reading;
	u16 computing;
	u16 logging;
	u16 writing;
};

#ifdef CONFIG_TRACEPOINTS
DECLARE_TRACEPOINT(span_begin);
DECLARE_TRACEPOINT(span_end);
DECLARE_TRACEPOINT(span_step);
DECLARE_TRACEPOINT(span_job);
DECLARE_TRACEPOINT(span_park);
/* The block layer's. */
DECLARE_TRACEPOINT(block_bio_remap);
#endif

void raid456_trace_span_begin(struct mddev *mddev, u64 sector);
void raid456_trace_span_end(struct mddev *mddev, u64 sector);
void raid456_trace_span_step(struct mddev *mddev, const struct raid456_step *step);
void raid456_trace_span_job(struct mddev *mddev, u64 sector, enum raid456_job job, unsigned int strips);
void raid456_trace_span_park(struct mddev *mddev, u64 sector, enum raid456_park reason);

/* dma.c: DMA engines */
enum raid456_dma_kind {
	RAID456_DMA_COPY,
	RAID456_DMA_XOR,
	RAID456_DMA_PQ,
	RAID456_DMA_XOR_VAL,
	RAID456_DMA_PQ_VAL,
};

/* What has become of an operation that was to be begun. */
enum raid456_dma_taken {
	RAID456_DMA_TAKEN,
	/* The channel does not take it. */
	RAID456_DMA_REFUSED,
	/* It was not asked: there is no memory for the operation, or a page cannot be kept. */
	RAID456_DMA_NOT_ASKED,
};

/* How an operation has ended. */
struct raid456_dma_end {
	void *owner;
	unsigned long channel;
	bool ok;
	/* Of what was compared. */
	bool wrong_p;
	bool wrong_q;
};

typedef void raid456_dma_ended_t(const struct raid456_dma_end *end);

/* An operation; the arrays are needed only while it is submitted. */
struct raid456_dma_op {
	struct dma_chan *chan;
	enum raid456_dma_kind kind;
	/* It goes on with what `to` has. */
	bool more;
	/* Its end need not be told before raid456_dma_tell(). */
	bool quiet;
	unsigned int len;
	unsigned int count;
	const void *const *from;
	const u8 *factors;
	/* P and Q, or else the first. */
	void *to[2];
	/* Where in these. */
	unsigned int at;
	raid456_dma_ended_t *ended;
	void *owner;
};

/* Answered by the Rust side (src/offload/channel.rs). */
void raid456_rs_ask(void);

void raid456_dma_ask_later(void);
void raid456_dma_ask_no_more(void);
bool raid456_dma_supported(void);
void raid456_dma_get(void);
void raid456_dma_put(void);
struct dma_chan *raid456_dma_find(enum raid456_dma_kind kind);
unsigned int raid456_dma_most_sources(struct dma_chan *chan, enum raid456_dma_kind kind, bool p, bool q, bool more);
bool raid456_dma_is_aligned(struct dma_chan *chan, enum raid456_dma_kind kind, size_t from, size_t to, size_t len);
int raid456_dma_engine_number(struct dma_chan *chan);
int raid456_dma_channel_number(struct dma_chan *chan);
bool raid456_dma_may_keep(const void *address);
enum raid456_dma_taken raid456_dma_submit(const struct raid456_dma_op *op);
bool raid456_dma_tells(struct dma_chan *chan);
bool raid456_dma_tell(struct dma_chan *chan);
void raid456_dma_look(struct dma_chan *chan);
void raid456_dma_issue(struct dma_chan *chan);
void raid456_module_hold(void);
void raid456_module_release(void);
void raid456_offload_default(char *name, size_t size);

#endif

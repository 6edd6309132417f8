/* SPDX-License-Identifier: GPL-2.0 */
/*
 * DMA engines in software: what the files of the module share.
 */
#ifndef RAID456_TEST_DMA_H
#define RAID456_TEST_DMA_H

#include <linux/dmaengine.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>

/* The most blocks that a descriptor reads, whatever is asked for. */
#define MAX_SOURCES 32

/* The most bytes of a block. */
#define MAX_LENGTH 65536

enum kind {
	KIND_COPY,
	KIND_XOR,
	KIND_PQ,
	KIND_XOR_VAL,
	KIND_PQ_VAL,
	KIND_INTERRUPT,
	KINDS,
};

enum fate {
	FATE_WELL,
	/* Half of it is done, and an error is reported. */
	FATE_ERROR,
	/* A validation says the opposite of what it found. */
	FATE_LIE,
	/* It does not end before it is released, if that fault is still asked for when its turn comes. */
	FATE_HANG,
};

struct descriptor {
	struct dma_async_tx_descriptor tx;
	struct list_head node;
	enum kind kind;
	enum fate fate;
	enum dmaengine_tx_result how;
	unsigned int count;
	size_t len;
	ktime_t due;
	enum sum_check_flags *result;
	/* P and Q, or the one that is written. */
	dma_addr_t to[2];
	dma_addr_t from[MAX_SOURCES];
	u8 factor[MAX_SOURCES];
};

struct channel {
	struct dma_chan chan;
	/* For the lists. */
	spinlock_t lock;
	struct list_head submitted;
	struct list_head issued;
	struct list_head hanging;
	/* Ended, and not told. */
	struct list_head quiet;
	/* Told, and somebody may still chain something to it. */
	struct list_head ended;
	/* To be given again, as they are. */
	struct list_head used;
	struct task_struct *thread;
	wait_queue_head_t wait;
	/* Given, and not told. */
	atomic_t given;
	bool gone;
	/* For the blocks' places, which are where they are while they are worked on. */
	struct mutex busy;
	u8 *block;
	u8 *sum[2];
};

struct engine {
	struct dma_device device;
	/* dmaengine, and whoever made it. */
	refcount_t users;
	unsigned int count;
	struct channel channels[] __counted_by(count);
};

/* field.c */
void field_init(void);
void field_add(u8 *to, const u8 *from, size_t len);
void field_add_multiple(u8 *to, const u8 *from, u8 factor, size_t len);

/* engine.c */
struct engine *engine_new(struct device *dev, unsigned int channels);
int engine_start(struct engine *engine);
void engine_gone(struct engine *engine);
void engine_let_go(struct engine *engine, bool all);
void engine_put(struct engine *engine);

/* main.c: what is asked for */
extern unsigned int param_caps, param_max_xor, param_max_pq, param_align, param_ring, param_unmap_us;
extern bool param_pq_continue;
extern unsigned int param_delay_us, param_jitter_us;
extern unsigned int fault_prep, fault_error, fault_lie, fault_hang, fault_tell;
extern unsigned long param_done[KINDS];
extern unsigned long param_blocks[KINDS];
extern unsigned long param_interrupts;

#endif

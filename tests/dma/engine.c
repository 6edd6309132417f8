// SPDX-License-Identifier: GPL-2.0
/*
 * A DMA engine whose channels are threads: each takes descriptors in the order they were issued, works on one when
 * it is due, and ends it as hardware does, from where softirqs are off. The end of one that asks for no interrupt is
 * told when the next interrupt comes, or somebody asks. What has ended is given again with all that somebody has
 * written to it, as the drivers of some engines do.
 *
 * Locks: a channel's lock, in any context; nothing is taken inside.
 */
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "dma.h"
#include "dmaengine.h"

static struct channel *to_channel(struct dma_chan *chan)
{
	return container_of(chan, struct channel, chan);
}

static void *address(struct channel *channel, dma_addr_t at)
{
	return phys_to_virt(dma_to_phys(channel->chan.device->dev, at));
}

/* Whether this is the time for a fault that happens each so many times. */
static bool happens(unsigned int each)
{
	static atomic_t turns = ATOMIC_INIT(0);

	return each && (unsigned int)atomic_inc_return(&turns) % each == 0;
}

static void load(struct channel *channel, dma_addr_t from, size_t len)
{
	memcpy(channel->block, address(channel, from), len);
}

/* Whether an address, or a length, is what this engine asks for. */
static bool is_aligned(u64 at)
{
	return IS_ALIGNED(at, 1ULL << param_align);
}

/* Adds a block to the sums that are wanted. */
static void add(struct channel *channel, struct descriptor *desc, dma_addr_t from, bool p, bool q, u8 factor)
{
	load(channel, from, desc->len);
	if (p)
		field_add(channel->sum[0], channel->block, desc->len);
	if (q)
		field_add_multiple(channel->sum[1], channel->block, factor, desc->len);
}

static bool differs(struct channel *channel, struct descriptor *desc, unsigned int which)
{
	load(channel, desc->to[which], desc->len);
	return memcmp(channel->block, channel->sum[which], desc->len);
}

static void store(struct channel *channel, struct descriptor *desc, unsigned int which)
{
	size_t len = desc->fate == FATE_ERROR ? desc->len / 2 : desc->len;

	memcpy(address(channel, desc->to[which]), channel->sum[which], len);
}

static void work(struct channel *channel, struct descriptor *desc)
{
	bool p = !(desc->tx.flags & DMA_PREP_PQ_DISABLE_P), q = !(desc->tx.flags & DMA_PREP_PQ_DISABLE_Q);
	enum sum_check_flags wrong = 0;
	unsigned int i;

	param_done[desc->kind]++;
	if (desc->kind == KIND_INTERRUPT)
		return;
	memset(channel->sum[0], 0, desc->len);
	memset(channel->sum[1], 0, desc->len);
	if (desc->kind == KIND_PQ && desc->tx.flags & DMA_PREP_CONTINUE) {
		if (p)
			memcpy(channel->sum[0], address(channel, desc->to[0]), desc->len);
		if (q)
			memcpy(channel->sum[1], address(channel, desc->to[1]), desc->len);
	}
	if (desc->kind == KIND_COPY || desc->kind == KIND_XOR || desc->kind == KIND_XOR_VAL)
		q = false;
	for (i = 0; i < desc->count; i++)
		add(channel, desc, desc->from[i], p, q, desc->factor[i]);
	switch (desc->kind) {
	case KIND_COPY:
	case KIND_XOR:
		store(channel, desc, 0);
		break;
	case KIND_PQ:
		if (p)
			store(channel, desc, 0);
		if (q)
			store(channel, desc, 1);
		break;
	case KIND_XOR_VAL:
		if (memchr_inv(channel->sum[0], 0, desc->len))
			wrong = SUM_CHECK_P_RESULT;
		break;
	case KIND_PQ_VAL:
		if (p && differs(channel, desc, 0))
			wrong |= SUM_CHECK_P_RESULT;
		if (q && differs(channel, desc, 1))
			wrong |= SUM_CHECK_Q_RESULT;
		break;
	default:
		break;
	}
	if (desc->kind == KIND_XOR_VAL || desc->kind == KIND_PQ_VAL) {
		if (desc->fate == FATE_LIE)
			wrong = wrong ? 0 : SUM_CHECK_P_RESULT;
		*desc->result = wrong;
	}
	param_blocks[desc->kind] += desc->count;
}

/* Tells of the end of a descriptor that is in no list. */
static void tell(struct channel *channel, struct descriptor *desc)
{
	struct dmaengine_result result = { .result = desc->how };
	unsigned long flags;

	spin_lock_irqsave(&channel->lock, flags);
	dma_cookie_complete(&desc->tx);
	spin_unlock_irqrestore(&channel->lock, flags);

	local_bh_disable();
	atomic_dec(&channel->given);
	if (!param_unmap_us)
		dma_descriptor_unmap(&desc->tx);
	dmaengine_desc_get_callback_invoke(&desc->tx, &result);
	if (param_unmap_us)
		udelay(param_unmap_us);
	dma_descriptor_unmap(&desc->tx);
	dma_run_dependencies(&desc->tx);
	local_bh_enable();

	spin_lock_irqsave(&channel->lock, flags);
	list_add_tail(&desc->node, async_tx_test_ack(&desc->tx) ? &channel->used : &channel->ended);
	spin_unlock_irqrestore(&channel->lock, flags);
}

static struct descriptor *first(struct channel *channel, struct list_head *list)
{
	struct descriptor *desc;
	unsigned long flags;

	spin_lock_irqsave(&channel->lock, flags);
	desc = list_first_entry_or_null(list, struct descriptor, node);
	if (desc)
		list_del(&desc->node);
	spin_unlock_irqrestore(&channel->lock, flags);
	return desc;
}

static void tell_all(struct channel *channel)
{
	struct descriptor *desc;

	while ((desc = first(channel, &channel->quiet)))
		tell(channel, desc);
}

/* Ends a descriptor that is in no list, and tells of all ends if that was asked for, or nothing else would. */
static void end(struct channel *channel, struct descriptor *desc, enum dmaengine_tx_result how)
{
	bool interrupt = desc->tx.flags & DMA_PREP_INTERRUPT, told;
	unsigned long flags;

	desc->how = how;
	spin_lock_irqsave(&channel->lock, flags);
	list_add_tail(&desc->node, &channel->quiet);
	told = interrupt || channel->gone;
	spin_unlock_irqrestore(&channel->lock, flags);
	if (interrupt)
		param_interrupts++;
	if (told)
		tell_all(channel);
}

static void work_and_end(struct channel *channel, struct descriptor *desc)
{
	mutex_lock(&channel->busy);
	work(channel, desc);
	mutex_unlock(&channel->busy);
	end(channel, desc, desc->fate == FATE_ERROR ? DMA_TRANS_WRITE_FAILED : DMA_TRANS_NOERROR);
}

static void run_one(struct channel *channel, struct descriptor *desc)
{
	s64 left = ktime_us_delta(desc->due, ktime_get());
	bool hangs = false;
	unsigned long flags;

	if (left > 0)
		usleep_range(left, left + 20);
	if (desc->fate == FATE_HANG) {
		/*
		 * Whoever ends this fault clears it and then has let go what hangs, which takes this lock: either that
		 * comes later, and finds this one, or what is read here is that nothing hangs any more.
		 */
		spin_lock_irqsave(&channel->lock, flags);
		hangs = READ_ONCE(fault_hang);
		if (hangs)
			list_add_tail(&desc->node, &channel->hanging);
		spin_unlock_irqrestore(&channel->lock, flags);
	}
	if (!hangs)
		work_and_end(channel, desc);
}

static int run(void *data)
{
	struct channel *channel = data;
	struct descriptor *desc;

	while (!kthread_should_stop()) {
		wait_event_interruptible(channel->wait, kthread_should_stop() || !list_empty(&channel->issued));
		while (!kthread_should_stop() && (desc = first(channel, &channel->issued)))
			run_one(channel, desc);
	}
	return 0;
}

static dma_cookie_t submit(struct dma_async_tx_descriptor *tx)
{
	struct channel *channel = to_channel(tx->chan);
	struct descriptor *desc = container_of(tx, struct descriptor, tx);
	dma_cookie_t cookie;
	unsigned long flags;
	unsigned int i;

	WARN_ON_ONCE(!is_aligned(desc->len) || !is_aligned(desc->to[0]) || !is_aligned(desc->to[1]));
	for (i = 0; i < desc->count; i++)
		WARN_ON_ONCE(!is_aligned(desc->from[i]));

	spin_lock_irqsave(&channel->lock, flags);
	cookie = dma_cookie_assign(tx);
	list_add_tail(&desc->node, &channel->submitted);
	spin_unlock_irqrestore(&channel->lock, flags);
	return cookie;
}

static enum dma_status tx_status(struct dma_chan *chan, dma_cookie_t cookie, struct dma_tx_state *state)
{
	if (dma_cookie_status(chan, cookie, state) != DMA_COMPLETE)
		tell_all(to_channel(chan));
	return dma_cookie_status(chan, cookie, state);
}

static void issue_pending(struct dma_chan *chan)
{
	struct channel *channel = to_channel(chan);
	struct descriptor *desc;
	unsigned long flags;
	u64 wait = param_delay_us;

	if (param_jitter_us)
		wait += get_random_u32_below(param_jitter_us);
	spin_lock_irqsave(&channel->lock, flags);
	list_for_each_entry(desc, &channel->submitted, node)
		desc->due = ktime_add_us(ktime_get(), wait);
	list_splice_tail_init(&channel->submitted, &channel->issued);
	spin_unlock_irqrestore(&channel->lock, flags);
	wake_up(&channel->wait);
}

static struct descriptor *prepare(struct dma_chan *chan, enum kind kind, size_t len, unsigned int count,
				  unsigned long flags)
{
	struct channel *channel = to_channel(chan);
	struct descriptor *desc;

	if (READ_ONCE(channel->gone) || happens(fault_prep) || len > MAX_LENGTH || count > MAX_SOURCES)
		return NULL;
	if (param_ring && atomic_read(&channel->given) >= param_ring)
		return NULL;
	desc = first(channel, &channel->used) ?: kzalloc_obj(*desc, GFP_NOWAIT | __GFP_NOWARN);
	if (!desc)
		return NULL;
	atomic_inc(&channel->given);
	dma_async_tx_descriptor_init(&desc->tx, chan);
	desc->tx.tx_submit = submit;
	desc->tx.flags = flags;
	desc->kind = kind;
	desc->fate = FATE_WELL;
	desc->len = len;
	memset(desc->to, 0, sizeof(desc->to));
	desc->count = count;
	if (happens(fault_error))
		desc->fate = FATE_ERROR;
	else if ((kind == KIND_XOR_VAL || kind == KIND_PQ_VAL) && happens(fault_lie))
		desc->fate = FATE_LIE;
	else if (happens(fault_hang))
		desc->fate = FATE_HANG;
	return desc;
}

static struct dma_async_tx_descriptor *prepare_copy(struct dma_chan *chan, dma_addr_t to, dma_addr_t from,
						    size_t len, unsigned long flags)
{
	struct descriptor *desc = prepare(chan, KIND_COPY, len, 1, flags);

	if (!desc)
		return NULL;
	desc->to[0] = to;
	desc->from[0] = from;
	return &desc->tx;
}

static struct dma_async_tx_descriptor *prepare_xor(struct dma_chan *chan, dma_addr_t to, dma_addr_t *from,
						   unsigned int count, size_t len, unsigned long flags)
{
	struct descriptor *desc;

	if (WARN_ON_ONCE(count < 2 || count > param_max_xor))
		return NULL;
	desc = prepare(chan, KIND_XOR, len, count, flags);
	if (!desc)
		return NULL;
	desc->to[0] = to;
	memcpy(desc->from, from, count * sizeof(*from));
	return &desc->tx;
}

static struct dma_async_tx_descriptor *prepare_xor_val(struct dma_chan *chan, dma_addr_t *from, unsigned int count,
						       size_t len, enum sum_check_flags *result, unsigned long flags)
{
	struct descriptor *desc;

	if (WARN_ON_ONCE(count < 2 || count > param_max_xor))
		return NULL;
	desc = prepare(chan, KIND_XOR_VAL, len, count, flags);
	if (!desc)
		return NULL;
	memcpy(desc->from, from, count * sizeof(*from));
	desc->result = result;
	return &desc->tx;
}

static struct descriptor *prepare_sums(struct dma_chan *chan, enum kind kind, dma_addr_t *pq, dma_addr_t *from,
				       unsigned int count, const unsigned char *factors, size_t len,
				       unsigned long flags)
{
	struct descriptor *desc;

	if (WARN_ON_ONCE(!count || count > dma_maxpq(chan->device, flags)))
		return NULL;
	desc = prepare(chan, kind, len, count, flags);
	if (!desc)
		return NULL;
	memcpy(desc->to, pq, sizeof(desc->to));
	memcpy(desc->from, from, count * sizeof(*from));
	memcpy(desc->factor, factors, count);
	return desc;
}

static struct dma_async_tx_descriptor *prepare_pq(struct dma_chan *chan, dma_addr_t *to, dma_addr_t *from,
						  unsigned int count, const unsigned char *factors, size_t len,
						  unsigned long flags)
{
	struct descriptor *desc = prepare_sums(chan, KIND_PQ, to, from, count, factors, len, flags);

	return desc ? &desc->tx : NULL;
}

static struct dma_async_tx_descriptor *prepare_pq_val(struct dma_chan *chan, dma_addr_t *pq, dma_addr_t *from,
						      unsigned int count, const unsigned char *factors, size_t len,
						      enum sum_check_flags *result, unsigned long flags)
{
	struct descriptor *desc = prepare_sums(chan, KIND_PQ_VAL, pq, from, count, factors, len, flags);

	if (!desc)
		return NULL;
	desc->result = result;
	return &desc->tx;
}

static struct dma_async_tx_descriptor *prepare_interrupt(struct dma_chan *chan, unsigned long flags)
{
	struct descriptor *desc = happens(fault_tell) ? NULL : prepare(chan, KIND_INTERRUPT, 0, 0, flags);

	return desc ? &desc->tx : NULL;
}

/* Forgets descriptors, as an engine that is switched off. */
static void drop_all(struct channel *channel, struct list_head *list)
{
	struct descriptor *desc;

	while ((desc = first(channel, list))) {
		dma_descriptor_unmap(&desc->tx);
		kfree(desc);
	}
}

static int alloc_resources(struct dma_chan *chan)
{
	struct channel *channel = to_channel(chan);
	struct task_struct *thread;

	channel->block = kvmalloc(3 * MAX_LENGTH, GFP_KERNEL);
	if (!channel->block)
		return -ENOMEM;
	channel->sum[0] = channel->block + MAX_LENGTH;
	channel->sum[1] = channel->sum[0] + MAX_LENGTH;
	dma_cookie_init(chan);
	atomic_set(&channel->given, 0);
	thread = kthread_run(run, channel, "%s", dma_chan_name(chan));
	if (IS_ERR(thread)) {
		kvfree(channel->block);
		return PTR_ERR(thread);
	}
	channel->thread = thread;
	return 1;
}

static void free_resources(struct dma_chan *chan)
{
	struct channel *channel = to_channel(chan);

	if (channel->thread)
		kthread_stop(channel->thread);
	channel->thread = NULL;
	mutex_lock(&channel->busy);
	drop_all(channel, &channel->submitted);
	drop_all(channel, &channel->issued);
	drop_all(channel, &channel->hanging);
	drop_all(channel, &channel->quiet);
	drop_all(channel, &channel->ended);
	kvfree(channel->block);
	mutex_unlock(&channel->busy);
}

void engine_put(struct engine *engine)
{
	unsigned int i;

	if (!refcount_dec_and_test(&engine->users))
		return;
	for (i = 0; i < engine->count; i++)
		drop_all(&engine->channels[i], &engine->channels[i].used);
	kfree(engine);
}

static void release(struct dma_device *device)
{
	engine_put(container_of(device, struct engine, device));
}

/* An engine with as many channels, which is not known to anybody yet. */
struct engine *engine_new(struct device *dev, unsigned int channels)
{
	struct engine *engine = kzalloc(struct_size(engine, channels, channels), GFP_KERNEL);
	struct dma_device *device;
	unsigned int i;

	if (!engine)
		return NULL;
	device = &engine->device;
	device->dev = dev;
	INIT_LIST_HEAD(&device->channels);
	engine->count = channels;
	refcount_set(&engine->users, 2);
	for (i = 0; i < channels; i++) {
		struct channel *channel = &engine->channels[i];

		spin_lock_init(&channel->lock);
		INIT_LIST_HEAD(&channel->submitted);
		INIT_LIST_HEAD(&channel->issued);
		INIT_LIST_HEAD(&channel->hanging);
		INIT_LIST_HEAD(&channel->quiet);
		INIT_LIST_HEAD(&channel->ended);
		INIT_LIST_HEAD(&channel->used);
		init_waitqueue_head(&channel->wait);
		mutex_init(&channel->busy);
		channel->chan.device = device;
		list_add_tail(&channel->chan.device_node, &device->channels);
	}
	return engine;
}

/* Registers an engine. */
int engine_start(struct engine *engine)
{
	static const enum dma_transaction_type types[KINDS] = {
		DMA_MEMCPY, DMA_XOR, DMA_PQ, DMA_XOR_VAL, DMA_PQ_VAL, DMA_INTERRUPT,
	};
	struct dma_device *device = &engine->device;
	unsigned int i;

	for (i = 0; i < KINDS; i++)
		if (param_caps & (1 << i))
			dma_cap_set(types[i], device->cap_mask);
	device->max_xor = param_max_xor;
	dma_set_maxpq(device, param_max_pq, param_pq_continue);
	device->copy_align = param_align;
	device->xor_align = param_align;
	device->pq_align = param_align;
	device->device_alloc_chan_resources = alloc_resources;
	device->device_free_chan_resources = free_resources;
	device->device_prep_dma_memcpy = prepare_copy;
	device->device_prep_dma_xor = prepare_xor;
	device->device_prep_dma_pq = prepare_pq;
	device->device_prep_dma_xor_val = prepare_xor_val;
	device->device_prep_dma_pq_val = prepare_pq_val;
	device->device_prep_dma_interrupt = prepare_interrupt;
	device->device_tx_status = tx_status;
	device->device_issue_pending = issue_pending;
	device->device_release = release;
	return dma_async_device_register(device);
}

/* The engine is taken away, whoever uses it: what is under way is aborted, but for what hangs. */
void engine_gone(struct engine *engine)
{
	struct dma_device *device = &engine->device;
	struct descriptor *desc;
	unsigned int i;

	for (i = 0; i < engine->count; i++)
		WRITE_ONCE(engine->channels[i].gone, true);
	dma_async_device_unregister(device);
	for (i = 0; i < engine->count; i++) {
		struct channel *channel = &engine->channels[i];

		tell_all(channel);
		while ((desc = first(channel, &channel->submitted)) || (desc = first(channel, &channel->issued)))
			end(channel, desc, DMA_TRANS_ABORTED);
	}
	/*
	 * dmaengine_put() passes over devices that are marked as private, as one that is unregistered is: they would
	 * never be released. So it is marked as able to do nothing instead.
	 */
	bitmap_zero(device->cap_mask.bits, DMA_TX_TYPE_END);
}

/* Ends what hangs, late, but well, and if wanted tells of all ends. */
void engine_let_go(struct engine *engine, bool all)
{
	struct descriptor *desc;
	unsigned int i;

	for (i = 0; i < engine->count; i++) {
		while ((desc = first(&engine->channels[i], &engine->channels[i].hanging)))
			work_and_end(&engine->channels[i], desc);
		if (all)
			tell_all(&engine->channels[i]);
	}
}

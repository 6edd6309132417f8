// SPDX-License-Identifier: GPL-2.0
/*
 * DMA engines: what dmaengine has as macros and inline functions, and an operation's way from its pages to its end.
 *
 * The async_tx helpers are not used: they spin while an engine has no descriptor, and panic on its errors.
 */
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "shim.h"

/* Keeps the module: something may still be called in it, nobody knows when. */
void raid456_module_hold(void)
{
	__module_get(THIS_MODULE);
}

void raid456_module_release(void)
{
	module_put(THIS_MODULE);
}

static void raid456_dma_ask(struct work_struct *work)
{
	raid456_rs_ask();
}

static DECLARE_DELAYED_WORK(raid456_dma_asking, raid456_dma_ask);

/* Has channels asked, some time later. */
void raid456_dma_ask_later(void)
{
	schedule_delayed_work(&raid456_dma_asking, HZ);
}

/* Sleeps. */
void raid456_dma_ask_no_more(void)
{
	cancel_delayed_work_sync(&raid456_dma_asking);
}

static char raid456_offload[8] = "cpu";
module_param_string(offload, raid456_offload, sizeof(raid456_offload), 0644);
MODULE_PARM_DESC(offload, "Where new arrays have copies and parity made: cpu (default), dma, or auto (dma for what is large)");

/* May be changed meanwhile, so it is copied; the room has a zero at its end. */
void raid456_offload_default(char *name, size_t size)
{
	kernel_param_lock(THIS_MODULE);
	strscpy(name, raid456_offload, size);
	kernel_param_unlock(THIS_MODULE);
}

#ifdef CONFIG_DMA_ENGINE

/* An operation that is under way. */
struct raid456_dma_flight {
	struct dma_chan *chan;
	raid456_dma_ended_t *ended;
	void *owner;
	struct dmaengine_unmap_data *unmap;
	enum sum_check_flags wrong;
	void *to[2];
	unsigned int count;
	struct page *from[];
};

bool raid456_dma_supported(void)
{
	return true;
}

/* Both sleep. Channels that are found may be used between the two. */
void raid456_dma_get(void)
{
	dmaengine_get();
}

void raid456_dma_put(void)
{
	dmaengine_put();
}

static enum dma_transaction_type raid456_dma_type(enum raid456_dma_kind kind)
{
	static const enum dma_transaction_type types[] = {
		[RAID456_DMA_COPY] = DMA_MEMCPY,
		[RAID456_DMA_XOR] = DMA_XOR,
		[RAID456_DMA_PQ] = DMA_PQ,
		[RAID456_DMA_XOR_VAL] = DMA_XOR_VAL,
		[RAID456_DMA_PQ_VAL] = DMA_PQ_VAL,
	};
	return types[kind];
}

struct dma_chan *raid456_dma_find(enum raid456_dma_kind kind)
{
	return dma_find_channel(raid456_dma_type(kind));
}

/* dmaengine_get_unmap_data() takes no more, and counts in bytes. */
static unsigned int raid456_dma_most_pages(void)
{
	return IS_ENABLED(CONFIG_DMA_ENGINE_RAID) ? 255 : 2;
}

static enum dma_ctrl_flags raid456_dma_flags(enum raid456_dma_kind kind, bool p, bool q, bool more)
{
	enum dma_ctrl_flags flags = DMA_CTRL_ACK;

	if (kind == RAID456_DMA_PQ || kind == RAID456_DMA_PQ_VAL) {
		flags |= p ? 0 : DMA_PREP_PQ_DISABLE_P;
		flags |= q ? 0 : DMA_PREP_PQ_DISABLE_Q;
	}
	if (kind == RAID456_DMA_PQ && more)
		flags |= DMA_PREP_CONTINUE;
	return flags;
}

/*
 * How many blocks one operation can read; what is made already, which it goes on with if `more`, is not counted. 0 if
 * the channel cannot do it.
 */
unsigned int raid456_dma_most_sources(struct dma_chan *chan, enum raid456_dma_kind kind, bool p, bool q, bool more)
{
	struct dma_device *device = chan->device;
	enum dma_ctrl_flags flags = raid456_dma_flags(kind, p, q, more);
	/* What is made, or compared, is mapped as well. */
	int most, pages = raid456_dma_most_pages() - p - q;

	if (!dma_has_cap(raid456_dma_type(kind), device->cap_mask))
		return 0;
	switch (kind) {
	case RAID456_DMA_COPY:
		most = more ? 0 : 1;
		break;
	case RAID456_DMA_XOR:
	case RAID456_DMA_XOR_VAL:
		most = min(pages, device->max_xor - more);
		/* There is no sum of one block. */
		most = most + more < 2 ? 0 : most;
		break;
	default:
		/* Counted by what there was to begin with where Q alone is gone on with, or both are. */
		most = dma_maxpq(device, flags);
	}
	return clamp_t(int, most, 0, pages);
}

bool raid456_dma_is_aligned(struct dma_chan *chan, enum raid456_dma_kind kind, size_t from, size_t to, size_t len)
{
	struct dma_device *device = chan->device;

	switch (kind) {
	case RAID456_DMA_COPY:
		return is_dma_copy_aligned(device, from, to, len);
	case RAID456_DMA_XOR:
	case RAID456_DMA_XOR_VAL:
		return is_dma_xor_aligned(device, from, to, len);
	default:
		return is_dma_pq_aligned(device, from, to, len);
	}
}

/*
 * The numbers in a channel's name. The name itself goes when the engine is taken away, before dmaengine stops to
 * show the channel; these are there as long as the channel is.
 */
int raid456_dma_engine_number(struct dma_chan *chan)
{
	return chan->device->dev_id;
}

int raid456_dma_channel_number(struct dma_chan *chan)
{
	return chan->chan_id;
}

/* Gives back what an operation has that has ended, or was not begun: what is mapped first, as that may change pages. */
static void raid456_dma_release(struct raid456_dma_flight *flight)
{
	unsigned int i;

	dmaengine_unmap_put(flight->unmap);
	for (i = 0; i < flight->count; i++)
		folio_put(page_folio(flight->from[i]));
	for (i = 0; i < 2; i++)
		if (flight->to[i])
			raid456_page_unhold(flight->to[i], true);
	kfree(flight);
}

static void raid456_dma_callback(void *data, const struct dmaengine_result *result)
{
	struct raid456_dma_flight *flight = data;
	raid456_dma_ended_t *ended = flight->ended;
	struct raid456_dma_end end = {
		.owner = flight->owner,
		.channel = (unsigned long)flight->chan,
		.ok = result->result == DMA_TRANS_NOERROR,
		.wrong_p = flight->wrong & SUM_CHECK_P_RESULT,
		.wrong_q = flight->wrong & SUM_CHECK_Q_RESULT,
	};

	raid456_dma_release(flight);
	/* Who hears of it may let go of the module, which waits for readers before it goes. */
	rcu_read_lock();
	ended(&end);
	rcu_read_unlock();
}

static bool raid456_dma_compares(const struct raid456_dma_op *op)
{
	return op->kind == RAID456_DMA_XOR_VAL || op->kind == RAID456_DMA_PQ_VAL;
}

/* Whether a page that is read can be kept. Memory of a request may be of a kind that cannot be: a slab's. */
bool raid456_dma_may_keep(const void *address)
{
	return folio_ref_count(page_folio(virt_to_page(address))) != 0;
}

/* Keeps a page that is read. */
static bool raid456_dma_keep(struct raid456_dma_flight *flight, const void *address)
{
	struct page *page = virt_to_page(address);

	if (!folio_try_get(page_folio(page)))
		return false;
	flight->from[flight->count++] = page;
	return true;
}

/*
 * Says who hears of a descriptor's end; nobody if there is no flight. Some drivers use descriptors again as they are,
 * with whom they have told before.
 */
static void raid456_dma_set_callback(struct dma_async_tx_descriptor *tx, struct raid456_dma_flight *flight)
{
	tx->callback = NULL;
	tx->callback_result = flight ? raid456_dma_callback : NULL;
	tx->callback_param = flight;
}

/* Takes what keeps the pages of an operation while it is under way. */
static struct raid456_dma_flight *raid456_dma_hold(const struct raid456_dma_op *op)
{
	struct raid456_dma_flight *flight;
	size_t size = struct_size(flight, from, op->count + 2);
	bool kept = true;
	unsigned int i;

	flight = raid456_take(size);
	if (!flight)
		return NULL;
	memset(flight, 0, size);
	flight->chan = op->chan;
	flight->ended = op->ended;
	flight->owner = op->owner;
	for (i = 0; kept && i < op->count; i++)
		kept = raid456_dma_keep(flight, op->from[i]);
	for (i = 0; kept && i < 2; i++) {
		if (!op->to[i])
			continue;
		/* What is compared is only read. */
		if (raid456_dma_compares(op)) {
			kept = raid456_dma_keep(flight, op->to[i]);
			continue;
		}
		raid456_page_hold(op->to[i], true);
		flight->to[i] = op->to[i];
	}
	if (kept)
		return flight;
	raid456_dma_release(flight);
	return NULL;
}

/* Maps a page for the engine, behind those that are mapped already. */
static bool raid456_dma_map(struct dmaengine_unmap_data *unmap, const void *address, enum dma_data_direction direction,
			    dma_addr_t *mapped)
{
	*mapped = dma_map_page(unmap->dev, virt_to_page(address), offset_in_page(address), unmap->len, direction);
	if (dma_mapping_error(unmap->dev, *mapped))
		return false;
	unmap->addr[unmap->to_cnt + unmap->bidi_cnt] = *mapped;
	if (direction == DMA_TO_DEVICE)
		unmap->to_cnt++;
	else
		unmap->bidi_cnt++;
	return true;
}

static struct dma_async_tx_descriptor *raid456_dma_prepare(const struct raid456_dma_op *op,
							   struct raid456_dma_flight *flight)
{
	enum dma_data_direction direction = raid456_dma_compares(op) ? DMA_TO_DEVICE : DMA_BIDIRECTIONAL;
	unsigned long flags = raid456_dma_flags(op->kind, op->to[0], op->to[1], op->more);
	struct dmaengine_unmap_data *unmap = flight->unmap;
	struct dma_device *device = op->chan->device;
	dma_addr_t from, to[2] = { 0, 0 };
	unsigned int i;

	unmap->len = op->len;
	if (!op->quiet)
		flags |= DMA_PREP_INTERRUPT;
	for (i = 0; i < op->count; i++)
		if (!raid456_dma_map(unmap, op->from[i], DMA_TO_DEVICE, &from))
			return NULL;
	for (i = 0; i < 2; i++)
		if (op->to[i] && !raid456_dma_map(unmap, op->to[i] + op->at, direction, &to[i]))
			return NULL;
	switch (op->kind) {
	case RAID456_DMA_COPY:
		return device->device_prep_dma_memcpy(op->chan, to[0], unmap->addr[0], op->len, flags);
	case RAID456_DMA_XOR:
		/* What it goes on with stands behind the sources, and is one of them then. */
		return device->device_prep_dma_xor(op->chan, to[0], unmap->addr, op->count + op->more, op->len, flags);
	case RAID456_DMA_PQ:
		return device->device_prep_dma_pq(op->chan, to, unmap->addr, op->count, op->factors, op->len, flags);
	case RAID456_DMA_XOR_VAL:
		return device->device_prep_dma_xor_val(op->chan, unmap->addr, op->count, op->len, &flight->wrong,
						       flags);
	default:
		return device->device_prep_dma_pq_val(op->chan, to, unmap->addr, op->count, op->factors, op->len,
						      &flight->wrong, flags);
	}
}

/*
 * Hands an operation to its channel. If it is taken, op->ended is called once, in any context, perhaps before this
 * returns; else this does nothing. Task context with interrupts on; does not sleep.
 */
enum raid456_dma_taken raid456_dma_submit(const struct raid456_dma_op *op)
{
	unsigned int pages = op->count + !!op->to[0] + !!op->to[1];
	struct raid456_dma_flight *flight = raid456_dma_hold(op);
	struct dma_async_tx_descriptor *tx;

	if (!flight)
		return RAID456_DMA_NOT_ASKED;
	/* It is a BUG() to ask for more. */
	if (pages <= raid456_dma_most_pages())
		flight->unmap = dmaengine_get_unmap_data(op->chan->device->dev, pages, GFP_NOWAIT);
	if (!flight->unmap) {
		raid456_dma_release(flight);
		return RAID456_DMA_NOT_ASKED;
	}
	tx = raid456_dma_prepare(op, flight);
	if (!tx) {
		raid456_dma_release(flight);
		return RAID456_DMA_REFUSED;
	}
	/* Not given to the descriptor: some drivers unmap only when they have told of the end. */
	raid456_dma_set_callback(tx, flight);
	/* An engine that takes back what it has prepared has an error of its own: what is kept stays so. */
	if (dma_submit_error(dmaengine_submit(tx)))
		pr_err_ratelimited("raid456: dma%dchan%d gave a descriptor, and does not take it\n",
				   raid456_dma_engine_number(op->chan), raid456_dma_channel_number(op->chan));
	return RAID456_DMA_TAKEN;
}

/*
 * Whether a channel can tell of all ends before a place in its queue at once. What it was asked to do without an
 * interrupt has its callback called then, with its own result: the interrupt stands for all, the callback for one.
 */
bool raid456_dma_tells(struct dma_chan *chan)
{
	struct dma_device *device = chan->device;

	return dma_has_cap(DMA_INTERRUPT, device->cap_mask) &&
	       !dma_has_cap(DMA_COMPLETION_NO_ORDER, device->cap_mask);
}

/*
 * Has a channel tell of all ends when it gets here. Returns false, and does nothing, if that cannot be. Context as for
 * raid456_dma_submit().
 */
bool raid456_dma_tell(struct dma_chan *chan)
{
	struct dma_async_tx_descriptor *tx;

	if (!raid456_dma_tells(chan))
		return false;
	tx = chan->device->device_prep_dma_interrupt(chan, DMA_PREP_INTERRUPT | DMA_CTRL_ACK);
	if (!tx)
		return false;
	raid456_dma_set_callback(tx, NULL);
	return !dma_submit_error(dmaengine_submit(tx));
}

/*
 * Has a channel's driver look what has ended: who is asked for the status of something that has not ended, as far as it
 * knows, finds out. Callbacks may come before this returns. Context as for raid456_dma_submit().
 */
void raid456_dma_look(struct dma_chan *chan)
{
	dma_cookie_t last = READ_ONCE(chan->cookie);

	if (last >= DMA_MIN_COOKIE)
		dma_async_is_tx_complete(chan, last, NULL, NULL);
}

/* Has a channel begin with what was submitted. */
void raid456_dma_issue(struct dma_chan *chan)
{
	dma_async_issue_pending(chan);
}

#else

bool raid456_dma_supported(void)
{
	return false;
}

void raid456_dma_get(void)
{
}

void raid456_dma_put(void)
{
}

struct dma_chan *raid456_dma_find(enum raid456_dma_kind kind)
{
	return NULL;
}

unsigned int raid456_dma_most_sources(struct dma_chan *chan, enum raid456_dma_kind kind, bool p, bool q, bool more)
{
	return 0;
}

bool raid456_dma_is_aligned(struct dma_chan *chan, enum raid456_dma_kind kind, size_t from, size_t to, size_t len)
{
	return false;
}

int raid456_dma_engine_number(struct dma_chan *chan)
{
	return 0;
}

int raid456_dma_channel_number(struct dma_chan *chan)
{
	return 0;
}

bool raid456_dma_may_keep(const void *address)
{
	return false;
}

enum raid456_dma_taken raid456_dma_submit(const struct raid456_dma_op *op)
{
	return RAID456_DMA_REFUSED;
}

bool raid456_dma_tells(struct dma_chan *chan)
{
	return false;
}

bool raid456_dma_tell(struct dma_chan *chan)
{
	return false;
}

void raid456_dma_look(struct dma_chan *chan)
{
}

void raid456_dma_issue(struct dma_chan *chan)
{
}

#endif

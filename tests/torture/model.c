// SPDX-License-Identifier: GPL-2.0
/*
 * What every sector of the device under test may hold.
 *
 * Each sector that is written says which write it belongs to: its first word has the sector's number and the write's time,
 * the others follow from that. A sector that was discarded is zeroes. The model keeps for each sector the writes that it may hold: those in flight, those that
 * ended without being overwritten, those that failed. A write that ended with success takes out all that had ended when it
 * began; with volatile caches that is lasting only if it was FUA or a flush began after its end.
 *
 * One lock guards it all: it is taken with interrupts off, since I/Os end in any context.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>

#include "check.h"

/* A row is what shares parity: a page of each member. */
#define STRIP	8
#define WORDS	(SECTOR_SIZE / sizeof(u64))
#define EVENTS	65536
#define SAID	4096

enum event_kind { WRITE_BEGIN, WRITE_END, WRITE_FAILED, READ_BEGIN, READ_END, READ_FAILED, FLUSH_BEGIN, FLUSH_END, CUT, SETTLE };

static const char * const event_names[] = {
	"write begins", "write ends", "write failed", "read begins", "read ends", "read failed", "flush begins", "flush ends",
	"power cut", "settled",
};

struct event {
	u64 ns;
	u32 clock;
	u32 sector;
	u16 count;
	u8 kind;
	u8 status;
};

struct model_shape shape;
static DEFINE_SPINLOCK(lock);	/* guards what follows */
static struct sector *table;
static u32 ticks;
static u32 flushed;		/* what ended before this is durable */
static struct event *events;
static u32 noted;
static u32 violations;
static u32 wrong_sector;	/* of the first violation */
static char said[SAID];
static u32 said_length;

static void note(enum event_kind kind, u32 sector, u32 count, u32 clock, blk_status_t status)
{
	/* After a violation what led to it is kept. */
	if (!violations)
		events[noted++ % EVENTS] = (struct event){ ktime_get_ns(), clock, sector, count, kind, (__force u8)status };
}

static void complain(u32 sector, const char *form, va_list words)
{
	if (!violations++)
		wrong_sector = sector;
	said_length += vscnprintf(said + said_length, SAID - said_length, form, words);
}

/* Notes that a rule was broken. */
void model_complain(u32 sector, const char *form, ...)
{
	unsigned long flags;
	va_list words;

	va_start(words, form);
	spin_lock_irqsave(&lock, flags);
	complain(sector, form, words);
	spin_unlock_irqrestore(&lock, flags);
	va_end(words);
}

u32 model_violations(void)
{
	return READ_ONCE(violations);
}

void model_free(void)
{
	vfree(table);
	vfree(events);
	table = NULL;
	events = NULL;
}

static struct value anything(void)
{
	ticks++;
	return (struct value){ .issued = ticks, .ended = ticks, .failed = true, .wild = true };
}

/* Begins anew: nothing is known of any sector. No I/O is in flight. */
int model_new(const struct model_shape *wanted)
{
	u32 i;

	model_free();
	shape = *wanted;
	table = vzalloc(array_size(shape.sectors, sizeof(*table)));
	events = vzalloc(array_size(EVENTS, sizeof(*events)));
	if (!table || !events) {
		model_free();
		return -ENOMEM;
	}
	ticks = 0;
	flushed = 0;
	noted = 0;
	violations = 0;
	said_length = 0;
	said[0] = 0;
	for (i = 0; i < shape.sectors; i++) {
		table[i].values[0] = anything();
		table[i].count = 1;
	}
	return 0;
}

static bool durable(const struct value *value)
{
	return !shape.cached || value->fua || value->ended < flushed;
}

/* Takes out of a sector what it can hold no more. */
static void drop(struct sector *sector)
{
	u32 i, k, kept = 0;

	for (i = 0; i < sector->count; i++) {
		struct value *old = &sector->values[i];
		bool gone = false;

		for (k = 0; k < sector->count && old->ended; k++) {
			const struct value *new = &sector->values[k];

			if (!new->ended || new->failed || new->issued < old->ended)
				continue;
			old->past = true;
			gone |= durable(new);
		}
		if (!gone)
			sector->values[kept++] = *old;
	}
	sector->count = kept;
}

/* A write is about to begin; false if a sector of it has too many possible values already. */
bool model_write_begin(u32 sector, u32 count, bool fua, bool zero, u32 *issued)
{
	unsigned long flags;
	bool room = true;
	u32 i;

	spin_lock_irqsave(&lock, flags);
	for (i = sector; i < sector + count; i++) {
		if (table[i].count == MAX_VALUES)
			drop(&table[i]);
		room &= table[i].count < MAX_VALUES;
	}
	if (room) {
		*issued = ++ticks;
		for (i = sector; i < sector + count; i++)
			table[i].values[table[i].count++] = (struct value){ .issued = *issued, .fua = fua, .zero = zero };
		for (i = sector; zero && i < sector + count; i++)
			WRITE_ONCE(table[i].zeroed, *issued);
		note(WRITE_BEGIN, sector, count, *issued, 0);
	}
	spin_unlock_irqrestore(&lock, flags);
	return room;
}

/* A write has ended. Without success the sectors may hold it or not. */
void model_write_end(u32 sector, u32 count, u32 issued, blk_status_t status)
{
	unsigned long flags;
	u32 i, k;

	spin_lock_irqsave(&lock, flags);
	ticks++;
	for (i = sector; i < sector + count; i++) {
		for (k = 0; k < table[i].count; k++) {
			if (table[i].values[k].issued != issued)
				continue;
			table[i].values[k].ended = ticks;
			table[i].values[k].failed = status;
		}
		drop(&table[i]);
	}
	note(status ? WRITE_FAILED : WRITE_END, sector, count, issued, status);
	spin_unlock_irqrestore(&lock, flags);
	if (status && status != BLK_STS_AGAIN && !shape.eio)
		model_complain(sector, "sectors %u..%u: a write failed (status %u) though there was redundancy enough\n",
			       sector, sector + count - 1, (__force u8)status);
}

static struct allowed may_hold(const struct sector *sector)
{
	struct allowed allowed = { .settled = true };
	u32 k;

	for (k = 0; k < sector->count; k++) {
		const struct value *value = &sector->values[k];

		if (value->past)
			continue;
		allowed.zeroes |= value->zero << allowed.count;
		allowed.issued[allowed.count++] = value->issued;
		allowed.wild |= value->wild;
		allowed.settled &= value->ended && (!value->failed || value->settled);
	}
	return allowed;
}

/* A read is about to begin: notes what it may return, and gives the time. */
u32 model_read_begin(u32 sector, u32 count, struct allowed *allowed)
{
	unsigned long flags;
	u32 i, began;

	spin_lock_irqsave(&lock, flags);
	began = ++ticks;
	for (i = 0; i < count; i++)
		allowed[i] = may_hold(&table[sector + i]);
	note(READ_BEGIN, sector, count, began, 0);
	spin_unlock_irqrestore(&lock, flags);
	return began;
}

void model_read_failed(u32 sector, u32 count, u32 began, blk_status_t status)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	note(READ_FAILED, sector, count, began, status);
	spin_unlock_irqrestore(&lock, flags);
	if (status != BLK_STS_AGAIN && !shape.eio)
		model_complain(sector, "sectors %u..%u: a read failed (status %u) though there was redundancy enough\n",
			       sector, sector + count - 1, (__force u8)status);
}

static u64 word_of(u64 first, u32 number)
{
	u64 word = (first ^ shape.seed) + (u64)number * 0x9e3779b97f4a7c15ull;

	word = (word ^ (word >> 29)) * 0xbf58476d1ce4e5b9ull;
	return word ^ (word >> 32);
}

/* The content of a sector that a write puts there. */
void model_fill(void *bytes, u32 sector, u32 issued)
{
	u64 *word = bytes;
	u32 i;

	word[0] = (u64)issued << 32 | sector;
	for (i = 1; i < WORDS; i++)
		word[i] = word_of(word[0], i);
}

/* Words of a sector that are not as its first word asks for. */
static u32 wrong_words(const u64 *word)
{
	u32 i, wrong = 0;

	for (i = 1; i < WORDS; i++)
		wrong += word[i] != word_of(word[0], i);
	return wrong;
}

static bool is_allowed(const struct allowed *allowed, u32 issued)
{
	u32 k;

	for (k = 0; k < allowed->count; k++)
		if (allowed->issued[k] == issued)
			return true;
	return false;
}

/* What two writes at a time left is known once it was read. */
static void narrow(u32 number, u32 issued, const struct allowed *then)
{
	struct sector *sector = &table[number];
	struct allowed now = may_hold(sector);
	u32 k, kept = 0;

	if (!then->settled || then->count < 2 || now.count != then->count || !now.settled ||
	    memcmp(now.issued, then->issued, sizeof(now.issued)))
		return;
	for (k = 0; k < sector->count; k++) {
		struct value *value = &sector->values[k];

		if (value->issued == issued) {
			value->failed = false;
		} else {
			value->past = true;
			if (!shape.cached)
				continue;
		}
		sector->values[kept++] = *value;
	}
	sector->count = kept;
}

/* Compares a sector that was read with what it may be. Not in interrupts: it takes its time. */
void model_verify(const void *bytes, u32 sector, u32 began, const struct allowed *allowed)
{
	const u64 *word = bytes;
	u32 issued = word[0] >> 32, wrong, k, length = 0;
	unsigned long flags;
	char list[MAX_VALUES * 12];

	if (allowed->wild)
		return;
	if (!memchr_inv(bytes, 0, SECTOR_SIZE)) {
		if (READ_ONCE(table[sector].zeroed) > began)
			return;
		/* Of two discards it cannot be told which one it is. */
		if (hweight8(allowed->zeroes) > 1 || (allowed->zeroes && allowed->count < 2))
			return;
		if (allowed->zeroes) {
			spin_lock_irqsave(&lock, flags);
			narrow(sector, allowed->issued[__ffs(allowed->zeroes)], allowed);
			spin_unlock_irqrestore(&lock, flags);
			return;
		}
	}
	wrong = wrong_words(word);
	if (!wrong && (u32)word[0] == sector && (issued > began || is_allowed(allowed, issued))) {
		if (allowed->count < 2)
			return;
		spin_lock_irqsave(&lock, flags);
		narrow(sector, issued, allowed);
		spin_unlock_irqrestore(&lock, flags);
		return;
	}
	for (k = 0; k < allowed->count; k++)
		length += scnprintf(list + length, sizeof(list) - length, " %u", allowed->issued[k]);
	if (wrong)
		model_complain(sector, "sector %u: read at %u: expected one of write%s, came garbage: %016llx %016llx %016llx, %u of %lu words wrong\n",
			       sector, began, list, word[0], word[1], word[2], wrong, WORDS - 1);
	else
		model_complain(sector, "sector %u: read at %u: expected one of write%s, came write %u of sector %u\n",
			       sector, began, list, issued, (u32)word[0]);
}

u32 model_flush_begin(void)
{
	unsigned long flags;
	u32 began;

	spin_lock_irqsave(&lock, flags);
	began = ++ticks;
	note(FLUSH_BEGIN, 0, 0, began, 0);
	spin_unlock_irqrestore(&lock, flags);
	return began;
}

void model_flush_end(u32 began, blk_status_t status)
{
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	ticks++;
	/* md says of a flush that it succeeded also if members failed it: where they may fail, that is no promise. */
	if (!status && !shape.eio)
		flushed = max(flushed, began);
	note(FLUSH_END, 0, 0, began, status);
	spin_unlock_irqrestore(&lock, flags);
	if (status && !shape.eio)
		model_complain(0, "a flush failed (status %u) though there was redundancy enough\n", (__force u8)status);
}

/* Whether more than one thing may be in a sector. */
static bool uncertain(const struct sector *sector)
{
	u32 k;

	for (k = 0; k < sector->count; k++)
		if (sector->values[k].failed)
			return true;
	return sector->count > 1;
}

/*
 * The power went, or too many members are gone: no I/O is in flight. What could be brought back may be there. With `hole`
 * parity is no help any more in rows where something is uncertain: all of such a row may be anything.
 */
void model_cut(bool hole)
{
	u32 i, k, d, stripe = shape.chunk * shape.data, rows = shape.sectors / stripe * shape.chunk;

	spin_lock_irq(&lock);
	note(CUT, 0, 0, ++ticks, 0);
	for (i = 0; i < shape.sectors; i++) {
		drop(&table[i]);
		for (k = 0; table[i].count > 1 && k < table[i].count; k++) {
			table[i].values[k].past = false;
			table[i].values[k].failed = true;
			table[i].values[k].settled = false;
		}
	}
	for (i = 0; hole && i < rows; i += STRIP) {
		u32 base = i / shape.chunk * stripe + i % shape.chunk;
		bool any = false;

		for (d = 0; d < shape.data; d++)
			for (k = 0; k < STRIP; k++)
				any |= uncertain(&table[base + d * shape.chunk + k]);
		for (d = 0; any && d < shape.data; d++)
			for (k = 0; k < STRIP; k++) {
				table[base + d * shape.chunk + k].values[0] = anything();
				table[base + d * shape.chunk + k].count = 1;
			}
	}
	spin_unlock_irq(&lock);
}

/* The array is in sync again, and no I/O is in flight: from now on each sector stays what it is. */
void model_settle(void)
{
	u32 i, k;

	spin_lock_irq(&lock);
	note(SETTLE, 0, 0, ++ticks, 0);
	for (i = 0; i < shape.sectors; i++)
		for (k = 0; k < table[i].count; k++)
			table[i].values[k].settled = !table[i].values[k].wild;
	spin_unlock_irq(&lock);
}

void model_show(struct seq_file *file)
{
	u32 i, unsure = 0, wild = 0;

	spin_lock_irq(&lock);
	for (i = 0; table && i < shape.sectors; i++) {
		unsure += uncertain(&table[i]);
		wild += may_hold(&table[i]).wild;
	}
	seq_printf(file, "violations %u\nuncertain %u\nwild %u\n%s", violations, unsure, wild, said);
	spin_unlock_irq(&lock);
}

/* What happened in the row where the first violation was. */
void model_history(struct seq_file *file)
{
	u32 at, stripe = shape.chunk * shape.data, low = wrong_sector % shape.chunk / STRIP * STRIP;

	if (!events)
		return;
	for (at = noted > EVENTS ? noted - EVENTS : 0; at < noted; at++) {
		const struct event *event = &events[at % EVENTS];
		u32 d, base = wrong_sector / stripe * stripe + low;
		bool hit = event->kind == CUT || event->kind == SETTLE;

		for (d = 0; d < shape.data; d++, base += shape.chunk)
			hit |= event->sector < base + STRIP && event->sector + event->count > base;
		if (hit)
			seq_printf(file, "%llu.%06llu %s at %u: %u +%u status %u\n", event->ns / NSEC_PER_SEC,
				   event->ns % NSEC_PER_SEC / NSEC_PER_USEC, event_names[event->kind], event->clock,
				   event->sector, event->count, event->status);
	}
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: what spans do, for trace-cmd, perf and bpftrace. See Documentation/tuning.md.
 *
 * dev is the array's device, sector the span's first sector on its members. Sets of strips are bits, the lowest for the
 * first strip.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM raid456

#if !defined(_RAID456_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _RAID456_TRACE_H

#include <linux/blkdev.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

#include "md.h"
#include "shim.h"

#ifndef RAID456_TRACE_NAMES
#define RAID456_TRACE_NAMES

static inline dev_t raid456_trace_dev(struct mddev *mddev)
{
	struct gendisk *disk = mddev->gendisk ?: mddev->dm_gendisk;

	return disk ? disk_devt(disk) : 0;
}

#define RAID456_EVENT_NAMES				\
	{ 1 << 0, "parts" },				\
	{ 1 << 1, "io" },				\
	{ 1 << 2, "job" },				\
	{ 1 << 3, "memory" },				\
	{ 1 << 4, "bitmap" },				\
	{ 1 << 5, "superblock" },			\
	{ 1 << 6, "flush" },				\
	{ 1 << 7, "unplug" }

#endif

TRACE_DEFINE_ENUM(RAID456_JOB_RMW);
TRACE_DEFINE_ENUM(RAID456_JOB_RCW);
TRACE_DEFINE_ENUM(RAID456_JOB_DATA);
TRACE_DEFINE_ENUM(RAID456_JOB_RECOVER);
TRACE_DEFINE_ENUM(RAID456_JOB_DELIVER);
TRACE_DEFINE_ENUM(RAID456_JOB_CHECK);
TRACE_DEFINE_ENUM(RAID456_JOB_PARITY);
TRACE_DEFINE_ENUM(RAID456_JOB_LOCATE);
TRACE_DEFINE_ENUM(RAID456_PARK_MEMORY);
TRACE_DEFINE_ENUM(RAID456_PARK_SUPERBLOCK);
TRACE_DEFINE_ENUM(RAID456_PARK_BITMAP);

DECLARE_EVENT_CLASS(raid456_span,
	TP_PROTO(struct mddev *mddev, u64 sector),
	TP_ARGS(mddev, sector),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, sector)
	),
	TP_fast_assign(
		__entry->dev = raid456_trace_dev(mddev);
		__entry->sector = sector;
	),
	TP_printk("%d,%d sector %llu", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->sector)
);

/* A span got work and had none. */
DEFINE_EVENT(raid456_span, span_begin,
	TP_PROTO(struct mddev *mddev, u64 sector),
	TP_ARGS(mddev, sector)
);

/* A span has nothing left to do. */
DEFINE_EVENT(raid456_span, span_end,
	TP_PROTO(struct mddev *mddev, u64 sector),
	TP_ARGS(mddev, sector)
);

/* A span took in events and went as far as it could: which strips are in which phase now. */
TRACE_EVENT(span_step,
	TP_PROTO(struct mddev *mddev, const struct raid456_step *step),
	TP_ARGS(mddev, step),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, sector)
		__field(u32, events)
		__field(u16, gathering)
		__field(u16, reading)
		__field(u16, computing)
		__field(u16, logging)
		__field(u16, writing)
	),
	TP_fast_assign(
		__entry->dev = raid456_trace_dev(mddev);
		__entry->sector = step->sector;
		__entry->events = step->events;
		__entry->gathering = step->gathering;
		__entry->reading = step->reading;
		__entry->computing = step->computing;
		__entry->logging = step->logging;
		__entry->writing = step->writing;
	),
	TP_printk("%d,%d sector %llu events %s gathering %04x reading %04x computing %04x logging %04x writing %04x",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->sector,
		  __print_flags(__entry->events, "|", RAID456_EVENT_NAMES), __entry->gathering, __entry->reading,
		  __entry->computing, __entry->logging, __entry->writing)
);

/* A job begins on some strips of a span: copies, parity, recovery, or a check. */
TRACE_EVENT(span_job,
	TP_PROTO(struct mddev *mddev, u64 sector, unsigned int job, unsigned int strips),
	TP_ARGS(mddev, sector, job, strips),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, sector)
		__field(unsigned int, job)
		__field(u16, strips)
	),
	TP_fast_assign(
		__entry->dev = raid456_trace_dev(mddev);
		__entry->sector = sector;
		__entry->job = job;
		__entry->strips = strips;
	),
	TP_printk("%d,%d sector %llu job %s strips %04x", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->sector,
		  __print_symbolic(__entry->job,
				   { RAID456_JOB_RMW, "rmw" },
				   { RAID456_JOB_RCW, "rcw" },
				   { RAID456_JOB_DATA, "data" },
				   { RAID456_JOB_RECOVER, "recover" },
				   { RAID456_JOB_DELIVER, "deliver" },
				   { RAID456_JOB_CHECK, "check" },
				   { RAID456_JOB_PARITY, "parity" },
				   { RAID456_JOB_LOCATE, "locate" }),
		  __entry->strips)
);

/* A span begins to wait. */
TRACE_EVENT(span_park,
	TP_PROTO(struct mddev *mddev, u64 sector, unsigned int reason),
	TP_ARGS(mddev, sector, reason),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, sector)
		__field(unsigned int, reason)
	),
	TP_fast_assign(
		__entry->dev = raid456_trace_dev(mddev);
		__entry->sector = sector;
		__entry->reason = reason;
	),
	TP_printk("%d,%d sector %llu for %s", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->sector,
		  __print_symbolic(__entry->reason,
				   { RAID456_PARK_MEMORY, "memory" },
				   { RAID456_PARK_SUPERBLOCK, "superblock" },
				   { RAID456_PARK_BITMAP, "bitmap" }))
);

#endif

/* The compiler looks for it beside the other headers of the shim. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE raid456_trace
#include <trace/define_trace.h>

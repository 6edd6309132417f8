// SPDX-License-Identifier: GPL-2.0
/*
 * Tracepoints. Rust looks whether one is on before it calls; without CONFIG_TRACEPOINTS all of this is nothing.
 */
/* First, as it brings other tracepoints' headers, and those are not to be created here. */
#include "shim.h"

#define CREATE_TRACE_POINTS
#include "raid456_trace.h"

void raid456_trace_span_begin(struct mddev *mddev, u64 sector)
{
	trace_span_begin(mddev, sector);
}

void raid456_trace_span_end(struct mddev *mddev, u64 sector)
{
	trace_span_end(mddev, sector);
}

void raid456_trace_span_step(struct mddev *mddev, const struct raid456_step *step)
{
	trace_span_step(mddev, step);
}

void raid456_trace_span_job(struct mddev *mddev, u64 sector, enum raid456_job job, unsigned int strips)
{
	trace_span_job(mddev, sector, job, strips);
}

void raid456_trace_span_park(struct mddev *mddev, u64 sector, enum raid456_park reason)
{
	trace_span_park(mddev, sector, reason);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads: the kernel's headers that kernel::bindings does not cover, and our shim's.
 */

#include "md.h"
#include "md-bitmap.h"
#include "raid5.h"

#include <linux/badblocks.h>
#include <linux/blk_types.h>
#include <linux/gfp.h>
#include <linux/raid/pq.h>
#include <linux/raid/xor.h>

#include "shim.h"

/* Macros that bindgen cannot evaluate. */
const blk_opf_t RAID456_REQ_SYNC = REQ_SYNC;
const blk_opf_t RAID456_REQ_FUA = REQ_FUA;
const blk_opf_t RAID456_REQ_PREFLUSH = REQ_PREFLUSH;
const blk_opf_t RAID456_REQ_RAHEAD = REQ_RAHEAD;
const blk_opf_t RAID456_REQ_NOWAIT = REQ_NOWAIT;

const blk_status_t RAID456_BLK_STS_OK = BLK_STS_OK;
const blk_status_t RAID456_BLK_STS_NOTSUPP = BLK_STS_NOTSUPP;
const blk_status_t RAID456_BLK_STS_IOERR = BLK_STS_IOERR;
const blk_status_t RAID456_BLK_STS_PROTECTION = BLK_STS_PROTECTION;
const blk_status_t RAID456_BLK_STS_AGAIN = BLK_STS_AGAIN;

const blk_features_t RAID456_BLK_FEAT_NOWAIT = BLK_FEAT_NOWAIT;
const blk_features_t RAID456_BLK_FEAT_STABLE_WRITES = BLK_FEAT_STABLE_WRITES;
const blk_features_t RAID456_BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE = BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE;

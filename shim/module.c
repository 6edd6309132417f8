// SPDX-License-Identifier: GPL-2.0
/*
 * What a module shows to the outside that Rust cannot say yet: a boolean parameter in sysfs, and exported functions
 * with the prototypes of drivers/md/raid5.h. dm-raid links to these.
 */
#include <linux/module.h>
#include <linux/slab.h>

#include "shim.h"

static bool devices_handle_discard_safely;
module_param(devices_handle_discard_safely, bool, 0644);
MODULE_PARM_DESC(devices_handle_discard_safely,
		 "Set to Y if all devices in each array reliably return zeroes on reads from discarded regions");

bool raid456_discard_is_safe(void)
{
	return READ_ONCE(devices_handle_discard_safely);
}

/* May sleep. */
struct raid456_private *raid456_private_alloc(void)
{
	struct raid456_private *private = raid456_alloc(sizeof(*private));

	if (private)
		memset(private, 0, sizeof(*private));
	return private;
}

void raid456_private_free(struct raid456_private *private)
{
	kfree(private);
}

void raid456_private_set_stripes(struct raid456_private *private, int min, int max)
{
	WRITE_ONCE(private->conf.min_nr_stripes, min);
	WRITE_ONCE(private->conf.max_nr_stripes, max);
}

/*
 * The private data of an array that one of this module's personalities runs; NULL if none does. It stays valid while
 * the caller holds reconfig_mutex or mddev->lock.
 *
 * md core sets ->pers and ->private together under both locks, or clears ->pers before it frees the private data. So a
 * personality of ours that is set means that the private data is ours too: after a level change it may not be.
 */
struct raid456_private *raid456_private_of(struct mddev *mddev)
{
	if (!mddev->pers || mddev->pers->head.owner != THIS_MODULE)
		return NULL;
	return mddev->private;
}

/* dm-raid calls these with reconfig_mutex held; they may sleep. */
int raid5_set_cache_size(struct mddev *mddev, int size)
{
	return raid456_rs_set_cache_size(mddev, size);
}
EXPORT_SYMBOL(raid5_set_cache_size);

int r5c_journal_mode_set(struct mddev *mddev, int mode)
{
	return raid456_rs_set_journal_mode(mddev, mode);
}
EXPORT_SYMBOL(r5c_journal_mode_set);

// SPDX-License-Identifier: GPL-2.0
/*
 * raid456_check: a load that knows what every read may return.
 *
 * What it knows outlives the device: an array may be stopped, assembled, lose its members or the power between two loads.
 *
 * Commands, written to the debugfs file raid456_check/command, one at a time:
 *   new sectors=N chunk=N data=N [block=BYTES] [cached=0|1] [seed=N]
 *               nothing is known of a device of N sectors; the array's chunk in sectors and its number of data members;
 *               cached: what was not flushed may be lost by a power cut
 *   eio 0|1     whether an I/O may fail from now on
 *   run dev=PATH rw=mix|fill|verify [jobs=N] [depth=N] [longest=SECTORS] [seed=N], and for a mix
 *       [reads=PERCENT] [fua=PERCENT] [discards=PERCENT] [nowait=PERCENT] [flush=PERMILLE] [pause=PERMILLE]
 *               begins a load in the background: of all sorts; writing everything once; reading everything once
 *   wait        waits for the end of a load that has one
 *   stop        ends a load and waits for its I/Os
 *   cut 0|1     the power went while no load ran, or too many members; 1: and parity is no help where a write was on its way
 *   settle      all is in sync again
 *
 * A write to it fails with EILSEQ once a rule was broken; ETIME if I/Os do not end. The file raid456_check/status tells
 * which rule; raid456_check/history what led to it in that row.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blkdev.h>
#include <linux/debugfs.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "check.h"

#define PATIENCE (30 * HZ)

static DEFINE_MUTEX(command_lock);	/* guards what follows */
static struct load load;
static struct job jobs[MAX_JOBS];
static struct file *opened;
static bool ready, running;
static u64 reads, writes, errors;
static struct dentry *folder;

struct word {
	const char *name;
	u32 *number;
	bool *flag;
	u32 low, high;
};

/* "name=value ..." into the places named. Words that start with "dev=" and "rw=" are left to the caller. */
static int parse(char *text, const struct word *words, u32 count, char **dev, char **rw, u64 *seed)
{
	char *name, *value;
	u32 number, i;

	while ((name = strsep(&text, " \t\n"))) {
		if (!*name)
			continue;
		value = strchr(name, '=');
		if (!value)
			return -EINVAL;
		*value++ = 0;
		if (!strcmp(name, "dev")) {
			*dev = value;
			continue;
		}
		if (!strcmp(name, "rw")) {
			*rw = value;
			continue;
		}
		if (!strcmp(name, "seed")) {
			if (kstrtou64(value, 0, seed))
				return -EINVAL;
			continue;
		}
		for (i = 0; i < count && strcmp(words[i].name, name); i++)
			;
		if (i == count || kstrtou32(value, 0, &number) || number < words[i].low || number > words[i].high) {
			pr_err("%s=%s is not understood\n", name, value);
			return -EINVAL;
		}
		if (words[i].flag)
			*words[i].flag = number;
		else
			*words[i].number = number;
	}
	return 0;
}

static int make_new(char *text)
{
	struct model_shape wanted = { .block = SECTOR_SIZE, .seed = 1 };
	const struct word words[] = {
		{ "sectors", .number = &wanted.sectors, .low = 8, .high = 1u << 24 },
		{ "chunk", .number = &wanted.chunk, .low = 8, .high = 1u << 16 },
		{ "data", .number = &wanted.data, .low = 1, .high = 256 },
		{ "block", .number = &wanted.block, .low = SECTOR_SIZE, .high = PAGE_SIZE },
		{ "cached", .flag = &wanted.cached, .high = 1 },
	};
	char *dev, *rw;
	int ret = parse(text, words, ARRAY_SIZE(words), &dev, &rw, &wanted.seed);

	if (ret)
		return ret;
	if (!wanted.sectors || !wanted.chunk || !wanted.data || wanted.chunk % 8 ||
	    wanted.sectors % (wanted.chunk * wanted.data))
		return -EINVAL;
	ret = model_new(&wanted);
	ready = !ret;
	return ret;
}

/* Waits for the jobs' ends, and lets go of the device. */
static int finish(void)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < load.jobs; i++) {
		while (!wait_for_completion_timeout(&jobs[i].ended, PATIENCE)) {
			/* Going over everything may take its time. */
			job_show_pending(&jobs[i]);
			if (model_violations())
				return -ETIME;
		}
	}
	/* No end of an I/O is still at work on a job. */
	synchronize_rcu();
	for (i = 0; i < load.jobs; i++) {
		kthread_stop(jobs[i].task);
		reads += jobs[i].reads;
		writes += jobs[i].writes;
		errors += jobs[i].errors;
		job_free(&jobs[i]);
	}
	bdev_fput(opened);
	running = false;
	return ret;
}

static int begin(char *text)
{
	const struct word words[] = {
		{ "jobs", .number = &load.jobs, .low = 1, .high = MAX_JOBS },
		{ "depth", .number = &load.depth, .low = 1, .high = MAX_DEPTH },
		{ "longest", .number = &load.longest, .low = 8, .high = MAX_IO_SECTORS },
		{ "reads", .number = &load.reads, .high = 100 },
		{ "fua", .number = &load.fua, .high = 100 },
		{ "discards", .number = &load.discards, .high = 100 },
		{ "nowait", .number = &load.nowait, .high = 100 },
		{ "flush", .number = &load.flush, .high = 1000 },
		{ "pause", .number = &load.pause, .high = 1000 },
	};
	char *dev = NULL, *rw = "mix";
	u32 i, made = 0;
	int ret;

	if (!ready)
		return -ENODATA;
	if (running)
		return -EBUSY;
	load = (struct load){ .jobs = 1, .depth = 16, .longest = 128, .reads = 50, .seed = 1 };
	ret = parse(text, words, ARRAY_SIZE(words), &dev, &rw, &load.seed);
	if (ret || !dev)
		return -EINVAL;
	load.kind = !strcmp(rw, "fill") ? JOB_FILL : !strcmp(rw, "verify") ? JOB_VERIFY : JOB_MIX;
	opened = bdev_file_open_by_path(dev, BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
	if (IS_ERR(opened))
		return PTR_ERR(opened);
	load.bdev = file_bdev(opened);
	if (bdev_nr_sectors(load.bdev) < shape.sectors) {
		bdev_fput(opened);
		return -ENXIO;
	}
	for (; made < load.jobs && !ret; made++) {
		ret = job_init(&jobs[made], &load, made);
		if (ret)
			continue;
		jobs[made].task = kthread_create(job_thread, &jobs[made], "raid456_check/%u", made);
		if (IS_ERR(jobs[made].task))
			ret = PTR_ERR(jobs[made].task);
	}
	if (ret) {
		for (i = 0; i < made; i++) {
			if (!IS_ERR_OR_NULL(jobs[i].task))
				kthread_stop(jobs[i].task);
			job_free(&jobs[i]);
		}
		bdev_fput(opened);
		return ret;
	}
	running = true;
	for (i = 0; i < load.jobs; i++)
		wake_up_process(jobs[i].task);
	return 0;
}

static int obey(char *text)
{
	char *word = strsep(&text, " \t\n");
	bool idle = !running && ready;
	int ret = 0;

	if (!strcmp(word, "new") && text && !running)
		return make_new(text);
	if (!strcmp(word, "run") && text) {
		ret = begin(text);
	} else if (!strcmp(word, "stop") || !strcmp(word, "wait")) {
		if (*word == 's')
			WRITE_ONCE(load.stop, true);
		ret = running ? finish() : 0;
	} else if (!strcmp(word, "eio") && text) {
		WRITE_ONCE(shape.eio, *text == '1');
	} else if (!strcmp(word, "cut") && text && idle) {
		model_cut(*text == '1');
	} else if (!strcmp(word, "settle") && idle) {
		model_settle();
	} else {
		return -EINVAL;
	}
	return ret ?: model_violations() ? -EILSEQ : 0;
}

static ssize_t command_write(struct file *file, const char __user *from, size_t bytes, loff_t *place)
{
	char *text;
	int ret;

	if (bytes > 500)
		return -E2BIG;
	text = memdup_user_nul(from, bytes);
	if (IS_ERR(text))
		return PTR_ERR(text);
	mutex_lock(&command_lock);
	ret = obey(text);
	mutex_unlock(&command_lock);
	kfree(text);
	return ret ?: bytes;
}

static const struct file_operations command_operations = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = command_write,
};

static int status_show(struct seq_file *file, void *unused)
{
	u32 i, pending = 0;

	mutex_lock(&command_lock);
	for (i = 0; running && i < load.jobs; i++)
		pending += job_pending(&jobs[i]);
	seq_printf(file, "running %d\npending %u\nreads %llu\nwrites %llu\nerrors %llu\n", running, pending, reads, writes,
		   errors);
	model_show(file);
	mutex_unlock(&command_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(status);

static int history_show(struct seq_file *file, void *unused)
{
	mutex_lock(&command_lock);
	if (ready)
		model_history(file);
	mutex_unlock(&command_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(history);

static int __init check_init(void)
{
	folder = debugfs_create_dir("raid456_check", NULL);
	debugfs_create_file("command", 0200, folder, NULL, &command_operations);
	debugfs_create_file("status", 0400, folder, NULL, &status_fops);
	debugfs_create_file("history", 0400, folder, NULL, &history_fops);
	return PTR_ERR_OR_ZERO(folder);
}
module_init(check_init);

static void __exit check_exit(void)
{
	debugfs_remove(folder);
	WRITE_ONCE(load.stop, true);
	if (running)
		finish();
	model_free();
}
module_exit(check_exit);

MODULE_DESCRIPTION("A load that knows what every read may return, for tests of raid456");
MODULE_LICENSE("GPL");

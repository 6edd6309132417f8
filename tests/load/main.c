// SPDX-License-Identifier: GPL-2.0
/*
 * A load generator inside the kernel: what a block device delivers, without the cost of system calls.
 *
 *   echo "dev=/dev/md0 rw=randwrite bs=4k depth=64 jobs=1 seconds=2" >/sys/kernel/debug/raid456_load/run
 *   cat /sys/kernel/debug/raid456_load/result
 *
 * The write returns when the load is over; a signal ends it early, and what was measured until then stands. `result` is
 * JSON. The words:
 *
 *   dev=PATH      the block device
 *   rw=KIND       read, write, randread, randwrite; rw, randrw: both kinds, mixed
 *   mix=PERCENT   of reads, for rw and randrw; default 50
 *   bs=BYTES      k, m, g as usual, here and below; default 4k
 *   depth=N       I/Os in flight, of each job; default 64
 *   jobs=N        submitting threads; default 1
 *   batch=N       a job that has nothing to submit sleeps until N of its I/Os are done; default 1
 *   plug=0|1      a job submits what it has in one plug; default 1
 *   pin=0|1       job N stays on processor N modulo their number; default 0
 *   stream=KIND   sequential: own, each job has its part of the range; shared: they take turns in one; default own
 *   offset=BYTES size=BYTES   the range; default all of the device
 *   period=BYTES step=BYTES count=N length=BYTES   in each period of the range only `count` runs of `length`, `step`
 *                 apart: so only chunks of one member can be read
 *   sync=0|1 fua=0|1   writes' flags; default 1 (as O_DIRECT), 0
 *   slab=0|1      1: the data is in memory of kmalloc(), whose pages nobody can hold; default 0
 *   clock=0|1     0: no latencies are taken, which saves reading the clock; default 1
 *   seconds=S     decimals allowed; default 1 unless ios is given
 *   ios=N         ends after so many I/Os of all jobs
 *   seed=N        of addresses and data
 *   profile=NS    takes a profile: see profile.c
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/kernel_stat.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/timex.h>
#include <linux/uaccess.h>

#include "load.h"

/* What the last run gave. */
struct load_result {
	bool valid;
	u32 jobs;
	u64 bs;
	u64 reads, writes, errors;
	u64 elapsed_ns;
	u64 cpu_ns;
	u64 cycles;		/* of the time stamp counter: under qemu's -icount, instructions */
	u64 latency_mean, latency_max;
	u64 percentile[5];
};

static const struct {
	const char *name;
	u32 per_myriad;
} percentiles[] = {
	{ "p50_ns", 5000 }, { "p90_ns", 9000 }, { "p99_ns", 9900 }, { "p999_ns", 9990 }, { "p9999_ns", 9999 },
};

static DEFINE_MUTEX(load_lock);	/* one run at a time; guards `result` */
static struct load_result result;
static struct dentry *folder;

/*
 * CPU time that was used. In UML the tick cannot tell it (an idle processor is seldom idle for a tick), but the host
 * knows what the whole kernel, one process there, has used. Elsewhere: what was not idle.
 */
static u64 cpu_time_ns(void)
{
#ifdef CONFIG_UML
	struct __kernel_timespec time = {};
	long ret;

	asm volatile("syscall" : "=a" (ret) : "0" (228L /* clock_gettime */), "D" (2L /* of the process */), "S" (&time)
		     : "rcx", "r11", "memory");
	return ret ? 0 : time.tv_sec * NSEC_PER_SEC + time.tv_nsec;
#else
	u64 idle = 0;
	int cpu;

	for_each_online_cpu(cpu)
		idle += (get_cpu_idle_time_us(cpu, NULL) + get_cpu_iowait_time_us(cpu, NULL)) * NSEC_PER_USEC;
	return ktime_get_ns() * num_online_cpus() - idle;
#endif
}

static int parse_number(const char *text, u64 *number)
{
	char *end;

	*number = memparse(text, &end);
	return *end || end == text ? -EINVAL : 0;
}

/* "2", "0.25" */
static int parse_seconds(char *text, u64 *ns)
{
	char *fraction = strchr(text, '.');
	u64 unit = NSEC_PER_SEC, seconds = 0;

	if (fraction)
		*fraction++ = 0;
	if (*text && kstrtou64(text, 10, &seconds))
		return -EINVAL;
	if (seconds > 86400)
		return -ERANGE;
	*ns = seconds * NSEC_PER_SEC;
	for (; fraction && *fraction; fraction++) {
		if (!isdigit(*fraction))
			return -EINVAL;
		unit = div_u64(unit, 10);
		*ns += unit * (*fraction - '0');
	}
	return 0;
}

static int parse_kind(struct load_request *request, const char *text)
{
	static const struct {
		const char *name;
		bool random;
		u32 mix;
	} kinds[] = {
		{ "read", false, 100 }, { "write", false, 0 }, { "rw", false, 50 },
		{ "randread", true, 100 }, { "randwrite", true, 0 }, { "randrw", true, 50 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i].name, text))
			continue;
		request->random = kinds[i].random;
		request->mix = kinds[i].mix;
		return 0;
	}
	return -EINVAL;
}

static int parse_word(struct load_request *request, const char *name, char *value)
{
	const struct {
		const char *name;
		u64 *wide;
		u32 *number;
		bool *flag;
	} words[] = {
		{ "bs", .wide = &request->bs }, { "offset", .wide = &request->offset },
		{ "size", .wide = &request->size },
		{ "period", .wide = &request->period }, { "step", .wide = &request->step },
		{ "count", .wide = &request->count }, { "length", .wide = &request->length },
		{ "ios", .wide = &request->ios }, { "seed", .wide = &request->seed },
		{ "profile", .wide = &request->profile },
		{ "mix", .number = &request->mix }, { "depth", .number = &request->depth },
		{ "jobs", .number = &request->jobs }, { "batch", .number = &request->batch },
		{ "plug", .flag = &request->plug }, { "pin", .flag = &request->pin },
		{ "sync", .flag = &request->sync }, { "fua", .flag = &request->fua },
		{ "clock", .flag = &request->clock }, { "slab", .flag = &request->slab },
	};
	u64 number;
	int i;

	if (!strcmp(name, "dev"))
		return strscpy(request->dev, value, sizeof(request->dev)) < 0 ? -ENAMETOOLONG : 0;
	if (!strcmp(name, "rw"))
		return parse_kind(request, value);
	if (!strcmp(name, "seconds"))
		return parse_seconds(value, &request->seconds_ns);
	if (!strcmp(name, "stream")) {
		request->shared = !strcmp(value, "shared");
		return request->shared || !strcmp(value, "own") ? 0 : -EINVAL;
	}
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(words[i].name, name))
			continue;
		if (parse_number(value, &number))
			return -EINVAL;
		if (words[i].wide)
			*words[i].wide = number;
		else if (number > (words[i].flag ? 1 : U32_MAX))
			return -ERANGE;
		else if (words[i].flag)
			*words[i].flag = number;
		else
			*words[i].number = number;
		return 0;
	}
	return -EINVAL;
}

static int parse(struct load_request *request, char *text)
{
	char *word, *value;
	int ret;

	*request = (struct load_request){
		.bs = SZ_4K, .depth = 64, .jobs = 1, .batch = 1, .plug = true, .sync = true, .clock = true, .seed = 1,
	};
	while ((word = strsep(&text, " \t\n"))) {
		if (!*word)
			continue;
		value = strchr(word, '=');
		if (value)
			*value++ = 0;
		ret = value ? parse_word(request, word, value) : -EINVAL;
		if (ret) {
			pr_err("%s=%s is not understood\n", word, value ?: "");
			return ret;
		}
	}
	if (!request->seconds_ns && !request->ios)
		request->seconds_ns = NSEC_PER_SEC;
	if (!*request->dev || !in_range(request->jobs, 1, LOAD_MAX_JOBS) ||
	    !in_range(request->depth, 1, LOAD_MAX_DEPTH) ||
	    !in_range(request->bs, SECTOR_SIZE, LOAD_MAX_BS) || request->bs % SECTOR_SIZE || !request->batch ||
	    request->batch > request->depth || request->mix > 100 || request->ios > U32_MAX) {
		pr_err("a value is out of range\n");
		return -ERANGE;
	}
	return 0;
}

/* Which blocks there are, once the device is known. */
static int find_addresses(struct load_run *run)
{
	struct load_request *request = &run->request;
	struct load_addresses *set = &run->addresses;
	u64 end = bdev_nr_bytes(run->bdev);

	if (request->offset > end || request->size > end - request->offset)
		return -ENXIO;
	if (!request->size)
		request->size = end - request->offset;
	if ((request->offset | request->period | request->step) % bdev_logical_block_size(run->bdev) ||
	    request->bs % bdev_logical_block_size(run->bdev))
		return -EINVAL;
	if (request->period) {
		request->length = request->length ?: request->bs;
		request->count = request->count ?: 1;
		set->per_run = div64_u64(request->length, request->bs);
		set->per_period = set->per_run * request->count;
		set->blocks = div64_u64(request->size, request->period) * set->per_period;
		if (request->count > request->period || request->length > request->period ||
		    (request->count > 1 && request->step > request->period) ||
		    (request->count - 1) * request->step + request->length > request->period)
			return -EINVAL;
	} else {
		set->blocks = div64_u64(request->size, request->bs);
	}
	return set->blocks < request->jobs ? -ENXIO : 0;
}

static void summarise(struct load_run *run, struct load_job *jobs, u64 cpu_ns, u64 used_cycles)
{
	u64 total, sum = 0, seen = 0;
	u32 i, bucket, at = 0;

	result = (struct load_result){ .valid = true, .jobs = run->request.jobs, .bs = run->request.bs,
				       .cpu_ns = cpu_ns, .cycles = used_cycles };
	for (i = 0; i < run->request.jobs; i++) {
		result.reads += jobs[i].reads;
		result.writes += jobs[i].writes;
		result.errors += jobs[i].errors;
		result.elapsed_ns = max(result.elapsed_ns, jobs[i].end_ns - run->begin_ns);
		result.latency_max = max(result.latency_max, jobs[i].latency_max);
		sum += jobs[i].latency_sum;
	}
	total = result.reads + result.writes;
	if (!run->request.clock || !total)
		return;
	result.latency_mean = div64_u64(sum, total);
	for (bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
		for (i = 0; i < run->request.jobs; i++)
			seen += jobs[i].histogram[bucket];
		while (at < ARRAY_SIZE(percentiles) && seen * 10000 >= total * percentiles[at].per_myriad)
			result.percentile[at++] = load_bucket_ns(bucket);
	}
}

/* Runs the threads until they are done. */
static int run_jobs(struct load_run *run, struct load_job *jobs)
{
	u64 cpu_ns, used_cycles;
	bool interrupted = false;
	u32 i, made = 0;
	int ret = 0;

	for (; made < run->request.jobs; made++) {
		struct task_struct *task = kthread_create(load_job_thread, &jobs[made], "raid456_load/%u", made);

		if (IS_ERR(task)) {
			ret = PTR_ERR(task);
			WRITE_ONCE(run->stop, true);
			break;
		}
		jobs[made].task = task;
		if (run->request.pin)
			kthread_bind(task, cpumask_nth(made % num_online_cpus(), cpu_online_mask));
	}
	if (run->request.profile)
		ret = ret ?: load_profile_start(max(run->request.profile, NSEC_PER_USEC));
	cpu_ns = cpu_time_ns();
	used_cycles = get_cycles();
	run->begin_ns = ktime_get_ns();
	run->deadline_ns = run->request.seconds_ns ? run->begin_ns + run->request.seconds_ns : U64_MAX;
	for (i = 0; i < made; i++)
		wake_up_process(jobs[i].task);
	for (i = 0; i < made; i++) {
		if (!wait_for_completion_interruptible(&jobs[i].ended))
			continue;
		WRITE_ONCE(run->stop, true);
		interrupted = true;
		wait_for_completion(&jobs[i].ended);
	}
	cpu_ns = cpu_time_ns() - cpu_ns;
	used_cycles = get_cycles() - used_cycles;
	if (run->request.profile && !ret)
		load_profile_stop();
	/* No completion is still at work on a job. */
	synchronize_rcu();
	for (i = 0; i < made; i++)
		kthread_stop(jobs[i].task);
	if (ret)
		return ret;
	summarise(run, jobs, cpu_ns, used_cycles);
	return interrupted ? -EINTR : result.errors ? -EIO : 0;
}

static int load(struct load_run *run)
{
	struct load_job *jobs;
	struct file *file;
	u32 i;
	int ret;

	file = bdev_file_open_by_path(run->request.dev, BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
	if (IS_ERR(file))
		return PTR_ERR(file);
	run->bdev = file_bdev(file);
	ret = find_addresses(run);
	if (ret)
		goto close;
	jobs = kcalloc(run->request.jobs, sizeof(*jobs), GFP_KERNEL);
	if (!jobs) {
		ret = -ENOMEM;
		goto close;
	}
	for (i = 0; i < run->request.jobs && !ret; i++)
		ret = load_job_init(&jobs[i], run, i);
	if (!ret)
		ret = run_jobs(run, jobs);
	while (i-- > 0)
		load_job_free(&jobs[i]);
	kfree(jobs);
close:
	bdev_fput(file);
	return ret;
}

static ssize_t run_write(struct file *file, const char __user *from, size_t bytes, loff_t *at)
{
	struct load_run *run;
	char *text;
	int ret;

	if (bytes > 1000)
		return -E2BIG;
	text = memdup_user_nul(from, bytes);
	if (IS_ERR(text))
		return PTR_ERR(text);
	run = kzalloc_obj(*run);
	ret = run ? parse(&run->request, text) : -ENOMEM;
	if (!ret)
		ret = mutex_lock_interruptible(&load_lock);
	if (!ret) {
		result.valid = false;
		ret = load(run);
		mutex_unlock(&load_lock);
	}
	kfree(run);
	kfree(text);
	return ret ?: bytes;
}

static const struct file_operations run_operations = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = run_write,
};

static int result_show(struct seq_file *file, void *unused)
{
	u64 ios, ns;
	int i, ret;

	ret = mutex_lock_interruptible(&load_lock);
	if (ret)
		return ret;
	if (!result.valid) {
		mutex_unlock(&load_lock);
		return -ENODATA;
	}
	ios = result.reads + result.writes;
	ns = max(result.elapsed_ns, 1);
	seq_printf(file, "{\"reads\": %llu, \"writes\": %llu, \"errors\": %llu, \"elapsed_ns\": %llu, ",
		   result.reads, result.writes, result.errors, result.elapsed_ns);
	seq_printf(file, "\"iops\": %llu, \"mb_per_s\": %llu, ", mul_u64_u64_div_u64(ios, NSEC_PER_SEC, ns),
		   mul_u64_u64_div_u64(ios * result.bs, 1000, ns));
	seq_printf(file, "\"cpus\": %u, \"cpu_ns\": %llu, \"cpu_ns_per_io\": %llu, \"cycles\": %llu, ",
		   num_online_cpus(), result.cpu_ns, ios ? div64_u64(result.cpu_ns, ios) : 0, result.cycles);
	for (i = 0; i < ARRAY_SIZE(percentiles); i++)
		seq_printf(file, "\"%s\": %llu, ", percentiles[i].name, result.percentile[i]);
	seq_printf(file, "\"mean_ns\": %llu, \"max_ns\": %llu}\n", result.latency_mean, result.latency_max);
	mutex_unlock(&load_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(result);

static int profile_show(struct seq_file *file, void *unused)
{
	int ret = mutex_lock_interruptible(&load_lock);

	if (ret)
		return ret;
	load_profile_show(file);
	mutex_unlock(&load_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(profile);

static int __init load_init(void)
{
	folder = debugfs_create_dir("raid456_load", NULL);
	debugfs_create_file("run", 0200, folder, NULL, &run_operations);
	debugfs_create_file("result", 0400, folder, NULL, &result_fops);
	debugfs_create_file("profile", 0400, folder, NULL, &profile_fops);
	return PTR_ERR_OR_ZERO(folder);
}
module_init(load_init);

static void __exit load_exit(void)
{
	debugfs_remove(folder);
	load_profile_free();
}
module_exit(load_exit);

MODULE_DESCRIPTION("Load generator for benchmarks and tests of raid456");
MODULE_LICENSE("GPL");

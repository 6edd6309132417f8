// SPDX-License-Identifier: GPL-2.0
/*
 * raid456_disks: disks of memory, /dev/frail0, frail1, ..., that go wrong when they are told to.
 *
 * Parameters:
 *   count=N mib=N      how many, and their size
 *   cached=0|1         they have a volatile cache: what was not flushed may be lost when the power goes, each sector for
 *                      itself
 *   late=0|1           0: an I/O ends before submit_bio() returns. 1: later, in any order, half of them with interrupts off
 *   block=BYTES        logical block size
 *   segments=N         pieces of memory that an I/O may have; the block layer sends more as several
 *   largest=SECTORS    that an I/O may have, for whoever asks; 0: what the block layer thinks that is
 *   erase=0|1          they offer secure erases, which make zeroes
 *
 * Commands, written to the debugfs file raid456_disks/command:
 *   power off SEED     all disks at one moment: what is in the caches, and what is on its way, is written or lost, sector by
 *                      sector as SEED has it; every I/O fails from then on
 *   power on
 *   dead N 0|1         everything fails on disk N
 *   hold N 0|1|2       1: nothing ends on disk N until it is let go again; 2: no write does (late disks only)
 *   slow N 0|1         disk N takes much longer than others (late disks only)
 *   unreadable N S C   C sectors from S on cannot be read until they are written
 *   rot N 0|1          what cannot be read ends as a wrong checksum does (BLK_STS_PROTECTION)
 *   reject N 0|1       flushes of disk N, alone or before a write, end with BLK_STS_TARGET, as on a SCSI disk with a hardware error
 *   refuse N S C       C sectors from S on take no writes; C = 0: all are taken again
 *   lose N             N bytes of memory are taken, say "lost on purpose", and are forgotten: who looks for leaks has to find them
 *   garbage N SEED     everything on disk N becomes something else; its ends, where metadata lies, become ones
 *
 * The file raid456_disks/status has a line for each disk.
 *
 * Locks: power_lock, then a disk's lock. A transfer holds power_lock shared, so a cut is one moment for all disks.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bio.h>
#include <linux/bitmap.h>
#include <linux/blkdev.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#define MAX_DISKS	32
#define PER_ROUND	64
#define METADATA	1024	/* sectors at both ends */
#define HOLDS_ALL	1
#define HOLDS_WRITES	2

struct frail {
	struct gendisk *gendisk;
	spinlock_t lock;		/* guards the rest */
	u8 *data;			/* what reads return */
	u8 *durable;			/* what a cut may go back to; NULL without a cache */
	unsigned long *unflushed;	/* sectors that differ there */
	unsigned long *unreadable;
	sector_t refused, refused_end;
	bool dead, slow, rejects, rots;
	u8 held;
	struct bio_list waiting;
	u64 reads, writes, errors;
};

static unsigned int count = 8;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many disks");
static unsigned int mib = 16;
module_param(mib, uint, 0444);
MODULE_PARM_DESC(mib, "size of each");
static bool cached;
module_param(cached, bool, 0444);
MODULE_PARM_DESC(cached, "they have volatile caches");
static bool late;
module_param(late, bool, 0444);
MODULE_PARM_DESC(late, "they answer later, in any order");
static unsigned int block = SECTOR_SIZE;
module_param(block, uint, 0444);
MODULE_PARM_DESC(block, "logical block size");
static unsigned int segments = USHRT_MAX;
module_param(segments, uint, 0444);
MODULE_PARM_DESC(segments, "pieces of memory that an I/O may have");
static unsigned int largest;
module_param(largest, uint, 0444);
MODULE_PARM_DESC(largest, "sectors that an I/O may have");
static bool erase;
module_param(erase, bool, 0444);
MODULE_PARM_DESC(erase, "they offer secure erases");

static struct frail *disks;
static sector_t sectors;
static DEFINE_RWLOCK(power_lock);
static bool powered = true;
static struct task_struct *server;
static DECLARE_WAIT_QUEUE_HEAD(arrived);
static struct dentry *folder;

static u8 *at(u8 *bytes, sector_t sector)
{
	return bytes + (sector << SECTOR_SHIFT);
}

/* The disk's lock is held: writes the cache out. */
static void flush(struct frail *disk)
{
	unsigned long sector;

	if (!disk->durable)
		return;
	for_each_set_bit(sector, disk->unflushed, sectors)
		memcpy(at(disk->durable, sector), at(disk->data, sector), SECTOR_SIZE);
	bitmap_zero(disk->unflushed, sectors);
}

/* The disk's lock is held: moves the bio's data, or the sectors of it that `rnd` chooses. */
static void copy(struct frail *disk, struct bio *bio, struct rnd_state *rnd)
{
	bool write = op_is_write(bio_op(bio));
	struct bvec_iter iter;
	struct bio_vec vec;
	sector_t zero;
	u32 offset;

	if (bio_op(bio) == REQ_OP_DISCARD || bio_op(bio) == REQ_OP_SECURE_ERASE) {
		for (zero = bio->bi_iter.bi_sector; zero < bio_end_sector(bio); zero++)
			if (!rnd || !(prandom_u32_state(rnd) & 1))
				memset(at(disk->data, zero), 0, SECTOR_SIZE);
		return;
	}
	bio_for_each_segment(vec, bio, iter) {
		u8 *memory = bvec_kmap_local(&vec);

		for (offset = 0; offset < vec.bv_len; offset += SECTOR_SIZE) {
			sector_t sector = iter.bi_sector + (offset >> SECTOR_SHIFT);

			if (rnd && prandom_u32_state(rnd) & 1)
				continue;
			if (write)
				memcpy(at(disk->data, sector), memory + offset, SECTOR_SIZE);
			else
				memcpy(memory + offset, at(disk->data, sector), SECTOR_SIZE);
		}
		kunmap_local(memory);
	}
}

/* power_lock and the disk's lock are held. */
static blk_status_t transfer(struct frail *disk, struct bio *bio)
{
	sector_t begin = bio->bi_iter.bi_sector, end = bio_end_sector(bio);

	if (!powered || disk->dead)
		return BLK_STS_IOERR;
	if (bio->bi_opf & REQ_PREFLUSH) {
		if (disk->rejects)
			return BLK_STS_TARGET;
		flush(disk);
	}
	if (!bio_sectors(bio))
		return BLK_STS_OK;
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		disk->reads++;
		if (find_next_bit(disk->unreadable, end, begin) < end)
			return disk->rots ? BLK_STS_PROTECTION : BLK_STS_MEDIUM;
		copy(disk, bio, NULL);
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE:
		disk->writes++;
		if (begin < disk->refused_end && end > disk->refused)
			return BLK_STS_IOERR;
		copy(disk, bio, NULL);
		bitmap_clear(disk->unreadable, begin, end - begin);
		if (!disk->durable)
			return BLK_STS_OK;
		if (bio->bi_opf & REQ_FUA) {
			memcpy(at(disk->durable, begin), at(disk->data, begin), (end - begin) << SECTOR_SHIFT);
			bitmap_clear(disk->unflushed, begin, end - begin);
		} else {
			bitmap_set(disk->unflushed, begin, end - begin);
		}
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

static void serve(struct bio *bio)
{
	struct frail *disk = bio->bi_bdev->bd_disk->private_data;
	unsigned long flags;

	read_lock_irqsave(&power_lock, flags);
	spin_lock(&disk->lock);
	bio->bi_status = transfer(disk, bio);
	if (bio->bi_status)
		disk->errors++;
	spin_unlock(&disk->lock);
	read_unlock_irqrestore(&power_lock, flags);
	bio_endio(bio);
}

static void submit(struct bio *bio)
{
	struct frail *disk = bio->bi_bdev->bd_disk->private_data;
	unsigned long flags;

	if (segments < USHRT_MAX) {
		bio = bio_split_to_limits(bio);
		if (!bio)
			return;
	}
	if (!late) {
		serve(bio);
		return;
	}
	spin_lock_irqsave(&disk->lock, flags);
	bio_list_add(&disk->waiting, bio);
	spin_unlock_irqrestore(&disk->lock, flags);
	wake_up(&arrived);
}

/* The disk's lock is held: whether a bio that waits does not end for now. */
static bool is_held(struct frail *disk, struct bio *bio)
{
	if (!READ_ONCE(powered))
		return false;
	return disk->held == HOLDS_ALL || (disk->held == HOLDS_WRITES && op_is_write(bio_op(bio)));
}

/* Takes some of a disk's waiting bios, any of them. */
static u32 take(struct frail *disk, struct bio **taken, u32 room)
{
	struct bio_list left = BIO_EMPTY_LIST;
	unsigned long flags;
	struct bio *bio;
	u32 found = 0;

	spin_lock_irqsave(&disk->lock, flags);
	while ((bio = bio_list_pop(&disk->waiting))) {
		if (is_held(disk, bio) || found == room || get_random_u32_below(disk->slow ? 16 : 2))
			bio_list_add(&left, bio);
		else
			taken[found++] = bio;
	}
	disk->waiting = left;
	spin_unlock_irqrestore(&disk->lock, flags);
	return found;
}

/* Whether a disk has a bio that may end. */
static bool has_work(struct frail *disk)
{
	unsigned long flags;
	bool found = false;
	struct bio *bio;

	if (bio_list_empty(&disk->waiting))
		return false;
	spin_lock_irqsave(&disk->lock, flags);
	bio_list_for_each(bio, &disk->waiting) {
		if (!is_held(disk, bio)) {
			found = true;
			break;
		}
	}
	spin_unlock_irqrestore(&disk->lock, flags);
	return found;
}

static bool any_waiting(void)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (has_work(&disks[i]))
			return true;
	return false;
}

static int server_thread(void *unused)
{
	static struct bio *taken[PER_ROUND];

	while (!kthread_should_stop()) {
		u32 found = 0, i;

		wait_event_interruptible(arrived, any_waiting() || kthread_should_stop());
		for (i = 0; i < count; i++)
			found += take(&disks[i], taken + found, PER_ROUND - found);
		while (found) {
			u32 chosen = get_random_u32_below(found);
			struct bio *bio = taken[chosen];

			taken[chosen] = taken[--found];
			if (get_random_u32_below(2)) {
				serve(bio);
			} else {
				local_irq_disable();
				serve(bio);
				local_irq_enable();
			}
		}
		if (!get_random_u32_below(4))
			usleep_range(20, 200);
		cond_resched();
	}
	return 0;
}

static void power_off(u32 seed)
{
	struct rnd_state rnd;
	unsigned long sector;
	struct bio *bio;
	u32 i;

	prandom_seed_state(&rnd, seed);
	write_lock_irq(&power_lock);
	for (i = 0; powered && i < count; i++) {
		struct frail *disk = &disks[i];

		spin_lock(&disk->lock);
		/* The cache, which is as the last flush left it where it is not marked; what is on its way reaches the disk or not. */
		bio_list_for_each(bio, &disk->waiting) {
			if (disk->dead || disk->held || !op_is_write(bio_op(bio)) || !bio_sectors(bio))
				continue;
			copy(disk, bio, &rnd);
			/* What reached it has to be there after the next cut, too. */
			if (disk->durable)
				bitmap_set(disk->unflushed, bio->bi_iter.bi_sector, bio_sectors(bio));
		}
		if (disk->durable) {
			for_each_set_bit(sector, disk->unflushed, sectors)
				if (prandom_u32_state(&rnd) & 1)
					memcpy(at(disk->data, sector), at(disk->durable, sector), SECTOR_SIZE);
			flush(disk);
		}
		spin_unlock(&disk->lock);
	}
	powered = false;
	write_unlock_irq(&power_lock);
	wake_up(&arrived);
}

static void garbage(struct frail *disk, u64 seed)
{
	u64 *word = (u64 *)disk->data;
	u64 i;

	/* But for the places of metadata: mdadm, and md after it, take what is there for a list of bad blocks. Ones end it. */
	memset(disk->data, 0xff, sectors << SECTOR_SHIFT);
	for (i = METADATA << (SECTOR_SHIFT - 3); i < (sectors - METADATA) << (SECTOR_SHIFT - 3); i++)
		word[i] = (i + 1) * 0x9e3779b97f4a7c15ull ^ seed * 0xbf58476d1ce4e5b9ull;
	if (disk->durable)
		memcpy(disk->durable, disk->data, sectors << SECTOR_SHIFT);
	bitmap_zero(disk->unreadable, sectors);
}

static int set(struct frail *disk, const char *what, u64 first, u64 second)
{
	if (!strcmp(what, "dead")) {
		disk->dead = first;
	} else if (!strcmp(what, "hold")) {
		disk->held = first;
	} else if (!strcmp(what, "slow")) {
		disk->slow = first;
	} else if (!strcmp(what, "rot")) {
		disk->rots = first;
	} else if (!strcmp(what, "reject")) {
		disk->rejects = first;
	} else if (!strcmp(what, "unreadable") && first < sectors && second <= sectors - first) {
		bitmap_set(disk->unreadable, first, second);
	} else if (!strcmp(what, "refuse") && first < sectors && second <= sectors - first) {
		disk->refused = first;
		disk->refused_end = first + second;
	} else {
		return -EINVAL;
	}
	return 0;
}

static int obey(char *text)
{
	u64 number, first = 0, second = 0;
	struct frail *disk;
	char what[16];
	int ret;

	if (sscanf(text, "power off %llu", &first) == 1) {
		power_off(first);
		return 0;
	}
	if (sscanf(text, "lose %llu", &first) == 1) {
		char *lost = kmalloc(first, GFP_KERNEL);

		if (!lost)
			return -ENOMEM;
		strscpy(lost, "lost on purpose", first);
		OPTIMIZER_HIDE_VAR(lost);
		return 0;
	}
	if (!strncmp(text, "power on", 8)) {
		write_lock_irq(&power_lock);
		powered = true;
		write_unlock_irq(&power_lock);
		return 0;
	}
	if (sscanf(text, "%15s %llu %llu %llu", what, &number, &first, &second) < 3 || number >= count)
		return -EINVAL;
	disk = &disks[number];
	if (!strcmp(what, "garbage")) {
		garbage(disk, first);
		return 0;
	}
	spin_lock_irq(&disk->lock);
	ret = set(disk, what, first, second);
	spin_unlock_irq(&disk->lock);
	wake_up(&arrived);
	return ret;
}

static ssize_t command_write(struct file *file, const char __user *from, size_t bytes, loff_t *place)
{
	char *text;
	int ret;

	if (bytes > 100)
		return -E2BIG;
	text = memdup_user_nul(from, bytes);
	if (IS_ERR(text))
		return PTR_ERR(text);
	ret = obey(text);
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
	u32 i;

	for (i = 0; i < count; i++) {
		struct frail *disk = &disks[i];

		seq_printf(file, "%u dead=%d held=%d unreadable=%d unflushed=%d waiting=%u reads=%llu writes=%llu errors=%llu\n",
			   i, disk->dead, disk->held, bitmap_weight(disk->unreadable, sectors),
			   disk->unflushed ? bitmap_weight(disk->unflushed, sectors) : 0,
			   bio_list_size(&disk->waiting), disk->reads, disk->writes, disk->errors);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(status);

static const struct block_device_operations operations = {
	.owner = THIS_MODULE,
	.submit_bio = submit,
};

static void remove_all(void)
{
	u32 i;

	for (i = 0; i < count; i++) {
		struct frail *disk = &disks[i];

		if (disk->gendisk) {
			del_gendisk(disk->gendisk);
			put_disk(disk->gendisk);
		}
		vfree(disk->data);
		vfree(disk->durable);
		vfree(disk->unflushed);
		vfree(disk->unreadable);
	}
	kfree(disks);
}

static int make(struct frail *disk, u32 number)
{
	struct queue_limits limits = {
		.logical_block_size = block,
		.physical_block_size = block,
		.max_segments = min(segments, USHRT_MAX),
		.max_hw_sectors = largest,
		.max_secure_erase_sectors = erase ? UINT_MAX : 0,
		.max_hw_discard_sectors = UINT_MAX,
		.discard_granularity = block,
		.features = (cached ? BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA : 0) | (late ? 0 : BLK_FEAT_SYNCHRONOUS),
	};
	size_t bits = BITS_TO_LONGS(sectors) * sizeof(long);
	struct gendisk *gendisk;
	int ret;

	spin_lock_init(&disk->lock);
	bio_list_init(&disk->waiting);
	disk->data = vzalloc(sectors << SECTOR_SHIFT);
	disk->unreadable = vzalloc(bits);
	if (cached) {
		disk->durable = vzalloc(sectors << SECTOR_SHIFT);
		disk->unflushed = vzalloc(bits);
	}
	if (!disk->data || !disk->unreadable || (cached && (!disk->durable || !disk->unflushed)))
		return -ENOMEM;
	gendisk = blk_alloc_disk(&limits, NUMA_NO_NODE);
	if (IS_ERR(gendisk))
		return PTR_ERR(gendisk);
	gendisk->fops = &operations;
	gendisk->private_data = disk;
	gendisk->flags |= GENHD_FL_NO_PART;
	snprintf(gendisk->disk_name, DISK_NAME_LEN, "frail%u", number);
	set_capacity(gendisk, sectors);
	ret = add_disk(gendisk);
	if (ret) {
		put_disk(gendisk);
		return ret;
	}
	disk->gendisk = gendisk;
	return 0;
}

static int __init disks_init(void)
{
	int ret = 0;
	u32 i;

	if (!count || count > MAX_DISKS || !mib)
		return -EINVAL;
	sectors = (sector_t)mib << (20 - SECTOR_SHIFT);
	disks = kcalloc(count, sizeof(*disks), GFP_KERNEL);
	if (!disks)
		return -ENOMEM;
	server = kthread_run(server_thread, NULL, "raid456_disks");
	if (IS_ERR(server)) {
		kfree(disks);
		return PTR_ERR(server);
	}
	for (i = 0; i < count && !ret; i++)
		ret = make(&disks[i], i);
	if (ret) {
		kthread_stop(server);
		remove_all();
		return ret;
	}
	folder = debugfs_create_dir("raid456_disks", NULL);
	debugfs_create_file("command", 0200, folder, NULL, &command_operations);
	debugfs_create_file("status", 0400, folder, NULL, &status_fops);
	return 0;
}
module_init(disks_init);

static void __exit disks_exit(void)
{
	debugfs_remove(folder);
	/* First the thread, which looks at the disks; nobody has one of them open. */
	kthread_stop(server);
	remove_all();
}
module_exit(disks_exit);

MODULE_DESCRIPTION("Disks that go wrong when they are told to, for tests of raid456");
MODULE_LICENSE("GPL");

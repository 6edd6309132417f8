// SPDX-License-Identifier: GPL-2.0
/*
 * raid456_dma.ko: engines in software that offer what async_tx asks of a DMA engine, with limits and faults as the
 * parameters say.
 *
 * When it is loaded: engines=N of channels=N each; caps=MASK of what they can do (1 copy, 2 xor, 4 pq, 8 xor_val,
 * 16 pq_val, 32 interrupt); max_xor=, max_pq= sources; pq_continue=Y if a sum can be gone on with without reading
 * it as sources; align=SHIFT; ring=N descriptors at most that a channel has given and not told, 0 for as many as
 * there is memory for; unmap_us=N microseconds from when it has told of an end until it unmaps, as some drivers do
 * behind that, 0 to unmap before.
 *
 * At any time, in /sys/module/raid456_dma/parameters: delay_us=N for each descriptor from when it was issued,
 * jitter_us=N more at most, by chance; each Nth time: fault_prep no descriptor is given, fault_error it ends with
 * an error, half done, fault_lie a validation says the opposite, fault_hang it does not end, fault_tell none is
 * given for an interrupt. Writing to let_go ends what hangs, and has all ends told unless it is 0 that was written;
 * what was to hang and is not due yet hangs all the same, unless fault_hang is 0 then. A number written to remove takes
 * that engine away. done and blocks count descriptors and the blocks that they read, in the order of caps; interrupts
 * counts how often ends were told.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "dma.h"

#define MOST_ENGINES 8

static unsigned int param_engines = 1, param_channels = 2;
unsigned int param_caps = 63, param_max_xor = 8, param_max_pq = 8, param_align, param_ring, param_unmap_us;
bool param_pq_continue = true;
unsigned int param_delay_us, param_jitter_us;
unsigned int fault_prep, fault_error, fault_lie, fault_hang, fault_tell;
unsigned long param_done[KINDS], param_blocks[KINDS], param_interrupts;

module_param_named(engines, param_engines, uint, 0444);
module_param_named(channels, param_channels, uint, 0444);
module_param_named(caps, param_caps, uint, 0444);
module_param_named(max_xor, param_max_xor, uint, 0444);
module_param_named(max_pq, param_max_pq, uint, 0444);
module_param_named(pq_continue, param_pq_continue, bool, 0444);
module_param_named(align, param_align, uint, 0444);
module_param_named(ring, param_ring, uint, 0444);
module_param_named(unmap_us, param_unmap_us, uint, 0444);
module_param_named(delay_us, param_delay_us, uint, 0644);
module_param_named(jitter_us, param_jitter_us, uint, 0644);
module_param(fault_prep, uint, 0644);
module_param(fault_error, uint, 0644);
module_param(fault_lie, uint, 0644);
module_param(fault_hang, uint, 0644);
module_param(fault_tell, uint, 0644);
module_param_array_named(done, param_done, ulong, NULL, 0444);
module_param_array_named(blocks, param_blocks, ulong, NULL, 0444);
module_param_named(interrupts, param_interrupts, ulong, 0444);

static struct platform_device *platform;
/* Each stays in its place when it is taken away: what hangs there can still be let go. */
static struct engine *engines[MOST_ENGINES];
static bool removed[MOST_ENGINES];
static DEFINE_MUTEX(lock);

static int let_go_set(const char *value, const struct kernel_param *param)
{
	unsigned int i, all;
	int status = kstrtouint(value, 0, &all);

	if (status)
		return status;
	mutex_lock(&lock);
	for (i = 0; i < MOST_ENGINES; i++)
		if (engines[i])
			engine_let_go(engines[i], all);
	mutex_unlock(&lock);
	return 0;
}

static void take_away(unsigned int number)
{
	if (engines[number] && !removed[number]) {
		removed[number] = true;
		engine_gone(engines[number]);
	}
}

static int remove_set(const char *value, const struct kernel_param *param)
{
	unsigned int number;
	int status = kstrtouint(value, 0, &number);

	if (status)
		return status;
	if (number >= MOST_ENGINES)
		return -EINVAL;
	mutex_lock(&lock);
	take_away(number);
	mutex_unlock(&lock);
	return 0;
}

static const struct kernel_param_ops let_go_ops = { .set = let_go_set };
static const struct kernel_param_ops remove_ops = { .set = remove_set };

module_param_cb(let_go, &let_go_ops, NULL, 0200);
module_param_cb(remove, &remove_ops, NULL, 0200);

static void take_all_away(void)
{
	unsigned int i;

	for (i = 0; i < MOST_ENGINES; i++) {
		take_away(i);
		if (engines[i])
			engine_put(engines[i]);
		engines[i] = NULL;
	}
}

static int probe(struct platform_device *device)
{
	unsigned int i;
	int status = dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(64));

	for (i = 0; !status && i < min_t(unsigned int, param_engines, MOST_ENGINES); i++) {
		struct engine *engine = engine_new(&device->dev, param_channels);

		if (!engine)
			status = -ENOMEM;
		else
			status = engine_start(engine);
		if (!status)
			engines[i] = engine;
		else
			kfree(engine);
	}
	if (status)
		take_all_away();
	return status;
}

static void remove(struct platform_device *device)
{
	take_all_away();
}

static struct platform_driver driver = {
	.probe = probe,
	.remove = remove,
	.driver = { .name = "raid456_dma", .suppress_bind_attrs = true },
};

static int __init dma_init(void)
{
	int status;

	if (!param_channels || param_channels > 16 || param_max_xor < 2 || param_max_xor > MAX_SOURCES ||
	    param_max_pq < 4 || param_max_pq > MAX_SOURCES)
		return -EINVAL;
	field_init();
	platform = platform_device_register_simple("raid456_dma", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(platform))
		return PTR_ERR(platform);
	status = platform_driver_register(&driver);
	if (status)
		platform_device_unregister(platform);
	return status;
}

static void __exit dma_exit(void)
{
	platform_driver_unregister(&driver);
	platform_device_unregister(platform);
}

module_init(dma_init);
module_exit(dma_exit);
MODULE_DESCRIPTION("DMA engines in software, for tests");
MODULE_LICENSE("GPL");

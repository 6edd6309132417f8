// SPDX-License-Identifier: GPL-2.0
/*
 * Where the processors are while a load runs: a timer on each notes the interrupted instruction.
 *
 * The debugfs file `profile` has a line for each note. Under qemu's -icount the timer counts instructions, so that the
 * same run gives the same profile. What runs with interrupts off is noted where they are switched on again.
 */

#include <linux/hrtimer.h>
#include <linux/ptrace.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <asm/irq_regs.h>

#include "load.h"

#define NOTES 262144

static DEFINE_PER_CPU(struct hrtimer, timers);
static unsigned long *notes;
static atomic_t noted;
static u64 interval_ns;

static enum hrtimer_restart note(struct hrtimer *timer)
{
	struct pt_regs *regs = get_irq_regs();
	unsigned int at = atomic_inc_return(&noted) - 1;

	if (at < NOTES)
		notes[at] = regs ? instruction_pointer(regs) : 0;
	hrtimer_forward_now(timer, ns_to_ktime(interval_ns));
	return HRTIMER_RESTART;
}

static void start_here(void *unused)
{
	struct hrtimer *timer = this_cpu_ptr(&timers);

	hrtimer_setup(timer, note, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	hrtimer_start(timer, ns_to_ktime(interval_ns), HRTIMER_MODE_REL_PINNED_HARD);
}

int load_profile_start(u64 interval)
{
	if (!notes)
		notes = vmalloc_array(NOTES, sizeof(*notes));
	if (!notes)
		return -ENOMEM;
	atomic_set(&noted, 0);
	interval_ns = interval;
	on_each_cpu(start_here, NULL, true);
	return 0;
}

void load_profile_stop(void)
{
	int cpu;

	for_each_online_cpu(cpu)
		hrtimer_cancel(per_cpu_ptr(&timers, cpu));
}

void load_profile_show(struct seq_file *file)
{
	int i, count = min(atomic_read(&noted), NOTES);

	for (i = 0; notes && i < count; i++)
		seq_printf(file, "%pS\n", (void *)notes[i]);
}

void load_profile_free(void)
{
	vfree(notes);
}

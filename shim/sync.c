// SPDX-License-Identifier: GPL-2.0
/*
 * Locks and waiting: all macros or inline functions in C.
 */
#include "shim.h"

unsigned long raid456_spin_lock(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

bool raid456_spin_trylock(spinlock_t *lock, unsigned long *flags)
{
	return spin_trylock_irqsave(lock, *flags);
}

void raid456_spin_unlock(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

void raid456_waitqueue_init(struct wait_queue_head *queue, const char *name, struct lock_class_key *key)
{
	__init_waitqueue_head(queue, name, key);
}

/* Sleeps. The condition is evaluated while the task is about to sleep, so it must not sleep itself. */
void raid456_wait(struct wait_queue_head *queue, bool (*condition)(void *data), void *data)
{
	wait_event(*queue, condition(data));
}

/* The same, for at most msecs; returns whether the condition is true. */
bool raid456_wait_timeout(struct wait_queue_head *queue, bool (*condition)(void *data), void *data, unsigned int msecs)
{
	return wait_event_timeout(*queue, condition(data), msecs_to_jiffies(msecs));
}

void raid456_wake_all(struct wait_queue_head *queue)
{
	if (wq_has_sleeper(queue))
		wake_up_all(queue);
}

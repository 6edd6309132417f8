// SPDX-License-Identifier: GPL-2.0
/*
 * Locks, reference counts and waiting: all macros or inline functions in C.
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

bool raid456_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}

void raid456_ref_get(struct percpu_ref *ref)
{
	percpu_ref_get(ref);
}

void raid456_ref_put(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}

void raid456_ref_kill(struct percpu_ref *ref)
{
	percpu_ref_kill(ref);
}

bool raid456_ref_is_dying(struct percpu_ref *ref)
{
	return percpu_ref_is_dying(ref);
}

void raid456_reinit_completion(struct completion *completion)
{
	reinit_completion(completion);
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

void raid456_wake_all(struct wait_queue_head *queue)
{
	if (wq_has_sleeper(queue))
		wake_up_all(queue);
}

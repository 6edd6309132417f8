// SPDX-License-Identifier: GPL-2.0
/*
 * Leave to use vector registers: inline functions in C. Task context with interrupts on; no preemption in between.
 */
#include "shim.h"

#if defined(CONFIG_X86) || defined(CONFIG_UML)
#include <asm/fpu/api.h>

void raid456_fpu_begin(void)
{
	kernel_fpu_begin();
}

void raid456_fpu_end(void)
{
	kernel_fpu_end();
}
#endif

// SPDX-License-Identifier: GPL-2.0
/*
 * What parity engines need of C: leave to use vector registers, and the parameter that names an engine.
 */
#include <linux/module.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "shim.h"

#if defined(CONFIG_X86) || defined(CONFIG_UML)
#include <asm/fpu/api.h>

/* Task context with interrupts on; no preemption until the end. */
void raid456_fpu_begin(void)
{
	kernel_fpu_begin();
}

void raid456_fpu_end(void)
{
	kernel_fpu_end();
}
#endif

/* What the parameter says when the module is loaded, and which engine it has chosen then. Neither changes later. */
static char raid456_engine[32];

static int raid456_engine_set(const char *value, const struct kernel_param *param)
{
	/* What is cut off here makes no engine's name either. */
	strscpy(raid456_engine, value, sizeof(raid456_engine));
	strreplace(raid456_engine, '\n', '\0');
	return 0;
}

static int raid456_engine_get(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%s\n", raid456_engine);
}

static const struct kernel_param_ops raid456_engine_ops = {
	.set = raid456_engine_set,
	.get = raid456_engine_get,
};

module_param_cb(parity_engine, &raid456_engine_ops, NULL, 0444);
MODULE_PARM_DESC(parity_engine, "Engine that makes parity, instead of the fastest one; reads as the one in use");

/* For the time while the module is loaded. */
const char *raid456_engine_wanted(void)
{
	return raid456_engine;
}

/* The name does not end with a zero. */
void raid456_engine_chosen(const char *name, size_t length)
{
	length = min(length, sizeof(raid456_engine) - 1);
	memcpy(raid456_engine, name, length);
	raid456_engine[length] = '\0';
}

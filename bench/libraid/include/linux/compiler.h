/* SPDX-License-Identifier: GPL-2.0 */
/* Stands for the kernel's header of this name. */
#include <linux/types.h>

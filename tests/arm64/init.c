// SPDX-License-Identifier: GPL-2.0
/*
 * The first and only program of the arm64 guest: inserts the modules /0.ko, /1.ko and so on, and turns the machine off.
 *
 * There is no C library for it: it makes its system calls itself. What comes of the modules is in the kernel's log.
 */
#define AT_FDCWD (-100)
#define NR_OPENAT 56
#define NR_REBOOT 142
#define NR_FINIT_MODULE 273
#define REBOOT_MAGIC1 0xfee1deadL
#define REBOOT_MAGIC2 0x28121969L
#define REBOOT_POWER_OFF 0x4321fedcL

static long call(long number, long a, long b, long c, long d)
{
	register long x8 asm("x8") = number;
	register long x0 asm("x0") = a;
	register long x1 asm("x1") = b;
	register long x2 asm("x2") = c;
	register long x3 asm("x3") = d;

	asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

void _start(void)
{
	char name[] = "/0.ko";
	long file;

	for (; name[1] <= '9'; name[1]++) {
		file = call(NR_OPENAT, AT_FDCWD, (long)name, 0, 0);
		if (file < 0)
			break;
		call(NR_FINIT_MODULE, file, (long)"", 0, 0);
	}
	call(NR_REBOOT, REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_POWER_OFF, 0);
	for (;;)
		;
}

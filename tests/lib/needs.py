# SPDX-License-Identifier: GPL-2.0
"""What a case needs of the kernel, or needs it not to have, beside what the other modules here see to (mapper.need_target(), nullblk.nullb()): without that it is skipped, for
it could say nothing. The debug kernel has no file system for disks, no io_uring, of md levels 4, 5 and 6 alone, and it has dmaengine."""

import os

from kernel import modprobe
from report import Skipped


def file_system(kind):
    """Skips the case if this kernel does not have a file system."""
    with open("/proc/filesystems", encoding="ascii") as file:
        known = kind in file.read().split()
    if not known and not modprobe(kind):
        raise Skipped(f"this kernel has no {kind}")


def personality(level):
    """Skips the case if this kernel's md does not have a level: raid0, raid1, ..."""
    if not modprobe(level):
        raise Skipped(f"this kernel has no {level}")


def io_uring():
    """Skips the case if programs of this kernel cannot have io_uring."""
    if not os.path.exists("/proc/sys/kernel/io_uring_disabled"):
        raise Skipped("this kernel has no io_uring")


def no_dma_engines():
    """Skips the case if this kernel has dmaengine, with an engine or without."""
    if os.path.isdir("/sys/class/dma"):
        raise Skipped("this kernel has dmaengine")

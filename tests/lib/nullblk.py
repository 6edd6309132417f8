# SPDX-License-Identifier: GPL-2.0
"""null_blk devices with memory behind them: disks with a write cache, other sector sizes, bad blocks, discard."""

import os

from kernel import modprobe
from report import Skipped

_FOLDER = "/sys/kernel/config/nullb"
_made = []


def nullb(name, size, **attributes):
    """Makes /dev/NAME of `size` MiB; attributes as in configfs."""
    if not modprobe("null_blk", "nr_devices=0"):
        raise Skipped("this kernel has no null_blk")
    folder = f"{_FOLDER}/{name}"
    os.mkdir(folder)
    _made.append(folder)
    values = {"size": size, "memory_backed": 1, "irqmode": 0, "completion_nsec": 0, **attributes, "power": 1}
    for key, value in values.items():
        if not os.path.exists(f"{folder}/{key}"):
            raise Skipped(f"this kernel's null_blk has no {key}")
        with open(f"{folder}/{key}", "w", encoding="ascii") as file:
            file.write(str(value))
    return f"/dev/{name}"


def remove_all():
    """Takes all of them away."""
    while _made:
        os.rmdir(_made.pop())

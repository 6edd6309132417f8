#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debug disks=8 disk-size=16 mem=1536 cpus=2 timeout=3000
"""Jobs on DMA engines, and their faults, where the kernel looks for wrong uses of memory, of locks and of the DMA API: those cases of
offload.py and offload_faults.py that go different ways through the driver. ALL=1 is for all of them, which takes long."""

import importlib.util
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from offload import unload
from raid import stop_all
from report import run

# For each level one where fio verifies while a member is lost and rebuilt: each fault in turn (6), engines that go while they are used (5),
# errors (4). Large and small writes, lost members, a repair (6 and 5), ends that nobody tells of, engines that hang when the array is
# stopped. What level 4 has besides is the same as at level 5.
CHOSEN = re.compile(r"raid6 ddf|raid5, 5 members, large|each fault|errors, raid4|many ends|array is stopped|taken away under load")


def module(name):
    """A test beside this one. Its name is that of a library too."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"test_{name}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def cases():
    """Those that are run here."""
    found = [*module("offload").cases(), *module("offload_faults").cases()]
    return [(title, body) for title, body in found if os.environ.get("ALL") or CHOSEN.search(title)]


if __name__ == "__main__":
    run(cases(), cleanup=lambda: (stop_all(), unload()))

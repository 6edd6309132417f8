#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=4 disk-size=8 timeout=120
"""Offload on a kernel without DMA engines: it says that there are none, and the CPU does all."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow
from offload import stats
from raid import Array, rams, stop_all
from report import expect, expect_match, run
import kernel
import needs

PARAMETER = "/sys/module/raid456/parameters/offload"


def said():
    """The driver says so when it is loaded."""
    kernel.use_driver("none")
    log = kernel.Log()
    kernel.use_driver("rust")
    expect_match("the log", "raid456: offload: this kernel has no DMA engines: the CPU does all", log.text())


def none():
    """Engines cannot be asked for."""
    array = Array.create(rams(4), size=4)
    expect("the mode", "cpu", array.get("offload"))
    for mode in ("dma", "auto"):
        expect(f"setting {mode}", "ENODEV", array.try_set("offload", mode))
    expect("setting cpu", "", array.try_set("offload", "cpu"))
    expect("a mode that there is not", "EINVAL", array.try_set("offload", "gpu"))
    expect("strips by engines", 0, stats(array)["dma"])
    # Who stops the array may wait so long for an engine that hangs.
    for millis, said in ((0, "EINVAL"), (1, ""), (60001, "EINVAL"), (60000, "")):
        expect(f"what a job may take, {millis} ms", said, array.try_set("offload_late_ms", millis))
    expect("what a job may take", "60000", array.get("offload_late_ms"))


def parameter():
    """An array starts although the module's parameter asks for engines."""
    with open(PARAMETER, "w", encoding="ascii") as file:
        file.write("dma")
    try:
        log = kernel.Log()
        array = Array.create(rams(4), level=6, size=4)
        expect_match("the log", "offload: this kernel has no DMA engines: the CPU does all", log.text())
        expect("the mode", "cpu", array.get("offload"))
        with Shadow(array.path) as shadow:
            shadow.fill()
            shadow.random_writes(1, 20)
            shadow.verify("by the CPU")
        array.expect_clean()
    finally:
        with open(PARAMETER, "w", encoding="ascii") as file:
            file.write("cpu")


if __name__ == "__main__":
    run([("said when the driver is loaded", said), ("modes", none), ("the module's parameter", parameter)],
        setup=needs.no_dma_engines, cleanup=stop_all)

# SPDX-License-Identifier: GPL-2.0
"""mdadm's raid6check as a second opinion on level 6 arrays; scripts/setup builds it."""

import os
import re

from kernel import sh
from report import Failed, expect

PROGRAM = "/raid456/raid6check"


def raid6check(array):
    """What it finds on a whole array: {(stripe, 4 KiB page of the chunk): slot, or None for "unknown"}."""
    if not os.path.exists(PROGRAM):
        raise Failed("this test needs raid6check: run scripts/setup raid6check")
    text = sh(PROGRAM, array.path, 0, 0)[1]
    found = {}
    for line in text.splitlines():
        if "Error detected" in line:
            stripe, page = (int(number) for number in re.search(r"stripe (\d+), page (\d+)", line).groups())
            slot = re.search(r"possible failed disk slot -?\d+: (\d+) -->", line)
            found[stripe, page] = int(slot.group(1)) if slot else None
    stripes = int(re.search(r"total stripes: (\d+)", text).group(1))
    expect("stripes that raid6check knows of", array.data_size() // int(array.get("chunk_size")), stripes)
    return found


def expect_sound(array):
    """Ends the case unless raid6check finds nothing."""
    expect("errors that raid6check finds", {}, raid6check(array))

# SPDX-License-Identifier: GPL-2.0
"""The same thing under two drivers in one boot."""

import os

import kernel
from report import Failed, Skipped


def drivers():
    """The two drivers to compare: the kernel's own and ours (RAID456_COMPARE=c,c tries a test without ours)."""
    pair = tuple(os.environ.get("RAID456_COMPARE", "c,rust").split(","))
    if "rust" in pair and not os.path.exists("/raid456/raid456.ko"):
        raise Skipped("the Rust module is not built for this kernel")
    return pair


def under_each(action):
    """[action(driver) for each driver], with that driver loaded; the driver loaded before is loaded again."""
    before = kernel.driver()
    results = []
    try:
        for driver in drivers():
            kernel.use_driver(driver)
            kernel.say(f"under {driver}")
            results.append(action(driver))
    finally:
        if before != "none":
            kernel.use_driver(before)
    return results


def differences(first, second, names):
    """Lines that say where two dictionaries differ."""
    lines = []
    for key in sorted(set(first) | set(second), key=str):
        one, two = first.get(key, "(nothing)"), second.get(key, "(nothing)")
        if one != two:
            lines.append(f"{key}: {names[0]} {one!r}, {names[1]} {two!r}")
    return lines


def expect_same(what, first, second, names):
    """Ends the case unless two dictionaries are equal; shows every difference."""
    lines = differences(first, second, names)
    if lines:
        raise Failed(f"{what}: {len(lines)} of {len(first)} differ:\n      " + "\n      ".join(lines[:60]))
    print(f"    ok: {what}: {len(first)} values equal under {names[0]} and {names[1]}", flush=True)

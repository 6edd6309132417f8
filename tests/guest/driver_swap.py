#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=3 disk-size=8 timeout=150
"""Loading and unloading: one raid456 at a time, none goes while an array runs, and both offer the same."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers, under_each
from disk import Shadow
from raid import Array, rams, stop_all
from report import Skipped, expect, expect_in, expect_match, expect_no_match, note, run
import kernel

OURS = "/raid456/raid456.ko"


def theirs():
    """The file of the kernel's own module."""
    return kernel.sh("modinfo", "-n", "raid456")[1].strip()


def need_ours():
    """Skips a case that is about our module if it is not there."""
    if not os.path.exists(OURS):
        raise Skipped("the Rust module is not built for this kernel")


def personalities():
    """The levels that md knows, from /proc/mdstat."""
    with open("/proc/mdstat", encoding="ascii") as file:
        return file.readline().strip()


def second_module():
    """While one is loaded the other cannot be, and nothing changes."""
    need_ours()
    for loaded, other in (("rust", theirs()), ("c", OURS)):
        kernel.use_driver(loaded)
        before = personalities()
        expect_in(f"insert the other while {loaded} is loaded", ("EEXIST",), kernel.insert_module(other))
        expect("loaded afterwards", loaded, kernel.driver())
        expect("personalities", before, personalities())
        array = Array.create(rams(3), size=2)
        array.expect_clean()
        array.stop()


def tool():
    """use-driver says what is wrong when an array runs, and `none` keeps md from loading a driver by itself."""
    before = kernel.driver()
    array = Array.create(rams(3), size=2)
    status, text = kernel.sh("use-driver", "none", check=False)
    expect("use-driver's status while an array runs", True, status != 0)
    expect_match("its words", r"md0", text)
    expect("loaded afterwards", before, kernel.driver())
    array.expect_clean()
    array.stop()
    kernel.use_driver("none")
    expect("loaded", "none", kernel.driver())
    status, _ = kernel.sh("mdadm", "--assemble", "/dev/md0", *rams(3), check=False)
    expect("assembly without a driver fails", True, status != 0)
    expect("and loads none", "none", kernel.driver())
    kernel.sh("mdadm", "--stop", "/dev/md0", check=False)
    kernel.use_driver(before)
    array = Array.assemble(rams(3))
    array.expect_clean()
    array.stop()


def removal():
    """The module does not go while an array runs, also a degraded or idle one, and goes when it is stopped."""
    def each(driver):
        array = Array.create(rams(3), size=2)
        expect(f"{driver}: remove while an array runs", "EAGAIN", kernel.delete_module("raid456"))
        with Shadow(array.path) as shadow:
            shadow.fill()
            array.fail(rams(3)[0])
            expect(f"{driver}: remove while it is degraded", "EAGAIN", kernel.delete_module("raid456"))
            shadow.verify()
        array.stop()
        expect(f"{driver}: remove when it is stopped", "", kernel.delete_module("raid456"))
        expect(f"{driver}: personalities", None, re.search("raid[456]", personalities()))
        kernel.use_driver(driver)
        stop_all()
    under_each(each)


def same_surface():
    """Aliases, parameters and what dm-raid needs."""
    need_ours()

    def aliases(path):
        return set(kernel.sh("modinfo", "-F", "alias", path)[1].split())

    ours, wanted = aliases(OURS), aliases(theirs())
    note(f"the C module's aliases: {' '.join(sorted(wanted))}")
    expect("aliases that ours lacks", set(), wanted - ours)
    kernel.use_driver("c")
    names = set(re.findall(r"\[raid\d\]", personalities()))
    kernel.use_driver("rust")
    expect("personalities", names, set(re.findall(r"\[raid\d\]", personalities())))
    with open("/proc/kallsyms", encoding="ascii") as symbols:
        text = symbols.read()
    for name in ("raid5_set_cache_size", "r5c_journal_mode_set"):
        expect_match(f"{name} for dm-raid", rf"T {name}\s+\[raid456\]", text)
    parameters = []
    for driver in ("c", "rust"):
        kernel.use_driver(driver)
        folder = "/sys/module/raid456/parameters"
        parameters.append({name: oct(os.stat(f"{folder}/{name}").st_mode & 0o777) for name in os.listdir(folder)}
                          if os.path.isdir(folder) else {})
    for name, mode in parameters[0].items():
        expect(f"parameter {name}", mode, parameters[1].get(name))


def again_and_again():
    """Loads and unloads many times, with a short array every tenth time; nothing is left behind."""
    driver = drivers()[-1]
    kernel.use_driver(driver)
    log = kernel.Log()
    rounds = 10 if kernel.flavour() == "debug" else 50
    path = OURS if driver == "rust" else theirs()
    slabs = slab_names()
    for turn in range(rounds):
        problem = kernel.delete_module("raid456")
        if problem:
            expect(f"removal number {turn}", "", problem)
        problem = kernel.insert_module(path)
        if problem:
            expect(f"insertion number {turn}", "", problem)
        if turn % 10 == 0:
            array = Array.create(rams(3), size=2)
            array.stop()
    note(f"ok: {rounds} times")
    kernel.delete_module("raid456")
    left = [name for name in slab_names() - slabs if "raid" in name]
    expect("caches left behind", [], left)
    kernel.insert_module(path)
    expect_no_match("complaints in the log", r"WARNING|BUG|leak|still in use|Objects remaining", log.text())


def slab_names():
    """Names of the kernel's object caches."""
    folder = "/sys/kernel/slab"
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


if __name__ == "__main__":
    run([
        ("a second raid456 is refused", second_module),
        ("use-driver", tool),
        ("removal", removal),
        ("aliases, exports and parameters", same_surface),
        ("load and unload many times", again_and_again),
    ], cleanup=stop_all)

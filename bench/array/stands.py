# SPDX-License-Identifier: GPL-2.0
"""In a guest: the members of a stand, and what is put over them in turn: an array of either driver, raid0, a member alone."""

import os
import re
import time

import generator
import nullblk
from kernel import driver, insert_module, sh, use_driver
from mapper import dm, need_target, sectors_of
from raid import Array, speed_limit, name_of, rams, stop_all
from report import Failed

# What null_blk's completions take. Its timer is one for reads and writes.
NULL_NS = 20000
# What those with little bandwidth have; rows.py names it.
BAND_MBPS = 100
DELAY_MS = 5


def _make(kind, prefix, first, count, size):
    """Paths of `count` members; RAM disks from number `first` on."""
    if kind == "null":
        # Queues as an NVMe drive has them: one for each processor.
        return [nullblk.nullb(f"{prefix}{n}", size, irqmode=2, completion_nsec=NULL_NS, hw_queue_depth=1024,
                              submit_queues=os.cpu_count()) for n in range(count)]
    if kind == "band":
        return [nullblk.nullb(f"{prefix}{n}", size, mbps=BAND_MBPS, submit_queues=os.cpu_count()) for n in range(count)]
    disks = rams(count, first)
    if kind == "delay":
        need_target("delay")
        return [dm(f"{prefix}{n}", f"0 {sectors_of(disk)} delay {disk} 0 {DELAY_MS}") for n, disk in enumerate(disks)]
    return disks


def reads_of(paths):
    """How many reads devices have completed."""
    total = 0
    for path in paths:
        with open(f"/sys/block/{name_of(path)}/stat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


def _fill(path, size):
    """Writes so many MiB: a device's memory exists from its first write on."""
    generator.load(path, f"rw=write bs=1m depth=4 ios={size} size={size}m")


class Members:
    """The members of a stand, filled once, in sync; and others beside them for raid0 and for one alone."""

    def __init__(self, stand, size, ceiling):
        self.stand, self.size, self.ceiling = stand, size, ceiling
        self.paths = _make(stand.kind, "member", 0, stand.members, size)
        self.present = [path for slot, path in enumerate(self.paths) if not 1 <= slot <= stand.lost]
        for path in self.paths:
            _fill(path, size)
        # Either driver makes the same bytes of it; ours takes less of everybody's time.
        use_driver("rust")
        array = Array.create(self.paths, level=stand.level, chunk=stand.chunk, size=size - 8, wait=False,
                             bitmap="internal" if stand.bitmap else "none", bitmap_chunk=None)
        array.wait_synced(600)
        array.stop()
        # What the rows' ceiling is measured on: {contender: (path, MiB of it)}.
        self.beside = {}
        if ceiling:
            alone, *striped = _make(stand.kind, "beside", stand.members, stand.data + 1, size // 2)
            sh("mdadm", "--create", "/dev/md9", "--run", "--quiet", "--force", "--level=0", f"--chunk={stand.chunk}K",
               f"--raid-devices={stand.data}", *striped)
            # The RAM disks are larger than what is used of them. The last MiB has raid0's superblock.
            self.beside = {"raw": (alone, size // 2 - 2), "raid0": ("/dev/md9", (size // 2 - 2) * stand.data)}
            for path, used in self.beside.values():
                _fill(path, used)

    def assemble(self, driver):
        """The array under a driver: rust, c, or rust-kernel (ours, with the parity engine of the kernel)."""
        if driver == "rust-kernel":
            use_driver("none")
            problem = insert_module("/raid456/raid456.ko", "parity_engine=kernel")
            if problem:
                raise Failed(f"raid456.ko with parity_engine=kernel could not be inserted: {problem}")
        else:
            # Also away from another engine.
            use_driver("none")
            use_driver(driver)
        array = Array.assemble(self.present, "--run", "--force")
        array.wait_idle(600)
        return array

    def free(self):
        """Takes all of it down, and gives the RAM disks' memory back."""
        stop_all()
        nullblk.remove_all()
        for number in range(64):
            if os.path.exists(f"/dev/ram{number}"):
                sh("blkdiscard", "-f", f"/dev/ram{number}", check=False)


def tune(array, settings):
    """Stores settings, those that differ."""
    for name, value in settings.items():
        if array.get(name) != str(value):
            array.set(name, value)


def _timed(array, action):
    """Stores an action and returns the seconds until no member is missing and all is in sync."""
    began = time.monotonic()
    array.set("sync_action", action)
    array.wait_rebuilt(600)
    array.wait_synced(600)
    return time.monotonic() - began


def _spare_in(array):
    """Fails the member in slot 2 and adds it again, to be rebuilt when the sync thread is let go."""
    path = array.slots()[2]
    array.set("sync_action", "frozen")
    array.fail(path)
    array.remove(path)
    array.add(path)


def sync(array, action):
    """MB/s of each member that an action takes."""
    speed_limit()
    array.wait_idle()
    if action == "rebuild":
        _spare_in(array)
        seconds = _timed(array, "idle")
    elif action == "resync":
        array.set("sync_action", "frozen")
        array.set("resync_start", 0)
        seconds = _timed(array, "idle")
    else:
        seconds = _timed(array, action)
    return {"mb_per_s": array.data_size() / 1e6 / seconds}


def _slabs():
    """Bytes of objects in the caches that have what an array has beside its pages, C's of stripes among them."""
    caches = re.compile(r"kmalloc-|raid\d-")
    for name in filter(caches.match, os.listdir("/sys/kernel/slab")):
        with open(f"/sys/kernel/slab/{name}/shrink", "w", encoding="ascii") as file:
            file.write("1")
    with open("/proc/slabinfo", encoding="ascii") as file:
        lines = [line.split() for line in file]
    return sum(int(words[1]) * int(words[3]) for words in lines if caches.match(words[0]))


def memory(array, few=256, many=2304):
    """Bytes beside pages of what 16 strips of a row need, if one of them is in use, and if all are. Under C each is a stripe. Ours is a
    span and a kit for each strip: a smaller cache frees kits alone."""
    ours = driver() == "rust"

    def now(strips):
        array.set("stripe_cache_size", strips)
        text = array.get("memory") if ours else ""
        numbers = {name: int(value) for name, value in (line.split() for line in text.splitlines())}
        return _slabs(), numbers.get("kits", strips), numbers.get("spans", 0)
    first, more, less = now(few), now(many), now(few)
    strip = (more[0] - less[0]) / (more[1] - less[1])
    if not ours:
        return {"bytes_of_one": strip, "bytes_of_sixteen": 16 * strip}
    if more[2] == first[2]:
        raise Failed("a larger cache made no spans: their memory cannot be told")
    span = (more[0] - first[0] - strip * (more[1] - first[1])) / (more[2] - first[2])
    return {"bytes_of_one": span + strip, "bytes_of_sixteen": span + 16 * strip}


def rebuild_beside(array, load):
    """Rebuilds a member while a load runs; both figures are of the time until it is rebuilt."""
    speed_limit()
    _spare_in(array)
    with generator.running(array.path, f"{load} seconds=600"):
        seconds = _timed(array, "idle")
    return {**generator.result(), "rebuild_mb_per_s": array.data_size() / 1e6 / seconds}


def fio(path, kind, seconds, used=0):
    """fio with io_uring in batches: other forms measure fio. used: MiB, 0 for all of the device."""
    size = used or sectors_of(path) >> 11
    status, text = sh("fio", "--name=bench", f"--filename={path}", f"--size={size}m", "--direct=1", f"--rw={kind}", "--bs=4k",
                      "--ioengine=io_uring", "--iodepth=64", "--iodepth_batch=32", "--iodepth_batch_complete_min=16",
                      "--fixedbufs=1", "--registerfiles=1", "--gtod_reduce=1", "--norandommap", "--time_based",
                      f"--runtime={max(1, round(seconds))}", "--output-format=terse")
    found = re.search(r"^3;.*", text, re.M)
    if status or not found:
        raise Failed(f"fio on {path}: {text}")
    fields = found.group(0).split(";")
    return {"iops": int(fields[7]) + int(fields[48])}

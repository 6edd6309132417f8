#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=32 timeout=300
"""Arrays that are made larger and smaller under load: what stays is kept, only what is new is synced, and nothing is written
to what is gone once the array is smaller."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, Shadow, errno_of, pattern
from load import Load
from mapper import dm, linear, need_target, sectors_of
from raid import Array, rams, stop_all
from report import expect, expect_in, note, run, wait_for, within
import kernel

KIB, MIB = 1 << 10, 1 << 20


def late(path, milliseconds=0):
    """A member that answers after so long."""
    need_target("delay")
    table = f"0 {sectors_of(path)} delay {path} 0 {milliseconds}" if milliseconds else linear(path)
    return dm(f"late-{os.path.basename(path)}", table)


class Writers:
    """Threads that write anywhere in a range until they are told to stop; how writes have ended is in `ended`."""

    def __init__(self, path, begin, end, count=4):
        self.path, self.begin, self.end, self.stop, self.ended = path, begin, end, False, {}
        self.threads = [threading.Thread(target=self.work, args=(number,), daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()
        # While there is room there: later it may be too late for the first one.
        wait_for("a write that has ended", lambda: self.ended, 20)

    def work(self, number):
        turn = number
        with Disk(self.path) as disk:
            while not self.stop:
                turn += len(self.threads)
                at = self.begin + turn * 40503 % ((self.end - self.begin) // 4096 - 16) * 4096
                problem = errno_of(lambda at=at, turn=turn: disk.write(at, pattern(turn, 65536)))
                self.ended[problem] = self.ended.get(problem, 0) + 1
                if problem:
                    time.sleep(0.01)

    def finish(self):
        """Stops them all."""
        self.stop = True
        for thread in self.threads:
            thread.join(20 * kernel.patience())
        expect("writers that hang", 0, sum(thread.is_alive() for thread in self.threads))


def tails(array, begin, end):
    """What the members have between these bytes of their data areas."""
    found = {}
    for path in array.members:
        with Disk(path) as disk:
            found[path] = disk.read(array.data_offset(path) + begin, end - begin)
    return found


def nothing_behind(level, bitmap):
    """Writes that are on their way when the array becomes smaller have ended when it is; none goes there later."""
    disks = [late(path) for path in rams(level - 1)]
    array = Array.create(disks, level=level, size=12, bitmap=bitmap)
    with Shadow(array.path) as shadow:
        data = level - 1 - (level - 4)
        keep = 8 * MIB * data
        shadow.write(0, pattern("kept", 2 * MIB))
        for turn in range(3):
            for path in rams(level - 1):
                late(path, 30)
            writers = Writers(array.path, keep, array.size())
            time.sleep(0.3)
            within(30, lambda: array.set("component_size", 8 * MIB // KIB))
            then = tails(array, 8 * MIB, 12 * MIB)
            expect("size", keep, array.size())
            time.sleep(0.3)
            writers.finish()
            expect_in("ends of writes", ({""}, {"", "EIO"}, {"", "ENOSPC"}, {"", "EIO", "ENOSPC"}), set(writers.ended))
            if kernel.driver() == "rust":
                expect(f"turn {turn}: members whose bytes behind the end have changed since", [],
                       [path for path, bytes_ in tails(array, 8 * MIB, 12 * MIB).items() if bytes_ != then[path]])
            for path in rams(level - 1):
                late(path)
            array.set("component_size", 12 * MIB // KIB)
            array.wait_synced()
        shadow.verify("what was always there", 0, 2 * MIB)
    array.expect_clean()


def only_what_is_new():
    """Growing syncs what is new, and nothing else; its content and that of the rest stay readable, also degraded."""
    disks = rams(5)
    array = Array.create(disks, level=6, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        # Wrong parity in what was there is not touched, so it tells whether a sync has gone over it.
        geometry = array.geometry()
        array.damage(geometry.row(3).p, 3 * geometry.chunk + 8)
        array.damage(geometry.row(8 * 16 + 3).p, (8 * 16 + 3) * geometry.chunk + 8)
        array.set("component_size", 24 * MIB // KIB)
        wait_for("a resync", lambda: array.get("resync_start") == "none" and array.idle(), 60)
        expect("size", 3 * 24 * MIB, array.size())
        expect("mismatches of what was there before", 8, array.scan())
        shadow.verify("what was there")
    array.scan("repair")
    with Shadow(array.path) as shadow:
        shadow.fill(seed=2)
        for path in disks[1:3]:
            array.fail(path)
        shadow.verify("all of it, without two members")


def garbage_behind(array, begin):
    """Members get something that no parity was made of between this byte of their data areas and 16 MiB."""
    for path in array.members:
        with Disk(path) as disk:
            disk.write(array.data_offset(path) + begin, pattern(path, 16 * MIB - begin))


def synced_with_bitmap(stopped, chunk="64K", begin=8 * MIB, written=False):
    """What is new is synced where a bitmap tells a sync what to pass over, and has told that there is nothing to do: also what
    shares a chunk of the bitmap with what was there, and when the array is stopped before the sync has begun. Under the C
    module it is not. written: md core has the counters of the chunks in memory, and takes note of what is new there by
    itself, but not on the members."""
    array = Array.create(rams(5), level=5, size=8, bitmap="internal", bitmap_chunk=chunk)
    if begin != 8 * MIB:
        array.set("component_size", begin // KIB)
        array.wait_synced()
    array.clear_bits()
    garbage_behind(array, begin)
    if written:
        with Disk(array.path) as disk:
            disk.write(0, pattern("before", 4096))
    if stopped:
        array.set("sync_action", "frozen")
    array.set("component_size", 16 * MIB // KIB)
    if stopped:
        array = array.reassemble()
    array.wait_synced()
    array.expect_clean()


def away_while_it_grows():
    """A member that is away while the array grows is rebuilt there when it comes back, by the bitmap. Under the C module it keeps
    what it had."""
    array = Array.create(rams(4), level=5, size=8, bitmap="internal")
    array.clear_bits()
    garbage_behind(array, 8 * MIB)
    away = array.members[2]
    array.fail(away)
    array.remove(away)
    array.set("component_size", 16 * MIB // KIB)
    array.wait_synced()
    with Disk(array.path) as disk:
        content = disk.hash()
        array.add(away, "--re-add")
        array.wait_rebuilt()
        expect("the content is what it was without the member", content, disk.hash())
    array.expect_clean()


def parity_not_known(grown):
    """Where md does not say that parity is right, a write makes it of all data: behind the end of an array that grows after a
    repair was interrupted, and where the administrator says so."""
    array = Array.create(rams(5), level=5, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
    array.reassemble()
    geometry = array.geometry()
    if grown:
        garbage_behind(array, 8 * MIB)
        # It waits there.
        array.set("sync_max", 4 * MIB // 512)
        array.set("sync_action", "repair")
        wait_for("half a repair", lambda: array.get("sync_completed").split()[0] == str(4 * MIB // 512), 30)
        array.set("sync_action", "frozen")
        array.set("sync_max", "max")
        expect("parity is known after a repair that was interrupted", False, array.get("resync_start") == "none")
        array.set("component_size", 16 * MIB // KIB)
        sector = 8 * MIB // 512 + 8
    else:
        array.set("sync_action", "frozen")
        sector = 3 * geometry.chunk + 8
        array.damage(geometry.row(3).p, sector, 4096)
        array.set("resync_start", 0)
    expect("parity of the row is right", False, array.row_parity_right(sector))
    stripe, within = divmod(sector, geometry.chunk)
    with Disk(array.path) as disk:
        disk.write((stripe * geometry.data * geometry.chunk + within) * 512, pattern("new", 4096))
    expect("parity of the row is right once it was written", True, array.row_parity_right(sector))
    array.set("sync_action", "idle")
    array.wait_synced()
    array.expect_clean()


def under_load(level, bitmap):
    """Larger and smaller again and again under a verifying load of what always stays, and writes to what comes and goes."""
    array = Array.create(rams(level - 1), level=level, size=8, bitmap=bitmap)
    small, data = array.size(), 3
    words = {"seconds": 5 * kernel.patience(), "jobs": 2, "depth": 16, "largest": "128k"}
    load = Load(array.path, small, **words)
    turn = 0
    while turn < 2 or load.running():
        if not load.running():
            # On a slow machine that is not enough for two turns.
            load.finish()
            load = Load(array.path, small, **words)
        large = (12, 24)[turn % 2] * MIB
        array.set("component_size", large // KIB)
        writers = Writers(array.path, small, large * data, 2)
        time.sleep(0.2)
        # A resync of what is new makes md refuse.
        array.wait_synced(60)
        array.set("component_size", 8 * MIB // KIB)
        writers.finish()
        expect_in("ends of writes", ({""}, {"", "EIO"}, {"", "ENOSPC"}, {"", "EIO", "ENOSPC"}), set(writers.ended))
        turn += 1
    load.finish()
    note(f"{turn} times larger and smaller")
    array.expect_clean()


def refusals():
    """More than the members have, and any size during a sync, are refused; what does not fill a chunk is left out."""
    array = Array.create(rams(4), size=8)
    expect("more than there is", "ENOSPC", array.outcome("component_size", 64 * MIB // KIB))
    expect("not whole chunks", "", array.outcome("component_size", 8 * MIB // KIB + 63))
    expect("size", 3 * 8 * MIB, array.size())
    # It waits there.
    array.set("sync_max", 4 * MIB // 512)
    array.set("sync_action", "check")
    wait_for("a check", lambda: "check =" in array.mdstat(), 10)
    expect("while a check runs", "EBUSY", array.try_set("component_size", 12 * MIB // KIB))
    array.set("sync_action", "idle")
    array.wait_idle()
    array.set("sync_max", "max")
    array.grow("--size=max")
    expect("all that there is", True, array.size() > 3 * 24 * MIB)
    array.wait_synced()
    array.expect_clean()


if __name__ == "__main__":
    run([
        ("raid5: nothing is written behind the end", lambda: nothing_behind(5, "none")),
        ("raid6, bitmap: nothing is written behind the end", lambda: nothing_behind(6, "internal")),
        ("only what is new is synced", only_what_is_new),
        ("bitmap: what is new is synced", lambda: synced_with_bitmap(False)),
        ("bitmap: what is new in a chunk of it is synced", lambda: synced_with_bitmap(False, "1M", 8 * MIB + 512 * KIB)),
        ("bitmap: what is new is synced after a stop", lambda: synced_with_bitmap(True)),
        ("bitmap: what is new is synced after a stop, once something was written", lambda: synced_with_bitmap(True, written=True)),
        ("bitmap: a member that was away gets what is new", away_while_it_grows),
        ("parity is not known behind what was there", lambda: parity_not_known(True)),
        ("parity is not known where md is told so", lambda: parity_not_known(False)),
        ("raid5: under load", lambda: under_load(5, "none")),
        ("raid6, bitmap: under load", lambda: under_load(6, "internal")),
        ("sizes that are refused", refusals),
    ], cleanup=stop_all)

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=400
"""The write-intent bitmap: set before the data, cleared when idle, kept while degraded, and used by re-add."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace, sectors
from disk import Disk, SECTOR, Shadow, pattern
from raid import Array, name_of, rams, stop_all
from report import expect, expect_match, expect_no_match, expect_range, note, run, wait_for
import kernel


def filled(bitmap="internal", level=5):
    """A synced, filled array of four members, its bits all clear, and its shadow."""
    array = Array.create(rams(4), level=level, size=8, bitmap=bitmap)
    shadow = Shadow(array.path)
    shadow.fill()
    if bitmap != "none":
        array.clear_bits()
    return array, shadow


def set_before_data():
    """On every member the bit's write comes before the first write of data or parity to any member."""
    array, shadow = filled()
    low = min(array.data_offset(path) for path in array.members) // SECTOR
    wait_for("array clean", lambda: array.get("array_state") == "clean", 10)
    # From the first write on it stays active: with each change of the superblocks that of the bitmap is written too.
    array.set("safe_mode_delay", "600")
    with BlockTrace(array.members) as trace:
        shadow.write(100 * 4096, pattern(1, 4096))
    writes = trace.writes()
    kinds = ["data" if bio.sector >= low else "super" if bio.sector == 8 else "bitmap" for bio in writes]
    note(f"order of the writes: {' '.join(kinds)}")
    # The bitmap's daemon may still be writing that bits were cleared; then the superblocks say that the array is active.
    active = max(at for at, kind in enumerate(kinds) if kind == "super")
    expect("after the superblocks: a bitmap write to each member, then data and parity",
           ["bitmap"] * 4 + ["data"] * 2, kinds[active + 1:])
    expect("a bit is set on each member", [1, 1, 1, 1], [array.dirty_bits(path) for path in array.members])
    with BlockTrace(array.members) as trace:
        shadow.write(100 * 4096, pattern(2, 4096))
    expect("a second write to the same chunk sets no bit again", 0,
           len([bio for bio in trace.writes() if 8 < bio.sector < low]))
    array.clear_bits()
    shadow.verify()
    shadow.close()


def bits_follow_writes():
    """One bit for each bitmap chunk (64 KiB of a member) that was written; none for reads."""
    array, shadow = filled()
    geometry = array.geometry()
    for turn in range(5):
        shadow.write(turn * 10 * geometry.chunk * geometry.data * SECTOR, pattern(turn, 8192))
    shadow.verify()
    expect("bits set by writes to 5 chunks, far apart", 5, array.dirty_bits())
    shadow.close()


def bits_come_and_go():
    """However a write meets the daemon that clears bits: when it is acknowledged its bit is set on every member."""
    array, shadow = filled()
    # Between a write's end and the looks at all members nothing is cleared, unless those take longer.
    base = 0.1 * kernel.SLOW
    array.set("bitmap/time_base", base)
    place = (8 + int(array.get("bitmap/location"))) * SECTOR
    disks = [Disk(path) for path in array.members]
    # The bits follow 256 bytes of the bitmap's superblock; the first one is that of the first chunk.
    bits = lambda: [disk.read(place, SECTOR)[256] & 1 for disk in disks]
    rng = random.Random(7)
    found, lacking, looks = set(), 0, 0
    for turn in range(40 if kernel.SLOW > 1 else 120):
        found.add(bits()[0])
        end = time.monotonic() + base
        shadow.write(rng.randrange(16) * 4096, pattern(turn, 4096))
        on_members = bits()
        if time.monotonic() < end:
            looks += 1
            lacking += on_members != [1, 1, 1, 1]
        time.sleep(rng.random() * 0.35 * kernel.SLOW)
    expect("found before the writes, now and then", {0, 1}, found)
    expect("writes acknowledged before their bit was set on every member", 0, lacking)
    expect_range("looks that were over in time", 10, 120, looks)
    shadow.verify()
    shadow.close()
    for disk in disks:
        disk.close()


def readd(level=5):
    """Members that were away come back (two of them at level 6): what changed meanwhile is written to them, and nothing
    else."""
    array, shadow = filled(level=level)
    geometry = array.geometry()
    gone = {2: array.members[2]} if level == 5 else {1: array.members[1], 2: array.members[2]}
    for away in gone.values():
        array.fail(away)
        array.remove(away)
    for turn, place in enumerate((10, 11, 70)):
        shadow.write(place * geometry.chunk * geometry.data * SECTOR, pattern(turn, 64 * 1024 * geometry.data))
    shadow.verify("without them")
    # Damage in a row that was not written, to see that re-add does not touch it.
    low = array.data_offset(array.members[0])
    row = 40 * geometry.chunk
    with Disk(gone[2]) as disk:
        place = low + row * SECTOR
        disk.write(place, bytes(byte ^ 0x5a for byte in disk.read(place, SECTOR)))
    log = kernel.Log()
    with BlockTrace(gone.values()) as trace:
        array.add_together(gone.values(), "--re-add")
        array.wait_rebuilt()
    expect("recoveries in the log", 1, log.text().count("recover of RAID array md0"))
    for slot, away in gone.items():
        expect("it has its old slot", away, array.slots()[slot])
        written = sectors(trace.writes(away, low // SECTOR))
        expect_range(f"sectors written to {away} (3 chunks of 128 were changed)", 3 * 128, 4 * 128, written)
    expect("mismatch_cnt: the damage in a row that did not change is still there", 8, array.scan())
    array.damage(2, row)
    array.expect_clean()
    shadow.verify("after re-add")
    for away in [path for path in array.members if path not in gone.values()][:len(gone)]:
        array.fail(away)
    shadow.verify("read through the members that came back")
    shadow.close()


def other_slot():
    """A member that comes back into another slot than it had gets everything, also when the array is stopped meanwhile."""
    array, shadow = filled(level=6)
    old, other, spare = array.members[1], array.members[2], rams(1, 4)[0]
    for away in (old, other):
        array.fail(away)
        array.remove(away)
    shadow.write(0, pattern("meanwhile", 4096))
    array.add(spare)
    wait_for("a spare in its slot", lambda: array.get("degraded") == "1" and array.idle(), 30)
    expect("the slot", spare, array.slots().get(1))
    array.set("sync_max", 4096)
    array.add(old, "--re-add")
    wait_for("a part of the rebuild", lambda: array.get("sync_completed").startswith("4096 "), 30)
    expect("the slot of the one that came back", old, array.slots().get(2))
    shadow.close()
    array.stop()
    array.members.remove(other)
    array = Array.assemble(array.members)
    array.wait_rebuilt()
    shadow.reopen()
    array.expect_parity(shadow.bytes)
    shadow.verify("rebuilt")
    shadow.close()


def half_a_member():
    """A spare that fails half rebuilt, and is told to come back by the file `state`, gets everything, also when the array is
    stopped meanwhile. md core takes it for an old member, which lacks no more than the bitmap tells: nothing."""
    array, shadow = filled("none")
    gone, spare = array.members[2], rams(1, 4)[0]
    array.grow("--bitmap=internal", "--bitmap-chunk=64K")
    array.clear_bits()
    array.fail(gone)
    array.remove(gone)
    array.members.remove(gone)
    with Disk(spare) as disk:
        disk.write(1 << 16, pattern("garbage", disk.size - (1 << 16)))
    array.set("sync_max", 4096)
    array.add(spare)
    wait_for("half of the rebuild", lambda: array.get("sync_completed").startswith("4096 "), 30)
    array.fail(spare)
    # The rebuild, which waits at the limit, is to see that.
    array.set("sync_max", "max")
    wait_for("its slot empty", lambda: array.member(spare, "slot") == "none" and array.idle(), 30)
    array.set("sync_max", 4096)
    array.set(f"dev-{name_of(spare)}/state", "re-add")
    wait_for("half of the rebuild again", lambda: array.get("sync_completed").startswith("4096 "), 30)
    expect("bits that are set", 0, array.dirty_bits())
    shadow.close()
    array.stop()
    array = Array.assemble(array.members, "--run")
    array.wait_rebuilt()
    shadow.reopen()
    array.expect_parity(shadow.bytes)
    shadow.verify("rebuilt")
    shadow.close()


def rebuilt_in_place_of(array, shadow, old, new):
    """`old` goes, something is written, and `new` is rebuilt in its slot. Then nothing is written any more, and all bits are clear."""
    array.fail(old)
    array.remove(old)
    array.members.remove(old)
    for turn, place in enumerate((10, 11, 70)):
        shadow.write(place * 64 * 1024 * 3, pattern(turn, 64 * 1024 * 3))
    array.add(new)
    array.wait_rebuilt()
    array.clear_bits()


def rebuilt_meanwhile(stopped):
    """A member is away while a new one is rebuilt in its place, and is to come back when that one has failed, before anything was
    written, also if the array was stopped in between. The rebuild has cleared the bits for what it lacks, so it is turned away,
    and gets everything when it is added. Under the C module it is taken, gets nothing, and answers readers with what it had."""
    array, shadow = filled()
    old, new = array.members[2], rams(1, 4)[0]
    rebuilt_in_place_of(array, shadow, old, new)
    if stopped:
        shadow.close()
        array = array.reassemble()
        shadow.reopen()
    array.fail(new)
    array.remove(new)
    array.members.remove(new)
    status, text = kernel.sh("mdadm", array.path, "--re-add", old, check=False)
    note(f"mdadm --re-add ended with {status}: {text.strip()}")
    expect("it is turned away, and no device of the array", (True, set()), (status != 0, array.state(old)))
    array.add(old)
    array.wait_rebuilt()
    expect("its slot", old, array.slots().get(2))
    array.expect_parity(shadow.bytes)
    shadow.verify("rebuilt")
    shadow.close()


def others_come_back():
    """After such a rebuild, before anything was written, the new member and the others come back by the bitmap all the same."""
    array, shadow = filled()
    new, = rams(1, 4)
    rebuilt_in_place_of(array, shadow, array.members[2], new)
    for turn, away in enumerate((new, array.members[0])):
        low = array.data_offset(away) // SECTOR
        array.fail(away)
        array.remove(away)
        shadow.write((30 + turn) * 64 * 1024 * 3, pattern(("meanwhile", turn), 4096))
        with BlockTrace([away]) as trace:
            array.add(away, "--re-add")
            array.wait_rebuilt()
        written = sectors(trace.writes(away, low))
        expect_range(f"sectors written to {away} (a chunk of 128 was changed)", 128, 2 * 128, written)
    array.expect_parity(shadow.bytes)
    shadow.verify("after that")
    shadow.close()


# Of a member's 8 MiB: where a rebuild stops, and chunks of the bitmap below and above that.
STOP, BELOW, ABOVE = 4096, (10, 11), 70


def change_rows(shadow, rows, data, seed=0):
    """Writes these rows of 64 KiB on `data` members anew: chunks of the bitmap have the same numbers."""
    for row in rows:
        shadow.write(row * 64 * 1024 * data, pattern((seed, row), 64 * 1024 * data))


def rebuilt_to_stop(array, path, how="--add"):
    """Adds a member, and waits until it is rebuilt as far as STOP."""
    array.set("sync_max", STOP)
    array.add(path, how)
    wait_for("a part of the rebuild", lambda: array.get("sync_completed").startswith(f"{STOP} "), 30)


def comes_back(array, shadow, old):
    """Has `old` come back: it gets the chunks that were changed while it was away, and no others. Then all bits are cleared."""
    with BlockTrace([old]) as trace:
        array.add(old, "--re-add")
        array.wait_rebuilt()
    shadow.verify("rebuilt")
    array.expect_parity(shadow.bytes)
    written = sectors(trace.writes(old, array.data_offset(old) // SECTOR))
    expect_range(f"sectors written to {old} (3 chunks of 128 were changed)", 3 * 128, 4 * 128, written)
    array.clear_bits()


def half_rebuilt_meanwhile(fails):
    """A member is away while a new one is rebuilt in its place, which fails, or is gone after a stop, before that has ended. Then the
    old one comes back, and gets what was changed while it was away also where the new one had got it. Under the C module it does
    not, and answers readers with what it had."""
    array, shadow = filled()
    old, new = array.members[2], rams(1, 4)[0]
    array.fail(old)
    array.remove(old)
    array.members.remove(old)
    change_rows(shadow, (*BELOW, ABOVE), 3)
    rebuilt_to_stop(array, new)
    if fails:
        array.fail(new)
        array.set("sync_max", "max")
        wait_for("its slot empty", lambda: array.member(new, "slot") == "none" and array.idle(), 30)
        array.remove(new)
    shadow.close()
    array.stop()
    array.members.remove(new)
    array = Array.assemble(array.members, "--run")
    shadow.reopen()
    comes_back(array, shadow, old)
    shadow.close()


def other_half_rebuilt_meanwhile():
    """The same with two members away: a new one is rebuilt in place of the first, and goes while the second one, which comes back by the
    bitmap, is rebuilt. The first one comes back, and gets what was changed also where the second one had got it."""
    array, shadow = filled(level=6)
    first, second, new = array.members[1], array.members[2], rams(1, 4)[0]
    for away in (first, second):
        array.fail(away)
        array.remove(away)
        array.members.remove(away)
    change_rows(shadow, (*BELOW, ABOVE), 2)
    array.add(new)
    wait_for(f"{new} a member", lambda: array.state(new) == {"in_sync"} and array.idle(), 60)
    # What is known of the new one's rebuild is forgotten.
    shadow.close()
    array = array.reassemble("--run")
    rebuilt_to_stop(array, second, "--re-add")
    array.stop()
    array.members.remove(new)
    array = Array.assemble(array.members, "--run")
    shadow.reopen()
    wait_for(f"{second} a member", lambda: array.state(second) == {"in_sync"} and array.idle(), 60)
    comes_back(array, shadow, first)
    shadow.close()


def cleared_in_the_end(stopped):
    """When the last member has been rebuilt all bits are cleared: those that were set before, and those of what was written meanwhile,
    also if the array was stopped in between. Under the C module those of the latter stay until it is synced once more."""
    array, shadow = filled()
    old, new = array.members[2], rams(1, 4)[0]
    array.fail(old)
    array.remove(old)
    array.members.remove(old)
    change_rows(shadow, (*BELOW, ABOVE), 3)
    rebuilt_to_stop(array, new)
    change_rows(shadow, (5, 6, ABOVE + 1), 3)
    expect("bits that are set", 6, array.dirty_bits())
    if stopped:
        shadow.close()
        array = array.reassemble()
        shadow.reopen()
    array.set("sync_max", "max")
    array.wait_rebuilt()
    array.clear_bits()
    array.expect_parity(shadow.bytes)
    array.expect_clean()
    shadow.verify("rebuilt")
    shadow.close()


def spare_beside_resync(bitmap, action="idle"):
    """While a resync runs beside a member that is half rebuilt, a spare is added: md core takes that for a rebuild then, and how
    far the resync is for how far the member is rebuilt. It gets what it lacks all the same. With another `action` the resync is what
    md core makes of that."""
    array, shadow = filled(bitmap)
    gone, spares = array.members[2], rams(1, 4)
    array.fail(gone)
    array.remove(gone)
    with Disk(gone) as disk:
        disk.write(0, pattern("garbage", disk.size))
    array.set("sync_max", 4096)
    array.add(gone)
    wait_for("half of the rebuild", lambda: array.get("sync_completed").startswith("4096 "), 30)
    array.set("sync_action", "frozen")
    wait_for("frozen", lambda: array.get("sync_completed") == "none", 10)
    expect("what the member holds", "4096", array.member(gone, "recovery_start"))
    log = kernel.Log()
    array.set("sync_max", 2048)
    array.set("resync_start", "0")
    array.set("sync_action", action)
    wait_for("the resync", lambda: array.get("sync_completed").startswith("2048 "), 30)
    expect_match("what runs", r"md: resync of RAID array md0", log.text())
    array.add(spares[0], "--add-spare")
    array.set("sync_max", "max")
    array.wait_rebuilt()
    expect("the member", {"in_sync"}, array.state(gone))
    array.expect_parity(shadow.bytes)
    array.expect_clean()
    shadow.verify("all of it")
    shadow.close()


def add_is_full():
    """A spare that never was a member gets everything."""
    array, shadow = filled()
    array.fail(array.members[1])
    array.remove(array.members[1])
    spare = rams(1, 4)[0]
    with BlockTrace([spare]) as trace:
        array.add(spare)
        array.wait_rebuilt()
    written = sectors(trace.writes(spare, array.data_offset(spare) // SECTOR))
    expect("sectors written to the spare", array.data_size() // SECTOR, written)
    array.expect_clean()
    shadow.verify("after the rebuild")
    shadow.close()


def bits_stay():
    """While a member is missing no bit is cleared."""
    array, shadow = filled()
    array.fail(array.members[3])
    shadow.write(0, pattern(1, 4096))
    array.set("bitmap/time_base", "0.1")
    time.sleep(1)
    expect_range("bits set, ten rounds of the daemon after the write", 1, 2, array.dirty_bits())
    shadow.verify()
    shadow.close()


def no_bitmap():
    """Without a bitmap a member that comes back is rebuilt from end to end."""
    array, shadow = filled("none")
    away = array.members[2]
    array.fail(away)
    array.remove(away)
    shadow.write(0, pattern(1, 4096))
    log = kernel.Log()
    with BlockTrace([away]) as trace:
        array.add(away)
        array.wait_rebuilt()
    expect_match("md", r"recover of RAID array md0", log.text())
    expect("sectors written to it", array.data_size() // SECTOR,
           sectors(trace.writes(away, array.data_offset(away) // SECTOR)))
    array.expect_clean()
    shadow.verify()
    shadow.close()


def added_later():
    """A bitmap that is added to a running array and taken away again."""
    array, shadow = filled("none")
    for turn in range(2):
        array.grow("--bitmap=internal", "--bitmap-chunk=64K")
        array.clear_bits()
        shadow.write(turn * 4096, pattern(turn, 4096))
        expect("bits", 1, array.dirty_bits())
        array.grow("--bitmap=none")
        shadow.write(turn * 8192, pattern(turn, 4096))
    log = kernel.Log()
    expect_no_match("complaints", r"WARN|BUG", log.text())
    array.expect_clean()
    shadow.verify()
    shadow.close()


def half_rebuilt():
    """A member comes back, and its rebuild stops in the middle of a chunk of the bitmap; then parity is said not to be known, so
    that a resync goes before the rebuild. It can do nothing where the member lacks its blocks, and the rest of the chunk is
    rebuilt all the same."""
    array = Array.create(rams(4), level=5, size=8, bitmap="internal", bitmap_chunk="1M")
    shadow = Shadow(array.path)
    shadow.fill()
    away = array.members[2]
    array.fail(away)
    array.remove(away)
    shadow.fill(seed=2)
    # In chunk 2 of 8.
    stop = (2 * 1024 + 512) * 2
    array.set("sync_max", stop)
    array.add(away, "--re-add")
    wait_for("the rebuild is in the middle of a chunk", lambda: array.get("sync_completed").split()[0] == str(stop), 30)
    array.set("sync_action", "frozen")
    wait_for("frozen", lambda: array.get("sync_completed") == "none", 10)
    expect("what the member holds", str(stop), array.member(away, "recovery_start"))
    log = kernel.Log()
    array.set("sync_max", "max")
    array.set("resync_start", "0")
    array.set("sync_action", "idle")
    array.wait_rebuilt()
    expect_match("a resync", r"md: resync of RAID array md0", log.text())
    array.expect_clean()
    array.fail(array.members[0])
    shadow.verify("read through the member that came back")
    shadow.close()


if __name__ == "__main__":
    run([
        ("the bit is durable before the data", set_before_data),
        ("one bit for each chunk that was written", bits_follow_writes),
        ("bits come and go", bits_come_and_go),
        ("re-add recovers what changed", readd),
        ("re-add of two members recovers what changed", lambda: readd(6)),
        ("re-add into another slot", other_slot),
        ("a resync beside a member that is half rebuilt", half_rebuilt),
        ("a spare added during a resync, beside a member that is half rebuilt", lambda: spare_beside_resync("none")),
        ("the same, with a bitmap", lambda: spare_beside_resync("internal")),
        ("the same, where a repair was asked for", lambda: spare_beside_resync("none", "repair")),
        ("a spare that comes back half rebuilt", half_a_member),
        ("a member that was away while another one was rebuilt", lambda: rebuilt_meanwhile(False)),
        ("the same, and the array was stopped", lambda: rebuilt_meanwhile(True)),
        ("others come back after a rebuild", others_come_back),
        ("a member that was away while another one was half rebuilt, and failed", lambda: half_rebuilt_meanwhile(True)),
        ("the same, and the other one is gone after a stop", lambda: half_rebuilt_meanwhile(False)),
        ("a member that was away while one in another slot was half rebuilt", other_half_rebuilt_meanwhile),
        ("all bits are cleared when a rebuild has ended", lambda: cleared_in_the_end(False)),
        ("the same, and the array was stopped meanwhile", lambda: cleared_in_the_end(True)),
        ("a new spare gets everything", add_is_full),
        ("bits stay while degraded", bits_stay),
        ("without bitmap a member is rebuilt whole", no_bitmap),
        ("bitmap added and removed", added_later),
    ], cleanup=stop_all)

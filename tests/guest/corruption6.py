#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=8 timeout=400
"""Blocks of a level 6 array that changed behind its back. Method `parity` does as the kernel's own driver: repair makes P
and Q anew. Method `locate` finds the one wrong block of a strip and mends that one, whichever it is."""

import os
import random
import re
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers, expect_same, under_each
from disk import Disk, Shadow, pattern
from geometry import LAYOUTS6, xor
from load import Load
from raid import Array, name_of, rams, stop_all
from raid6check import expect_sound
from report import Failed, Skipped, expect, expect_match, expect_no_match, note, run, wait_for
import kernel

ROW = 4096  # bytes of a strip's block on each member

# What becomes of a block: {name: bytes that are added to it, from a source of random numbers}.
SHAPES = {
    "a bit": lambda choice: one_byte(choice, 1 << choice.randrange(8)),
    "a byte": lambda choice: one_byte(choice, choice.randrange(1, 256)),
    "a sector": lambda choice: bytes(512 * 3) + choice.randbytes(512) + bytes(ROW - 4 * 512),
    "all": lambda choice: choice.randbytes(ROW),
}


def one_byte(choice, value):
    """A block's change in one byte."""
    at = choice.randrange(ROW)
    return bytes(at) + bytes([value]) + bytes(ROW - 1 - at)


def plant(array, slot, strip, change):
    """Adds a change to a block of a member, behind the array's back."""
    path = array.slots()[slot]
    with Disk(path) as disk:
        place = array.data_offset(path) + strip * ROW
        disk.write(place, xor([disk.read(place, ROW), change]))


def prepare(layout, members, chunk=16, size=1):
    """A synced and filled array of `size` MiB a member, and its shadow."""
    array = Array.create(rams(members), level=6, layout=layout, chunk=chunk, size=size)
    shadow = Shadow(array.path)
    shadow.fill(seed=layout)
    array.expect_clean()
    if kernel.driver() == "c":
        # It checks what its stripe cache holds, and that holds all of so small an array.
        shadow.close()
        array = array.reassemble()
        shadow.reopen()
    return array, shadow


def images(array):
    """{slot: data area} of all members."""
    return {slot: array.image(path) for slot, path in array.slots().items()}


def random_strips(array, count, seed):
    """Different strips of the array; the first and the last are among them."""
    last = array.data_size() // ROW - 1
    return [0, last] + random.Random(seed).sample(range(1, last), count - 2)


def role_of(geometry, slot, strip):
    """"P", "Q" or "data": what a member holds in a strip."""
    row = geometry.row(strip * 8 // geometry.chunk)
    return {row.p: "P", row.q: "Q"}.get(slot, "data")


# --- method parity -------------------------------------------------------------------------------------------------


def parity_session(layout, members, missing=None):
    """Wrong blocks on each member in turn; check, repair, check. Returns the counts and a checksum of each member."""
    array, shadow = prepare(layout, members)
    shadow.close()
    found = {}
    if missing is not None:
        array.fail(array.slots()[missing])
    choice = random.Random(layout)
    strips = random_strips(array, 4 * members, layout)
    for turn, strip in enumerate(strips):
        if turn % members != missing:
            plant(array, turn % members, strip, list(SHAPES.values())[turn // members](choice))
    for turn, action in enumerate(("check", "check", "repair", "check")):
        found[f"{turn}: mismatch_cnt of {action}"] = array.scan(action)
        if missing is not None:
            # Lost blocks that C has computed stay in its stripe cache, and count no more.
            present = list(array.slots().values())
            array.stop()
            array = Array.assemble(present, "--run")
    for slot, image in images(array).items():
        found[f"slot {slot} afterwards"] = zlib.crc32(image)
    if missing is None:
        expect("mismatch_cnt of check", 8 * len(strips), found["0: mismatch_cnt of check"])
        expect("mismatch_cnt after repair", 0, found["3: mismatch_cnt of check"])
        array.expect_parity()
    array.stop()
    return found


def as_c_does(layout, members, missing=None):
    """The same under both drivers: counts, and every byte of every member."""
    def each(driver):
        found = parity_session(layout, members, missing)
        note(f"{driver}: {[value for name, value in found.items() if 'cnt' in name]}")
        return found
    expect_same("counts, and members' checksums after repair", *under_each(each), drivers())


def data_is_believed():
    """repair changes P and Q, and no data."""
    array, shadow = prepare("left-symmetric", 5)
    geometry, choice = array.geometry(), random.Random(4)
    wanted = images(array)
    for turn, strip in enumerate(random_strips(array, 15, 1)):
        slot, change = turn % 5, choice.randbytes(ROW)
        plant(array, slot, strip, change)
        if role_of(geometry, slot, strip) == "data":
            at = geometry.array_sector(slot, strip * 8) * 512
            shadow.bytes[at:at + ROW] = xor([shadow.bytes[at:at + ROW], change])
    expect("mismatch_cnt of repair", 8 * 15, array.scan("repair"))
    expect("the members are no more what they were", True, images(array) != wanted)
    array.expect_parity(shadow.bytes)
    expect("mismatch_cnt of check", 0, array.scan())
    shadow.verify()
    for slot in (1, 3):
        array.fail(array.slots()[slot])
    shadow.verify("without two members")
    shadow.close()


# --- method locate -------------------------------------------------------------------------------------------------


def prepare_locate(layout, members, method="locate", **shape):
    """As prepare(), with this method; skips the case under a driver that does not have it."""
    if kernel.driver() == "c":
        raise Skipped("the C module cannot locate")
    array, shadow = prepare(layout, members, **shape)
    expect("mismatch_method of a new array", "parity", array.get("mismatch_method"))
    array.set("mismatch_method", method)
    expect("mismatch_method", method, array.get("mismatch_method"))
    return array, shadow


def counts(array):
    """The counters of located blocks and of strips that could not be."""
    return int(array.get("mismatch_located")), int(array.get("mismatch_unlocated"))


def blocks_in(text):
    """{(kernel's name of the member, slot, strip)} of the log's lines about located blocks."""
    found = set()
    for name, slot, first, last in re.findall(
            r"md0: wrong block located: member (\S+) \(slot (\d+)\), sectors (\d+)-(\d+)", text):
        found |= {(name, int(slot), strip) for strip in range(int(first) // 8, int(last) // 8)}
    return found


def locate(layout, members, action="repair", method="locate"):
    """One wrong block in each of many strips, on each member in turn: every byte is as before."""
    array, shadow = prepare_locate(layout, members, method)
    before, slots = images(array), array.slots()
    choice = random.Random(layout)
    planted = set()
    for turn, strip in enumerate(random_strips(array, 5 * members, layout)):
        slot, shape = turn % members, list(SHAPES)[turn // members % len(SHAPES)]
        plant(array, slot, strip, SHAPES[shape](choice))
        planted.add((name_of(slots[slot]), slot, strip))
    roles = sorted({role_of(array.geometry(), slot, strip) for _, slot, strip in planted})
    expect("what the wrong blocks hold", ["P", "Q", "data"], roles)
    if method == "locate":
        spoiled, log = images(array), kernel.Log()
        expect("mismatch_cnt of check", 8 * len(planted), array.scan())
        expect("blocks located by check", set(), blocks_in(log.text()))
        expect("the members after check: unchanged", True, images(array) == spoiled)
    log, start = kernel.Log(), counts(array)
    expect(f"mismatch_cnt of {action}", 8 * len(planted), array.scan(action))
    compare_images(before, images(array))
    expect("blocks named in the log, (member, slot, strip)", planted, blocks_in(log.text()))
    expect("mismatch_located and mismatch_unlocated", (len(planted), 0),
           tuple(now - then for now, then in zip(counts(array), start)))
    expect("mismatch_cnt of check", 0, array.scan())
    array.expect_parity(shadow.bytes)
    shadow.verify()
    shadow.close()


def compare_images(before, after):
    """Ends the case unless all members hold the same bytes."""
    for slot, image in before.items():
        wrong = [at // ROW for at in range(0, len(image), ROW) if image[at:at + ROW] != after[slot][at:at + ROW]]
        if wrong:
            raise Failed(f"slot {slot}: expected every byte as before, strips {wrong[:10]} differ")
    note(f"ok: all {len(before)} members hold what they held before")


def neighbours():
    """Wrong blocks in strips side by side, on the same member and on different ones."""
    array, shadow = prepare_locate("left-symmetric", 6, chunk=64)
    before, slots, choice = images(array), array.slots(), random.Random(1)
    planted = {}
    for strip in range(16, 48):
        planted[strip] = 2 if strip < 28 else choice.randrange(6)
        plant(array, planted[strip], strip, SHAPES["all"](choice))
    log = kernel.Log()
    expect("mismatch_cnt of repair", 8 * len(planted), array.scan("repair"))
    compare_images(before, images(array))
    expect("blocks named in the log", {(name_of(slots[slot]), slot, strip) for strip, slot in planted.items()},
           blocks_in(log.text()))
    array.expect_clean()
    expect_sound(array)
    shadow.verify()
    shadow.close()


def two_wrong(layout, members):
    """Two to four wrong blocks in a strip: nothing is changed, also in neighbouring strips' sound blocks; it is reported,
    and a wrong block in another strip is mended all the same."""
    array, shadow = prepare_locate(layout, members)
    geometry, before, choice = array.geometry(), images(array), random.Random(layout)
    strips = random_strips(array, 9, layout)
    kinds = [("data", "data"), ("data", "P"), ("data", "Q"), ("P", "Q"), ("data", "data", "P", "Q")] * 2
    for strip, kind in zip(strips[:8], kinds):
        row = geometry.row(strip * 8 // geometry.chunk)
        data = choice.sample(row.data, kind.count("data"))
        for slot in data + [row.p] * kind.count("P") + [row.q] * kind.count("Q"):
            plant(array, slot, strip, SHAPES["all"](choice))
    spoiled, single = images(array), strips[8]
    plant(array, 1, single, SHAPES["a byte"](choice))
    log, start = kernel.Log(), counts(array)
    expect("mismatch_cnt of repair", 8 * 9, array.scan("repair"))
    text = log.text()
    expect_match("the log", r"cannot be located", text)
    expect("blocks located", {(name_of(array.slots()[1]), 1, single)}, blocks_in(text))
    expect("mismatch_located and mismatch_unlocated", (1, 8),
           tuple(now - then for now, then in zip(counts(array), start)))
    compare_images(spoiled, images(array))
    expect("mismatch_cnt of check: they are still there", 8 * 8, array.scan())
    # The administrator decides: parity is made to fit the data.
    array.set("mismatch_method", "parity")
    expect("mismatch_cnt of repair by parity", 8 * 8, array.scan("repair"))
    array.expect_clean()
    array.expect_parity()
    expect("data that was wrong stays so", True, images(array) != before)
    shadow.close()


def apart(layout, members):
    """Two wrong blocks whose wrong bytes lie apart: each byte alone would tell of one wrong block, of two different ones."""
    array, shadow = prepare_locate(layout, members)
    geometry = array.geometry()
    strips = random_strips(array, 6, layout)
    for turn, strip in enumerate(strips):
        row = geometry.row(strip * 8 // geometry.chunk)
        pair = [(row.data[0], row.data[1]), (row.p, row.q), (row.data[1], row.q)][turn % 3]
        for at, slot in zip((17, 3000), pair):
            plant(array, slot, strip, bytes(at) + b"\x10" + bytes(ROW - 1 - at))
    spoiled, log, start = images(array), kernel.Log(), counts(array)
    expect("mismatch_cnt of repair", 8 * len(strips), array.scan("repair"))
    expect("blocks located", set(), blocks_in(log.text()))
    expect("mismatch_located and mismatch_unlocated", (0, len(strips)),
           tuple(now - then for now, then in zip(counts(array), start)))
    compare_images(spoiled, images(array))
    shadow.close()


def member_missing():
    """With a member missing there is too little left to tell which block is wrong: as without the method."""
    array, shadow = prepare_locate("left-symmetric", 5, "locate-check")
    array.fail(array.slots()[4])
    geometry = array.geometry()
    strip = next(strip for strip in range(256) if role_of(geometry, 4, strip) == "data")
    plant(array, geometry.row(strip * 8 // geometry.chunk).q, strip, pattern(1, ROW))
    log = kernel.Log()
    expect("mismatch_cnt of check", 8, array.scan())
    expect("mismatch_cnt of repair", 8, array.scan("repair"))
    expect("mismatch_cnt of check", 0, array.scan())
    expect_no_match("located or not in the log", r"located", log.text())
    shadow.verify()
    shadow.close()


def interrupted():
    """A repair that is interrupted goes on as a resync, by md's own decision: it still locates."""
    array, shadow = prepare_locate("left-symmetric", 5, size=4)
    before, choice = images(array), random.Random(2)
    half = array.data_size() // 512 // 2
    strips = [strip for strip in random_strips(array, 20, 5) if strip * 8 >= half]
    for turn, strip in enumerate(strips):
        plant(array, turn % 5, strip, choice.randbytes(ROW))
    array.set("sync_max", half)
    array.set("sync_action", "repair")
    wait_for("repair at half", lambda: array.get("sync_completed").startswith(f"{half} /"), 30)
    log = kernel.Log()
    array.set("sync_action", "idle")
    array.set("sync_max", "max")
    array.wait_synced()
    note(f"what md does next: {re.findall(r'md: (?:resync|repair) of RAID array md0', log.text())}")
    # Whether md has gone on by itself or not.
    array.scan("repair")
    compare_images(before, images(array))
    expect("mismatch_located and mismatch_unlocated", (len(strips), 0), counts(array))
    shadow.verify()
    shadow.close()


def under_load():
    """While requests come and go nothing is taken for a wrong block, and what is wrong elsewhere is mended."""
    array, shadow = prepare_locate("left-symmetric", 5, "locate-check", size=4)
    half = array.size() // 2
    with shadow:
        work = Load(array.path, half, seconds=5, jobs=2, largest="64k")
        strips = array.data_size() // ROW
        rounds = 0
        while work.running():
            slot, strip = rounds % 5, strips // 2 + 8 + rounds * 37 % (strips // 2 - 16)
            plant(array, slot, strip, pattern(rounds, ROW))
            expect("mismatch_cnt of check", 8, array.scan())
            rounds += 1
        work.finish()
        note(f"{rounds} checks under load")
        expect("mismatch_located and mismatch_unlocated", (rounds, 0), counts(array))
        shadow.verify("the half without load", half + half % 65536, half - half % 65536)
    array.expect_clean()
    array.expect_parity()


def settings():
    """The file takes its words and no others, and an array of level 5 does not locate."""
    array, shadow = prepare_locate("left-symmetric", 4)
    shadow.close()
    array.set("mismatch_method", "parity")
    for value, problem in (("locate", ""), ("locate-check", ""), ("parity", ""), ("abc", "EINVAL"), ("", "EINVAL"),
                           ("locat", "EINVAL"), ("0", "EINVAL")):
        expect(f"mismatch_method < {value!r}", problem, array.try_set("mismatch_method", value))
        expect("its value", "parity" if problem else value, array.get("mismatch_method"))
    for name in ("mismatch_located", "mismatch_unlocated"):
        expect(name, "0", array.get(name))
    array.set("mismatch_method", "locate")
    array = array.reassemble()
    expect("after assembly", "parity", array.get("mismatch_method"))


if __name__ == "__main__":
    run([
        *[(f"parity: as C does, {members} members, {layout}",
           lambda layout=layout, members=members: as_c_does(layout, members))
          for members, layout in ((4, "left-symmetric"), (5, "ddf-zero-restart"), (6, "right-symmetric-6"))],
        *[(f"parity: as C does, a member missing, {layout}", lambda layout=layout: as_c_does(layout, 5, 2))
          for layout in ("left-symmetric", "parity-last")],
        ("parity: data is believed", data_is_believed),
        *[(f"locate: {4 + turn % 3} members, {layout}",
           lambda layout=layout, turn=turn: locate(layout, 4 + turn % 3))
          for turn, layout in enumerate(LAYOUTS6)],
        ("locate-check: check mends too", lambda: locate("left-symmetric", 5, "check", "locate-check")),
        ("locate-check: so does repair", lambda: locate("ddf-N-restart", 4, "repair", "locate-check")),
        ("locate: neighbouring strips", neighbours),
        ("locate: two wrong blocks, 4 members", lambda: two_wrong("left-symmetric", 4)),
        ("locate: two wrong blocks, 6 members", lambda: two_wrong("ddf-N-continue", 6)),
        ("locate: two wrong blocks in different bytes", lambda: apart("right-asymmetric", 5)),
        ("locate: a member missing", member_missing),
        ("locate: an interrupted repair", interrupted),
        ("locate: under load", under_load),
        ("the file's words", settings),
    ], cleanup=stop_all)

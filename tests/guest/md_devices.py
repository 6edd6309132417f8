#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml,debian disks=5 disk-size=24 timeout=200
"""Members that fail the way that real drivers' do: bad blocks and timeouts of null_blk; dm-flakey that corrupts what is read
and drops what is written; SCSI disks with medium errors, that are taken away and come back, and that discard only in large
pieces."""

import glob
import mmap
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, Shadow, errno_of
from mapper import dm, linear, need_target, sectors_of
from nullblk import nullb, remove_all
from raid import Array, name_of, rams, stop_all
from report import Skipped, expect, expect_match, expect_range, note, run, wait_for
import kernel

RWF_ATOMIC = 0x40
SAFE = "/sys/module/raid456/parameters/devices_handle_discard_safely"


def tell(path, value):
    """Writes a file of sysfs or configfs."""
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


# null_blk


def bad_blocks(level):
    """Blocks of a member that can be neither read nor written: what is there comes from the others, md knows of them, and
    the member stays one. Without another member the rest of it is there, and these are EIO, at level 5."""
    weak = nullb("nullb0", 24)
    disks = [*rams(level - 2), weak]
    array = Array.create(disks, level=level, size=8)
    low = array.data_offset(weak) // 512
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        shadow.reopen()
        tell("/sys/kernel/config/nullb/nullb0/badblocks", f"+{low + 1000}-{low + 1015}")
        tell("/sys/kernel/config/nullb/nullb0/badblocks", f"+{low + 4096}-{low + 4096}")
        shadow.verify("with bad blocks")
        shadow.random_writes(seed=1, count=80)
        shadow.fill(seed=2)
        shadow.verify("after writes to them")
        expect("the member", {"in_sync"}, array.state(weak) - {"write_error", "want_replacement"})
        listed = [tuple(int(word) for word in line.split()) for line in array.member(weak, "bad_blocks").splitlines()]
        known = {sector for first, count in listed for sector in range(first, first + count)}
        expect("md knows of them", True, {low + 1000, low + 1015, low + 4096} <= known)
        expect_range("sectors that it knows of", 18, 64, len(known))
        array.fail(disks[0])
        if level == 6:
            shadow.verify("without another member")
        else:
            geometry = array.geometry()
            # Of the rows with the bad blocks: those blocks, and those of the lost member. What is in memory can be read.
            wrong = {errno_of(lambda sector=sector: shadow.verify("in memory", sector * 512, 4096))
                     for sector in range(0, array.size() // 512, 8)
                     if geometry.locate(sector)[1] // 8 in (1000 // 8, 4096 // 8) and geometry.locate(sector)[0] in (0, level - 2)}
            expect("reads of what is lost", True, "EIO" in wrong and wrong <= {"", "EIO"})
            good = [chunk for chunk in range(0, 16) if geometry.locate(chunk * geometry.chunk)[1] < 900]
            for chunk in good:
                shadow.verify("the rest", chunk * geometry.chunk * 512, geometry.chunk * 512)
    array.expect_at_rest()


def timeouts():
    """Requests of a member that nobody answers end when their time is up: reads come from the others, and what could not be
    written is known to be bad, or the member is failed. Nothing is lost and nothing hangs."""
    slow = nullb("nullb0", 24)
    inject = "/sys/kernel/config/nullb/nullb0/timeout_inject"
    if not os.path.isdir(inject):
        raise Skipped("this kernel's null_blk cannot let requests time out")
    disks = [*rams(3), slow]
    array = Array.create(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        shadow.reopen()
        tell("/sys/block/nullb0/queue/io_timeout", 300)
        tell(f"{inject}/times", 6)
        tell(f"{inject}/probability", 30)
        log = kernel.Log()
        shadow.verify("with requests that time out")
        expect_match("kernel log", "error, dev nullb0, sector .*READ", log.text())
        # Which requests are hit is chance, and small writes read as well.
        write_error = "error, dev nullb0, sector .*WRITE"
        for seed in range(3, 13):
            tell(f"{inject}/times", 4)
            shadow.random_writes(seed=seed, count=60)
            if re.search(write_error, log.text()):
                break
        tell(f"{inject}/probability", 0)
        expect_match("kernel log", write_error, log.text())
        note(f"the member: {sorted(array.state(slow))}, bad: {array.member(slow, 'bad_blocks').splitlines()[:4]}")
        shadow.verify("after writes that timed out")
        if "faulty" in array.state(slow):
            array.remove(slow)
            array.add(slow)
            array.wait_rebuilt()
        array.expect_at_rest()
        shadow.fill(seed=4)
        shadow.verify("written anew")
    expect("mismatch_cnt", 0, array.scan())


# dm-flakey


def lies(level):
    """A member that changes a byte of what it reads: a check counts it and changes nothing; when the member is honest again
    all is right."""
    need_target("flakey")
    disks = rams(level - 1)
    under = disks[1]
    disks[1] = dm("liar", linear(under))
    array = Array.create(disks, level=level, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        dm("liar", f"0 {sectors_of(under)} flakey {under} 0 0 3600 5 corrupt_bio_byte 32 r 77 0")
        expect_range("sectors that do not fit", 8, 8 << 11, array.scan())
        dm("liar", linear(under))
        array.expect_clean()
        shadow.reopen()
        shadow.verify("all of it")


def drops():
    """A member that says it wrote, and did not: at level 6 a repair locates what is old there, and mends it."""
    need_target("flakey")
    disks = rams(5)
    under = disks[1]
    disks[1] = dm("liar", linear(under))
    array = Array.create(disks, level=6, size=8)
    # A superblock that says clean and does not arrive would leave the liar's, which says dirty, the newest.
    array.set("safe_mode_delay", "0")
    with Shadow(array.path) as shadow:
        shadow.fill()
        dm("liar", f"0 {sectors_of(under)} flakey {under} 0 0 3600 1 drop_writes")
        # While it lies it says what it has, and the driver believes what it wrote.
        shadow.random_writes(seed=5, count=40, longest=65536)
        dm("liar", linear(under))
        shadow.close()
        array = array.reassemble()
        found = array.scan()
        expect_range("sectors that do not fit", 8, 8 << 11, found)
        array.set("mismatch_method", "locate")
        array.scan("repair")
        expect("located, in sectors", True, int(array.get("mismatch_located")) > 0)
        array.expect_clean()
        shadow.reopen()
        shadow.verify("mended")


# SCSI


def scsi(**parameters):
    """A SCSI disk of 24 MiB, its path."""
    kernel.modprobe("sd_mod")
    if not kernel.modprobe("scsi_debug", "dev_size_mb=24", "delay=0", *[f"{name}={value}" for name, value in parameters.items()]):
        raise Skipped("this kernel has no scsi_debug")
    return wait_for("the SCSI disk", scsi_path, 20)


def scsi_path():
    """Where the SCSI disk is now, "" if there is none."""
    for folder in glob.glob("/sys/block/sd*"):
        path = f"/dev/{os.path.basename(folder)}"
        with open(f"{folder}/device/model", encoding="ascii") as file:
            if "scsi_debug" in file.read() and os.path.exists(path):
                return path
    return ""


def medium_errors():
    """A SCSI disk with sectors that it cannot read, however often they are written."""
    disk = scsi(medium_error_start=20128, medium_error_count=16)
    disks = [*rams(3), disk]
    array = Array.create(disks, size=16)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        tell("/sys/bus/pseudo/drivers/scsi_debug/opts", 2)
        shadow.reopen()
        # Until somebody writes nothing is mended: the array may have started read-auto.
        shadow.write(0, bytes(4096))
        shadow.verify("with sectors that cannot be read")
        # They are written, and read again, after the reader has its data.
        known = wait_for("bad blocks", lambda: array.member(disk, "bad_blocks"), 20).split()
        note(f"bad blocks that md knows of: {known}; the member: {sorted(array.state(disk))}")
        expect_range("the first of them", 20128 - 7, 20128, int(known[0]))
        shadow.random_writes(seed=6, count=40)
        shadow.verify("after writes")
        tell("/sys/bus/pseudo/drivers/scsi_debug/opts", 0)
        shadow.fill(seed=7)
        expect("bad blocks once all was written", "", array.member(disk, "bad_blocks"))
    array.expect_clean()


def unplugged():
    """A SCSI disk is taken away under writes, and is back, by another name perhaps: it is re-added and gets what it missed."""
    disk = scsi()
    disks = [*rams(3), disk]
    array = Array.create(disks, size=16, bitmap="internal")
    with Shadow(array.path) as shadow:
        shadow.fill()
        host = os.path.realpath(f"/sys/block/{os.path.basename(disk)}/device").split("/")
        host = next(word for word in host if word.startswith("host"))
        tell(f"/sys/block/{os.path.basename(disk)}/device/delete", 1)
        shadow.random_writes(seed=8, count=40)
        shadow.verify("without it")
        expect("members lost", "1", array.get("degraded"))
        kernel.sh("mdadm", array.path, "--remove", "detached", check=False)
        tell(f"/sys/class/scsi_host/{host}/scan", "- - -")
        again = wait_for("the SCSI disk", scsi_path, 20)
        note(f"it was {disk}, and is {again}")
        array.add(again, "--re-add")
        array.wait_rebuilt()
        shadow.verify("with it again")
        array.fail(disks[0])
        shadow.verify("and without another one")


def expect_discarded(array):
    """What is discarded is zeroes afterwards, and parity fits."""
    with Shadow(array.path) as shadow:
        shadow.fill()
        kernel.sh("blkdiscard", "--offset", 3 << 20, "--length", 6 << 20, array.path)
        shadow.bytes[3 << 20:9 << 20] = bytes(6 << 20)
        shadow.verify("after a discard")
    array.expect_clean()


def coarse_discards():
    """A disk that discards only in pieces that do not divide a chunk: the array does not offer to discard. One whose pieces do:
    it does."""
    tell(SAFE, "Y")
    try:
        disk = scsi(lbpu=1, lbprz=1, unmap_granularity=24)
        array = Array.create([*rams(3), disk], size=8)
        with open(f"/sys/block/{array.name}/queue/discard_max_bytes", encoding="ascii") as file:
            expect("discard_max_bytes, pieces of 12 KiB", "0", file.read().strip())
        array.stop()
        scsi_gone()
        disk = scsi(lbpu=1, lbprz=1, unmap_granularity=32)
        array = Array.create([*rams(3), disk], size=8)
        with open(f"/sys/block/{array.name}/queue/discard_max_bytes", encoding="ascii") as file:
            expect("discard_max_bytes, pieces of 16 KiB, is more than nothing", True, int(file.read()) > 0)
        expect_discarded(array)
    finally:
        tell(SAFE, "N")


def coarse_spare():
    """Such a disk comes into an array that offers to discard: it is written zeroes."""
    tell(SAFE, "Y")
    try:
        disk = scsi(lbpu=1, lbprz=1, unmap_granularity=24)
        members = rams(4)
        array = Array.create(members, size=8)
        array.fail(members[1])
        array.remove(members[1])
        array.add(disk)
        array.wait_rebuilt()
        expect_discarded(array)
    finally:
        tell(SAFE, "N")


def atomic():
    """Atomic writes are not offered, though all members can (Documentation/decisions.md says why)."""
    disk = scsi(atomic_wr=1)
    slices = [dm(f"slice{number}", f"0 {6 * 2048} linear {disk} {number * 6 * 2048}") for number in range(4)]

    def most(path):
        """Bytes of an atomic write to a device, at most."""
        with open(f"/sys/block/{name_of(path)}/queue/atomic_write_unit_max_bytes", encoding="ascii") as file:
            return int(file.read())
    for path in slices:
        expect_range(f"atomic_write_unit_max_bytes of {path}", 4096, 1 << 30, most(path))
    array = Array.create(slices, size=4)
    expect("atomic_write_unit_max_bytes of the array", 0, most(array.path))
    file = os.open(array.path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as memory:
            problem = errno_of(lambda: os.pwritev(file, [memory], 0, RWF_ATOMIC))
    finally:
        os.close(file)
    # The other name of EOPNOTSUPP.
    expect("an atomic write", "ENOTSUP", problem)


def scsi_gone():
    """Takes the SCSI disk away."""
    if kernel.loaded("scsi_debug"):
        wait_for("scsi_debug removed", lambda: kernel.delete_module("scsi_debug") in ("", "ENOENT"), 20, 0.1)


def cleanup():
    """Takes everything down."""
    Disk.close_all()
    stop_all()
    remove_all()
    scsi_gone()


if __name__ == "__main__":
    cases = [
        # The first one: of errors of all disks the kernel logs ten in 5 s.
        ("timeouts of null_blk", timeouts),
        ("raid5: bad blocks of null_blk", lambda: bad_blocks(5)),
        ("raid6: bad blocks of null_blk", lambda: bad_blocks(6)),
        ("raid5: a member that changes what it reads", lambda: lies(5)),
        ("raid6: a member that changes what it reads", lambda: lies(6)),
        ("a member that drops writes", drops),
    ]
    if kernel.flavour() == "debian":
        cases = [
            ("medium errors of a SCSI disk", medium_errors),
            ("a SCSI disk that is taken away and comes back", unplugged),
            ("a SCSI disk that discards in large pieces", coarse_discards),
            ("a spare that discards in large pieces", coarse_spare),
            ("members that take atomic writes", atomic),
        ]
    run(cases, cleanup=cleanup)

# SPDX-License-Identifier: GPL-2.0
"""One md array, driven through mdadm and sysfs as a person would."""

import errno
import os
import re
import time

from disk import Disk, SECTOR
from geometry import Geometry, LAYOUTS, LAYOUTS6, xor
from kernel import patience, sh
from report import Failed, all_of, expect, note, wait_for


def name_of(path):
    """The kernel's name of a device: ram0 of /dev/ram0, dm-3 of /dev/mapper/x."""
    number = os.stat(path).st_rdev
    return os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))


def rams(count, first=0):
    """Paths of `count` of the guest's RAM disks."""
    found = [f"/dev/ram{first + number}" for number in range(count)]
    for path in found:
        if not os.path.exists(path):
            raise Failed(f"this test needs {path}: start the guest with --disks {first + count} or more")
    return found


FULL_SPEED = 2000000


def speed_limit(speed=FULL_SPEED):
    """How fast a resync of any array may run that has no limits of its own, in KiB/s of each member."""
    for limit in ("max", "min"):
        with open(f"/proc/sys/dev/raid/speed_limit_{limit}", "w", encoding="ascii") as setting:
            setting.write(str(speed))


class Array:
    """An array: create() or assemble() makes one. Members are named by their paths."""

    def __init__(self, members, name="md0"):
        self.members, self.name, self.path = list(members), name, f"/dev/{name}"
        self.md = f"/sys/block/{name}/md"

    # Life

    @classmethod
    def create(cls, members, level=5, layout=None, chunk=64, bitmap="none", size=16, name="md0", spares=(), wait=True,
               bitmap_chunk="64K", extra=(), speed=FULL_SPEED):
        """Creates an array with all members active and waits for its resync.

        chunk: KiB. size: MiB of each member that is used. bitmap_chunk: None for what mdadm chooses. extra: more words for mdadm; "missing" may be a member.
        speed: the limit under which the first resync begins (a small array is synced before a limit set afterwards could matter).
        """
        speed_limit(speed)
        self = cls([member for member in members if member != "missing"], name)
        words = ["mdadm", "--create", self.path, "--run", "--quiet", "--force", "--metadata=1.2", f"--level={level}",
                 f"--raid-devices={len(members)}", f"--chunk={chunk}K", f"--size={size}M", f"--bitmap={bitmap}"]
        if bitmap == "none":
            words.append("--consistency-policy=resync")
        elif bitmap_chunk:
            words.append(f"--bitmap-chunk={bitmap_chunk}")
        if layout:
            words.append(f"--layout={layout}")
        if spares:
            words.append(f"--spare-devices={len(spares)}")
            self.members += spares
        sh(*words, *extra, *members, *spares)
        if wait:
            self.wait_synced()
        return self

    @classmethod
    def assemble(cls, members, *options, name="md0"):
        """Assembles an array from these members."""
        speed_limit()
        self = cls(members, name)
        sh("mdadm", "--assemble", self.path, "--quiet", *options, *self.members)
        return self

    def stop(self):
        """Stops the array; tries again while someone (udev, a closing program) still has it open. mdadm may fail although the
        array has been stopped: seen with one in a container, on a busy machine."""
        end = time.monotonic() + 10 * patience()
        while True:
            status, text = sh("mdadm", "--stop", self.path, check=False)
            if status == 0:
                return
            if self.name not in mdstat_names():
                return note(f"{self.name} has been stopped; mdadm --stop ended with {status}: {text.strip()}")
            if time.monotonic() > end:
                raise Failed(f"mdadm --stop {self.path} ended with {status}: {text}")
            time.sleep(0.05)

    def reassemble(self, *options):
        """Stops the array and assembles the same members again."""
        self.stop()
        return Array.assemble(self.members, *options, name=self.name)

    # sysfs

    def get(self, attribute):
        """An attribute's text, without the newline at its end."""
        with open(f"{self.md}/{attribute}", encoding="ascii") as file:
            return file.read().strip()

    def set(self, attribute, value):
        """Stores an attribute; an OSError carries the kernel's errno. For a moment after each sync md looks for another one
        to do, and is busy although it calls itself idle, or frozen."""
        end = time.monotonic() + 3 * patience()
        while True:
            try:
                return self._store(attribute, value)
            except OSError as problem:
                if problem.errno != errno.EBUSY or self.action() not in ("idle", "frozen") or time.monotonic() > end:
                    raise
            time.sleep(0.005)

    def _store(self, attribute, value):
        """Stores an attribute at once."""
        # One write system call, and its error not lost in a buffer.
        file = os.open(f"{self.md}/{attribute}", os.O_WRONLY)
        try:
            os.write(file, f"{value}\n".encode())
        finally:
            os.close(file)

    def try_set(self, attribute, value):
        """Stores an attribute and returns the errno's name, "" for success."""
        try:
            self._store(attribute, value)
        except OSError as problem:
            return errno.errorcode[problem.errno]
        return ""

    def outcome(self, attribute, value):
        """Stores an attribute as set() does, and returns the errno's name, "" for success."""
        try:
            self.set(attribute, value)
        except OSError as problem:
            return errno.errorcode[problem.errno]
        return ""

    def counter(self, name):
        """One of the numbers of the file `counters`."""
        return int(dict(line.split() for line in self.get("counters").splitlines())[name])

    def member(self, path, attribute):
        """An attribute of a member."""
        return self.get(f"dev-{name_of(path)}/{attribute}")

    def state(self, path):
        """A member's state words as a set; empty if it is no member."""
        try:
            return set(self.member(path, "state").split(","))
        except FileNotFoundError:
            return set()

    def slots(self):
        """{slot: path} of the members that have a slot."""
        found = {}
        for path in self.members:
            try:
                slot = self.member(path, "slot")
            except FileNotFoundError:
                continue
            if slot != "none":
                found[int(slot)] = path
        return found

    def geometry(self):
        """The array's shape, as the kernel tells it."""
        level = int(self.get("level").removeprefix("raid"))
        names = {number: name for name, number in (LAYOUTS6 if level == 6 else LAYOUTS).items()}
        layout = "parity-last" if level == 4 else names[int(self.get("layout"))]
        return Geometry(level, layout, int(self.get("raid_disks")), int(self.get("chunk_size")) // SECTOR)

    def size(self):
        """Bytes of the array."""
        with open(f"/sys/block/{self.name}/size", encoding="ascii") as file:
            return int(file.read()) * SECTOR

    def data_offset(self, path):
        """Byte at which a member's data area starts."""
        return int(self.member(path, "offset")) * SECTOR

    def data_size(self):
        """Bytes of a member's data area."""
        return int(self.get("component_size")) * 1024

    def mdstat(self):
        """This array's lines of /proc/mdstat."""
        with open("/proc/mdstat", encoding="ascii") as file:
            found = re.search(rf"^{self.name} : .*?(?=^\S|\Z)", file.read(), re.M | re.S)
        return found.group(0) if found else ""

    # Synchronisation

    def sync_speed(self, speed=FULL_SPEED):
        """How fast this array may be synced, in KiB/s of each member. md holds nothing back below the lower limit."""
        for limit in ("max", "min"):
            self.set(f"sync_speed_{limit}", speed)

    def action(self):
        """What the sync thread does now."""
        return self.get("sync_action")

    def idle(self):
        """Whether nothing is running and nothing is about to."""
        return self.action() == "idle"

    def wait_idle(self, timeout=120):
        """Waits for the end of what the sync thread does."""
        wait_for(f"{self.name}: sync thread idle", self.idle, timeout)

    def wait_synced(self, timeout=120):
        """Waits until parity is known to be right everywhere and no member is being rebuilt."""
        def known():
            return self.get("resync_start") == "none" and not any("spare" in self.state(path) for path in self.slots().values())
        try:
            # md calls itself idle before a sync, too: one that has come to its end since then may not have been seen to.
            wait_for(f"{self.name}: resync or recovery done", lambda: known() and self.idle() and known(), timeout)
        except Failed as problem:
            raise Failed(f"{problem}\n{self.mdstat()}") from None

    def wait_rebuilt(self, timeout=120):
        """Waits until no member is missing."""
        wait_for(f"{self.name}: no member missing", lambda: self.get("degraded") == "0" and self.idle(), timeout)

    def scan(self, action="check", timeout=120):
        """Runs check or repair over the whole array and returns mismatch_cnt (sectors)."""
        self.begin(action)
        self.wait_idle(timeout)
        return int(self.get("mismatch_cnt"))

    def begin(self, action):
        """Begins a check or repair; md may do something else before, which it had not begun when it was idle."""
        def begun():
            self.wait_idle()
            problem = self.try_set("sync_action", action)
            if problem not in ("", "EBUSY"):
                raise Failed(f"{self.name}: sync_action = {action}: {problem}")
            return not problem
        wait_for(f"{self.name}: {action} begun", begun, 120)

    def expect_clean(self):
        """Ends the case unless a check finds no mismatch, and the array is at rest before and after it."""
        self.expect_at_rest()
        expect(f"{self.name}: mismatch_cnt after check", 0, self.scan())
        self.expect_at_rest()

    def expect_at_rest(self, timeout=10):
        """Ends the case unless, without requests, the driver soon has no strip at work: one that is held for ever takes
        memory that others wait for."""
        try:
            wait_for("rest", lambda: self.get("stripe_cache_active") == "0", timeout)
        except Failed:
            raise Failed(f"{self.name}: stripe_cache_active of an idle array: expected 0 within {timeout * patience()} s, "
                         f"it stays at {self.get('stripe_cache_active')}") from None

    # Members

    def fail(self, path, anyway=False):
        """Marks a member faulty. mdadm refuses to fail one member too many; `anyway` goes past it."""
        if anyway:
            note(f"failing {path} through sysfs: {self.try_set(f'dev-{name_of(path)}/state', 'faulty') or 'success'}")
        else:
            sh("mdadm", "--quiet", self.path, "--fail", path)
        wait_for(f"{path} faulty", lambda: "faulty" in self.state(path) or not self.state(path), 10)

    def remove(self, path):
        """Removes a faulty member or a spare; md may still be letting it go."""
        end = time.monotonic() + 10 * patience()
        while self.state(path):
            status, text = sh("mdadm", "--quiet", self.path, "--remove", path, check=False)
            if status and self.state(path) and time.monotonic() > end:
                raise Failed(f"mdadm --remove {path} ended with {status}: {text}")

    def add(self, path, how="--add"):
        """Adds a spare (or, with --re-add, an old member)."""
        sh("mdadm", "--quiet", self.path, how, path)
        if path not in self.members:
            self.members.append(path)

    def add_together(self, paths, how="--add"):
        """Adds spares that are rebuilt in one pass: none begins before the last is there."""
        self.set("sync_action", "frozen")
        for path in paths:
            self.add(path, how)
        self.set("sync_action", "idle")

    def grow(self, *words):
        """mdadm --grow. md refuses to change the bitmap until it has looked what there is to sync, after each sync and after a bitmap
        has come; it calls itself idle then."""
        end = time.monotonic() + 10 * patience()
        while True:
            status, text = sh("mdadm", "--grow", "--quiet", self.path, *words, check=False)
            if status == 0:
                return
            if not self.idle() or time.monotonic() > end:
                raise Failed(f"mdadm --grow {self.path} {' '.join(words)} ended with {status}: {text}")
            time.sleep(0.05)

    # The bitmap

    def dirty_bits(self, path=None):
        """Bits that are set in the bitmap on a member. After --grow --bitmap=internal its superblock tells of the bitmap
        only once md's thread has written it."""
        path = path or next(iter(self.slots().values()))

        def read():
            status, text = sh("mdadm", "--examine-bitmap", path, check=False)
            return re.search(r"(\d+) dirty", text) if status == 0 else None
        return int(wait_for(f"a bitmap on {path}", read, 10).group(1))

    def clear_bits(self):
        """Waits until the daemon has cleared every bit, and keeps it from clearing others for a minute."""
        self.set("bitmap/time_base", "0.1")
        wait_for("all bits of the bitmap cleared", lambda: self.dirty_bits() == 0, 30, 0.1)
        self.set("bitmap/time_base", "60")

    # The members' bytes

    def image(self, path):
        """A member's data area."""
        with Disk(path) as disk:
            return disk.read(self.data_offset(path), self.data_size())

    def row_parity_right(self, sector):
        """Whether P (and Q) fit the data in the 4 KiB row at this sector of the members (all members present)."""
        blocks = {}
        for slot, path in self.slots().items():
            with Disk(path) as disk:
                blocks[slot] = disk.read(self.data_offset(path) + sector * SECTOR // 4096 * 4096, 4096)
        geometry = self.geometry()
        stripe = sector // geometry.chunk
        row = geometry.row(stripe)
        return geometry.parity(stripe, blocks) == (blocks[row.p], blocks.get(row.q))

    def expect_parity(self, content=None):
        """Ends the case unless, by the tests' own arithmetic, every P and Q on the members fits the data (all members
        present), and the data is `content`. Reads the members themselves."""
        images = [self.image(path) for _, path in sorted(self.slots().items())]
        geometry = self.geometry()
        wrong = geometry.wrong_parity(images)
        if wrong:
            raise Failed(f"{self.name}: (stripe, which) of parity that does not fit the data: expected none, "
                         f"came {len(wrong)}: {wrong[:8]}")
        if content is not None and geometry.assemble(images) != content:
            raise Failed(f"{self.name}: the members do not hold the array's data where the layout says")
        note(f"ok: P{' and Q' if geometry.level == 6 else ''} of all {len(images[0]) // SECTOR // geometry.chunk} stripes "
             f"as computed by the test{'' if content is None else ', the data where the layout says'}")

    def damage(self, slot, sector, length=SECTOR, flip=0x5a):
        """Changes bytes of a member behind the array's back. sector: from the start of its data area."""
        path = self.slots()[slot]
        with Disk(path) as disk:
            place = self.data_offset(path) + sector * SECTOR
            disk.write(place, xor([disk.read(place, length), bytes([flip]) * length]))


def snapshot(paths):
    """{path: all bytes}: what a power cut at this moment would leave."""
    images = {}
    for path in paths:
        with Disk(path) as disk:
            images[path] = disk.read(0, disk.size)
    return images


def restore(images):
    """Writes a snapshot back."""
    for path, image in images.items():
        with Disk(path) as disk:
            disk.write(0, image)


def mdstat_names():
    """Names of all running arrays."""
    with open("/proc/mdstat", encoding="ascii") as file:
        return re.findall(r"^(md\S+) :", file.read(), re.M)


def stop_arrays():
    """Closes what is open and stops all arrays."""
    Disk.close_all()
    all_of(*(Array([], name).stop for name in mdstat_names()))


def stop_all():
    """Closes what is open, stops all arrays, takes down device-mapper devices and wipes the RAM disks' superblocks."""
    stop_arrays()
    sh("dmsetup", "remove_all", "--force")
    number = 0
    while os.path.exists(f"/dev/ram{number}"):
        with Disk(f"/dev/ram{number}") as disk:
            disk.write(0, bytes(64 * 1024))
        number += 1

# SPDX-License-Identifier: GPL-2.0
"""Device-mapper devices as members that misbehave on demand."""

import os

from disk import Disk, SECTOR
from kernel import modprobe, sh
from report import Skipped

# No udev runs in a guest: dmsetup makes the device nodes itself.
os.environ["DM_DISABLE_UDEV"] = "1"


def dm(name, *lines):
    """Makes (or, if it is there, changes) a device from table lines and returns its path."""
    table = "\n".join(lines) + "\n"
    if os.path.exists(f"/dev/mapper/{name}"):
        sh("dmsetup", "suspend", "--nolockfs", "--noflush", name)
        sh("dmsetup", "load", name, stdin=table)
        sh("dmsetup", "resume", name)
    else:
        sh("dmsetup", "create", name, stdin=table)
    return f"/dev/mapper/{name}"


def waiting_table(name):
    """The table that was loaded for a device and is not in use yet, "" if there is none."""
    return sh("dmsetup", "table", "--inactive", name)[1].strip()


def dm_all(tables):
    """Makes many devices, {name: one table line}, at once and returns their paths."""
    words = ";".join(f"{name},,,rw,{line}" for name, line in tables.items())
    # A word of a command line may be 128 KiB long.
    sh("dmsetup", "create", "--concise", words)
    return [f"/dev/mapper/{name}" for name in tables]


def need_target(name):
    """Skips the case if this kernel does not have a target."""
    modprobe(f"dm-{name}")
    if name not in sh("dmsetup", "targets")[1]:
        raise Skipped(f"this kernel has no dm-{name}")


def sectors_of(path):
    """Sectors of a device."""
    with Disk(path) as disk:
        return disk.size // SECTOR


def linear(path):
    """A table line that passes everything to `path`."""
    return f"0 {sectors_of(path)} linear {path} 0"


def broken(path):
    """A table line on which everything fails."""
    return f"0 {sectors_of(path)} error"


class Dust:
    """A member whose sectors can be made unreadable until they are written (dm-dust), as on a real disk."""

    def __init__(self, under, name="dust"):
        need_target("dust")
        self._name = name
        self.path = dm(name, f"0 {sectors_of(under)} dust {under} 0 512")
        self.message("quiet")
        self.message("enable")

    def message(self, *words):
        """Sends a message to the target and returns its answer."""
        return sh("dmsetup", "message", self._name, "0", *words)[1]

    def spoil(self, sector, count=1):
        """Makes sectors unreadable."""
        for each in range(sector, sector + count):
            self.message("addbadblock", str(each))

    def count(self):
        """Sectors that are unreadable now."""
        return int(self.message("countbadblocks").split()[1])

    def holds(self, sector):
        """Whether a sector is unreadable now."""
        return "not found" not in self.message("queryblock", str(sector))


def dusty(disks, slots):
    """Puts a Dust over the disks in these slots, in the list too, and returns them."""
    found = []
    for slot in slots:
        found.append(Dust(disks[slot], f"dust{slot}"))
        disks[slot] = found[-1].path
    return found


def refusing(path, begin, count, what="writes"):
    """Table lines that take no writes (or `what="reads"`) in a range, and pass everything else to `path`."""
    size = sectors_of(path)
    # Down all the time, and only for writes.
    lines = [f"0 {begin} linear {path} 0", f"{begin} {count} flakey {path} {begin} 0 3600 1 error_{what}"]
    if begin + count < size:
        lines.append(f"{begin + count} {size - begin - count} linear {path} {begin + count}")
    return lines

# SPDX-License-Identifier: GPL-2.0
"""md past mdadm: start arrays through sysfs with any values, and edit version 1 superblocks.

mdadm refuses much bad input by itself; the kernel must refuse it too.
"""

import errno
import os
import struct
import threading

from disk import Disk, SECTOR
from raid import Array, name_of
from report import Failed, note

NAME = "md9"

# Fields of the version 1 superblock: offset and struct format.
FIELDS = {
    "feature_map": (8, "<I"), "level": (72, "<i"), "layout": (76, "<I"), "size": (80, "<Q"), "chunksize": (88, "<I"),
    "raid_disks": (92, "<I"), "new_level": (100, "<I"), "reshape_position": (104, "<Q"), "delta_disks": (112, "<I"),
    "new_layout": (116, "<I"), "new_chunk": (120, "<I"), "data_offset": (128, "<Q"), "data_size": (136, "<Q"),
    "recovery_offset": (152, "<Q"), "dev_number": (160, "<I"), "bblog_size": (186, "<H"), "bblog_offset": (188, "<i"),
    "events": (200, "<Q"), "resync_offset": (208, "<Q"),
    "sb_csum": (216, "<I"), "max_dev": (220, "<I"), "logical_block_size": (224, "<I"),
}
FEATURE_RESHAPE_ACTIVE, FEATURE_BAD_BLOCKS, FEATURE_JOURNAL, FEATURE_PPL, FEATURE_MULTIPLE_PPLS = 4, 8, 512, 1024, 2048
FEATURE_RECOVERY_OFFSET, FEATURE_REPLACEMENT, FEATURE_RECOVERY_BITMAP = 2, 16, 128


def _write(path, text):
    """One write to a sysfs file; returns the errno's name, "" for success."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, str(text).encode())
    except OSError as problem:
        return errno.errorcode[problem.errno]
    finally:
        os.close(file)
    return ""


def _new_array():
    """An empty array's sysfs folder."""
    _write("/sys/module/md_mod/parameters/new_array", NAME)
    return Array([], NAME)


def start(members, level=5, raid_disks=None, chunk=65536, layout=2, slots=None, size=2048, metadata="none", state=""):
    """Starts an array without superblocks. chunk: bytes, size: KiB. metadata: who keeps it. state: a word for each member's
    file of that name. Returns the errno's name, "" if it runs."""
    array = _new_array()
    array.set("metadata_version", metadata)
    steps = [("level", f"raid{level}"), ("raid_disks", raid_disks or len(members)), ("layout", layout),
             ("chunk_size", chunk), ("component_size", size), ("resync_start", "none")]
    for name, value in steps:
        problem = array.try_set(name, value)
        if problem:
            return f"{problem} ({name})"
    for number, path in enumerate(members):
        info = os.stat(path).st_rdev
        array.set("new_dev", f"{os.major(info)}:{os.minor(info)}")
        folder = f"dev-{name_of(path)}"
        array.set(f"{folder}/slot", slots[number] if slots else number)
        if state:
            array.set(f"{folder}/state", state)
    return array.try_set("array_state", "active")


def assemble(paths, bitmap_type=None):
    """Lets the kernel assemble members by their superblocks. bitmap_type: as in the file of that name. Returns the errno's name, "" if the array runs."""
    array = _new_array()
    array.set("metadata_version", "1.2")
    for path in paths:
        info = os.stat(path).st_rdev
        problem = array.try_set("new_dev", f"{os.major(info)}:{os.minor(info)}")
        if problem:
            return f"{problem} (new_dev)"
    if bitmap_type:
        array.set("bitmap_type", bitmap_type)
    return array.try_set("array_state", "active")


def clear():
    """Takes the array down, whether it started or not."""
    if os.path.isdir(f"/sys/block/{NAME}/md"):
        Array([], NAME).try_set("array_state", "clear")


class Keeper:
    """Who keeps the metadata of an array that start() was given metadata="external:..." for, within it: says that writes are recorded. Of
    members that have failed, and of bad blocks, nothing until the end. Then of everything, also after a case that has failed, so that
    nobody waits for that any more; and the array is stopped. Nobody may have it open by then, but for requests that wait."""

    def __init__(self, array):
        self._array, self._all, self._over = array, threading.Event(), threading.Event()
        # The members that were said to be blocked no more.
        self._told = set()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, failed, *_):
        self._all.set()
        try:
            # md does not stop it before the last request has ended.
            self._array.stop()
        except Failed as problem:
            if not failed:
                raise
            note(str(problem))
        finally:
            self._over.set()
            self._thread.join()

    def _work(self):
        while not self._over.wait(0.01):
            try:
                self._record()
            except OSError:
                # A member, or the array, has gone.
                pass

    def _record(self):
        array = self._array
        if array.get("array_state") == "write-pending":
            array.try_set("array_state", "active")
        if not self._all.is_set():
            return
        for folder in [name for name in os.listdir(array.md) if name.startswith("dev-")]:
            for line in array.get(f"{folder}/unacknowledged_bad_blocks").splitlines():
                array.try_set(f"{folder}/bad_blocks", line)
            if folder not in self._told or "blocked" in array.get(f"{folder}/state").split(","):
                self._told.add(folder)
                array.try_set(f"{folder}/state", "-blocked")


def edit_superblock(path, **values):
    """Changes fields of a member's superblock and makes its checksum right. role: the member's place in the array."""
    with Disk(path) as disk:
        block = bytearray(disk.read(8 * SECTOR, 4096))
        if "role" in values:
            number, = struct.unpack_from("<I", block, FIELDS["dev_number"][0])
            struct.pack_into("<H", block, 256 + 2 * number, values.pop("role"))
        for name, value in values.items():
            offset, form = FIELDS[name]
            struct.pack_into(form, block, offset, value)
        struct.pack_into("<I", block, FIELDS["sb_csum"][0], 0)
        length = 256 + 2 * struct.unpack_from("<I", block, FIELDS["max_dev"][0])[0]
        total = sum(struct.unpack_from(f"<{length // 4}I", block))
        if length % 4:
            total += struct.unpack_from("<H", block, length - 2)[0]
        struct.pack_into("<I", block, FIELDS["sb_csum"][0], (total & 0xffffffff) + (total >> 32) & 0xffffffff)
        disk.write(8 * SECTOR, bytes(block))


def field(path, name):
    """A field of a member's superblock."""
    offset, form = FIELDS[name]
    with Disk(path) as disk:
        return struct.unpack_from(form, disk.read(8 * SECTOR, 4096), offset)[0]


def drop_bad_block_list(path):
    """Takes the list of bad blocks away from a member of a stopped array: what is bad there cannot be recorded."""
    edit_superblock(path, feature_map=field(path, "feature_map") & ~FEATURE_BAD_BLOCKS, bblog_size=0, bblog_offset=0)

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml,debian disks=7 disk-size=128 mem=2200 timeout=300
"""File systems on an array: real files, as many lost members as there are parities, fsck, a rebuild, stop and assembly."""

import hashlib
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from raid import Array, rams, stop_all
from report import Failed, expect, note, run
import kernel
import needs

MOUNT = "/tmp/mounted"
# Folders of the guest's own system, until there are enough bytes.
SOURCES = ("/usr/lib/python3.13", "/usr/share/perl5", "/usr/share/perl", "/usr/lib/x86_64-linux-gnu/perl-base", "/usr/sbin")


def copy_files(limit):
    """Copies files onto the file system, at most `limit` bytes; returns {name: digest of the original}."""
    digests, total = {}, 0
    for source in SOURCES:
        for folder, _, names in sorted(os.walk(source)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                size = os.path.getsize(path)
                if total + size > limit:
                    return digests
                total += size
                with open(path, "rb") as file:
                    data = file.read()
                target = MOUNT + path
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(data)
                digests[target] = hashlib.blake2b(data, digest_size=16).digest()
    return digests


def compare_files(digests, what):
    """Reads every file past the cache and compares it with its original."""
    kernel.sh("sync")
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
        drop.write("3")
    wrong = []
    for path, digest in digests.items():
        with open(path, "rb") as file:
            if hashlib.blake2b(file.read(), digest_size=16).digest() != digest:
                wrong.append(path)
    if wrong:
        raise Failed(f"{what}: {len(wrong)} of {len(digests)} files differ, the first is {wrong[0]}")
    note(f"ok: {what}: {len(digests)} files as written")


def life(kind, fsck, level):
    """A file system's life on an array."""
    needs.file_system(kind)
    os.makedirs(MOUNT, exist_ok=True)
    disks = rams(level - 1)
    lost = disks[1:level - 3]
    array = Array.create(disks, level=level, size=110, wait=False, bitmap="internal")
    kernel.sh(f"mkfs.{kind}", "-q", "-f" if kind == "xfs" else "-F", array.path)
    kernel.sh("mount", "-t", kind, array.path, MOUNT)
    first = copy_files(12 << 20)
    compare_files(first, "written during the resync")
    array.wait_synced()
    for path in lost:
        array.fail(path)
    compare_files(first, f"without {len(lost)} of {len(disks)} members")
    shutil.rmtree(MOUNT + SOURCES[0])
    first = {path: digest for path, digest in first.items() if os.path.exists(path)}
    second = copy_files(20 << 20)
    compare_files({**first, **second}, f"written without {len(lost)} of {len(disks)} members")
    for path in lost:
        array.remove(path)
    array.add_together(rams(len(lost), len(disks)))
    kernel.sh("umount", MOUNT)
    status, text = kernel.sh(*fsck, array.path, check=False)
    note(f"{' '.join(fsck)}: {text.strip().splitlines()[-1] if text.strip() else 'no message'}")
    expect("fsck's status, degraded or rebuilding", 0, status)
    kernel.sh("mount", "-t", kind, array.path, MOUNT)
    compare_files({**first, **second}, "while rebuilding")
    array.wait_rebuilt()
    kernel.sh("umount", MOUNT)
    array.expect_clean()
    array = array.reassemble()
    expect("fsck's status after stop and assembly", 0, kernel.sh(*fsck, array.path, check=False)[0])
    kernel.sh("mount", "-t", kind, array.path, MOUNT)
    compare_files({**first, **second}, "after stop and assembly")
    kernel.sh("umount", MOUNT)


def cleanup():
    """Takes everything down."""
    kernel.sh("umount", MOUNT, check=False)
    stop_all()


if __name__ == "__main__":
    # User-mode Linux is built without XFS, which would take longer than this test. The debug kernel has neither.
    run([
        ("ext4 on raid5", lambda: life("ext4", ("e2fsck", "-fn"), 5)),
        ("ext4 on raid6", lambda: life("ext4", ("e2fsck", "-fn"), 6)),
    ] if kernel.flavour() == "uml" else [
        ("xfs on raid6", lambda: life("xfs", ("xfs_repair", "-n"), 6)),
    ], cleanup=cleanup)

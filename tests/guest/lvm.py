#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=48 timeout=240
"""LVM's RAID volumes: dm-raid drives the same personality without an md device of its own."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow
from mapper import broken, dm, linear
from raid import rams, stop_all
from report import Skipped, expect, expect_match, note, run, wait_for
import kernel

# No udev runs in a guest.
CONFIG = ("activation { udev_sync=0 udev_rules=0 monitoring=0 } devices { obtain_device_list_from_udev=0 "
          "external_device_info_source=\"none\" scan=[\"/dev\"] use_devicesfile=0 "
          "filter=[\"a|^/dev/ram[03456]$|\", \"a|^/dev/mapper/dies[12]$|\", \"r|.*|\"] } global { use_lvmpolld=0 event_activation=0 }")


def lvm(*words, check=True):
    """Runs an LVM command."""
    return kernel.sh(words[0], "--config", CONFIG, *words[1:], check=check)


def field(name):
    """A field of the volume, from lvs."""
    return lvm("lvs", "--noheadings", "-o", name, "vg/lv")[1].strip().splitlines()[-1].strip()


def wait_synced():
    """Waits for dm-raid to say that everything is in sync and idle."""
    def done():
        words = kernel.sh("dmsetup", "status", "vg-lv")[1].split()
        # START LENGTH raid LEVEL MEMBERS HEALTH DONE/ALL ACTION MISMATCHES ...
        done_sectors, all_sectors = words[6].split("/")
        return set(words[5]) == {"A"} and done_sectors == all_sectors and words[7] == "idle"
    wait_for("dm-raid in sync", done, 60, 0.05)


def life(kind, parities=1):
    """Create, write, lose as many members as there are parities, read and write, repair onto spares, scrub, deactivate,
    activate, read."""
    if not kernel.modprobe("dm-raid"):
        raise Skipped("this kernel has no dm-raid")
    members = 3 + parities
    disks = rams(members + parities)
    # These can be made to fail.
    under = disks[1:3]
    disks[1:3] = [dm(f"dies{slot}", linear(disks[slot])) for slot in (1, 2)]
    for disk in disks:
        lvm("pvcreate", "-qq", "-y", disk)
    lvm("vgcreate", "-qq", "vg", *disks)
    lvm("lvcreate", "-qq", "-y", "--type", kind, "-i", "3", "-L", "24M", "-n", "lv", "vg", *disks[:members])
    wait_synced()
    path = "/dev/mapper/vg-lv"
    expect_match("dmsetup status", rf"raid {kind}", kernel.sh("dmsetup", "status", "vg-lv")[1])
    with Shadow(path) as shadow:
        shadow.fill()
        shadow.random_writes(seed=1, count=60)
        shadow.verify("after writing")
        for lost in range(1, parities + 1):
            dm(f"dies{lost}", broken(under[lost - 1]))
            shadow.random_writes(seed=lost + 1, count=40)
            shadow.verify(f"after the loss of {lost}")
        expect_match("dmsetup status names the dead ones", rf" [Aa]+D{{{parities}}}[Aa]+ ",
                     kernel.sh("dmsetup", "status", "vg-lv")[1])
        status, text = lvm("lvconvert", "-y", "--repair", "vg/lv", check=False)
        note(f"lvconvert --repair: {text.strip().splitlines()[-1] if text.strip() else 'no message'}")
        expect("its status", 0, status)
        wait_synced()
        shadow.verify("after the repair")
        lvm("vgreduce", "-qq", "--removemissing", "vg")
        lvm("lvchange", "--syncaction", "check", "vg/lv")
        wait_synced()
        expect("mismatches", "0", field("raid_mismatch_count"))
        shadow.random_writes(seed=9, count=30)
        shadow.close()
        lvm("lvchange", "-an", "vg/lv")
        lvm("lvchange", "-ay", "vg/lv")
        wait_synced()
        shadow.reopen()
        shadow.verify("after deactivation and activation")


def cleanup():
    """Takes the volume group down."""
    lvm("vgchange", "-an", "vg", check=False)
    stop_all()


if __name__ == "__main__":
    run([
        ("raid5", lambda: life("raid5_ls")),
        ("raid4", lambda: life("raid4")),
        *[(kind, lambda kind=kind: life(kind, 2)) for kind in ("raid6_zr", "raid6_nc", "raid6_ls_6")],
    ], cleanup=cleanup)

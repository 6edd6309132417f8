#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml mem=900 timeout=900
"""Random schedules of faults under a load that knows what every read may return: members that die, lose sectors, refuse
writes, answer late or not at all for a while, are failed, removed, re-added, rebuilt, and replaced while they still work;
checks and repairs, settings changed, arrays stopped and assembled, power cuts, more members lost than there are parities; and
drivers swapped in between, the C module's turns being part of the test. What is read is what was acknowledged last, or was in
flight, or EIO where too much is lost; never anything else. Should the C module break that before the other driver has had the
array, the case says so and ends, skipped.

A case is a seed. FAULTS=FROM-TO chooses which seeds there are; one seed alone is a case by its name. SHOW=1 tells what
happened also if all was right.
"""

import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers
from geometry import LAYOUTS, LAYOUTS6
from raid import Array, speed_limit, name_of, stop_all
from report import Failed, Skipped, note, run, wait_for
from torture import Broken, Check, Disks
import kernel

SECTOR = 512
SEEDS = {"debug": "1-4", "debian": "1-8"}.get(kernel.flavour(), "1-25")
# From this seed on more happens: those before are what they were when they were run.
MORE = 220


def discard_is_safe():
    """Says so to the driver: what these disks discard reads as zeroes."""
    with open("/sys/module/raid456/parameters/devices_handle_discard_safely", "w", encoding="ascii") as file:
        file.write("Y")


class Schedule:
    """One seed's array, and what happens to it. `lost`: members that do not hold what they should, at most as many as there
    are parities but in overkill(); an entry goes when the member is whole again."""

    def __init__(self, seed):
        self.seed, self.rng = seed, random.Random(seed)
        rng, self.began = self.rng, time.monotonic()
        self.level = rng.choice((4, 5, 5, 6, 6))
        self.parities = 2 if self.level == 6 else 1
        self.count = rng.randint(3 + (self.level == 6), 7)
        self.chunk = rng.choice((4, 8, 16, 64, 64, 128))
        self.layout = rng.choice(list({4: [None], 5: LAYOUTS, 6: LAYOUTS6}[self.level]))
        self.bitmap = rng.random() < 0.6
        self.late = rng.random() < 0.5
        self.cached = rng.random() < 0.35
        self.block = 4096 if rng.random() < 0.15 else 512
        self.metadata = rng.choice(("1.2", "1.2", "1.2", "1.0", "0.90"))
        self.pair = drivers()
        self.spare_count = 2
        mib = rng.choice((4, 5, 6))
        self.disks = Disks(self.count + self.spare_count, mib, self.late, self.cached, self.block)
        self.members = self.disks.paths[:self.count]
        self.spares = self.disks.paths[self.count:]
        self.lost = {}
        self.check = Check()
        self.array = None
        self.loaded = False
        self.log = []
        self.needs_repair = False
        # Drivers that have had the array.
        self.had = set()
        # The shapes of a bitmap that mdadm gives to so small an array.
        self.bitmap_words = ["--bitmap=internal", f"--bitmap-chunk={rng.choice((4, 16, 64))}K"] if self.bitmap else \
            ["--bitmap=none", "--consistency-policy=resync"]
        self.size = mib - 2

    # What is told

    def say(self, text):
        """Notes a step, here and in the kernel's log."""
        self.log.append(f"{time.monotonic() - self.began:7.3f} {text}")
        kernel.say(text)

    def title(self):
        """The array's shape."""
        return (f"raid{self.level} {self.layout or ''} {self.count} members chunk {self.chunk}K {self.metadata}"
                f"{' bitmap ' + self.bitmap_words[1][15:] if self.bitmap else ''}{' late' if self.late else ''}"
                f"{' cached' if self.cached else ''}{' 4Kn' if self.block == 4096 else ''}")

    # The load

    def load(self):
        """Begins a load of a random kind."""
        rng = self.rng
        words = {"jobs": rng.randint(1, 3), "depth": rng.choice((1, 4, 16, 48)), "longest": rng.choice((8, 64, 256, 512)),
                 "reads": rng.choice((10, 40, 70)), "fua": rng.choice((0, 5, 30))}
        if self.cached and self.writing_c():
            # It forgets the flag of some that it writes together with others (md_fua.py).
            words["fua"] = 0
        self.check.run(self.array.path, "mix", **words,
                       nowait=rng.choice((0, 0, 20)), flush=rng.choice((0, 5, 40)), pause=rng.choice((0, 20, 200)),
                       discards=0 if self.writing_c() else rng.choice((0, 0, 5, 20)), seed=rng.getrandbits(32))
        self.loaded = True

    def unload(self):
        """Ends the load."""
        if self.loaded:
            self.loaded = False
            self.check.command("stop")

    def a_while(self, low=0.01, high=0.12):
        """Lets the load go on; something may be wrong already."""
        time.sleep(self.rng.uniform(low, high))
        self.check.expect_right()

    # The array's life

    def create(self):
        """Makes the array, and fills it."""
        speed_limit()
        kernel.use_driver(self.rng.choice((*self.pair, self.pair[1])))
        discard_is_safe()
        self.had.add(kernel.driver())
        self.say(f"create under {kernel.driver()}: {self.title()}")
        words = ["mdadm", "--create", "/dev/md0", "--run", "--quiet", "--force", f"--metadata={self.metadata}",
                 f"--level={self.level}", f"--raid-devices={self.count}", f"--chunk={self.chunk}K", f"--size={self.size}M",
                 *self.bitmap_words]
        if self.layout:
            words.append(f"--layout={self.layout}")
        kernel.sh(*words, *self.members)
        self.array = Array(self.members)
        geometry = self.array.geometry()
        self.check.new(geometry, self.array.size() // SECTOR, self.cached, self.block, self.seed)
        self.settle_down()
        # Some arrays are written while they are synced for the first time.
        if self.rng.random() < 0.7:
            self.array.wait_synced()
        self.check.whole(self.array.path, "fill", seed=self.seed)
        self.array.wait_synced()

    def settle_down(self):
        """What a new or newly assembled array gets."""
        # With caches md itself is not safe: a member's superblock may say clean when another one's cache is not written.
        self.array.set("safe_mode_delay", "600" if self.cached else self.rng.choice(("0.01", "0.2")))

    def assemble(self, members, force=False):
        """Assembles, under the same driver or the other one."""
        if self.rng.random() < 0.5:
            kernel.use_driver(self.rng.choice((*self.pair, self.pair[1])))
            discard_is_safe()
        if force and self.level == 4 and self.members[-1] not in members and "rust" in self.pair and kernel.driver() == "c":
            # mdadm leaves such an array dirty, as it holds it for complete without its parity; and the C module refuses it.
            kernel.use_driver("rust")
            discard_is_safe()
        self.had.add(kernel.driver())
        self.say(f"assemble under {kernel.driver()}{', forced' if force else ''}: {' '.join(members)}")
        kernel.sh("mdadm", "--assemble", "/dev/md0", "--quiet", "--run", *(["--force"] if force else []), *members)
        self.array = Array(members)
        self.settle_down()

    def stop(self):
        """Stops the array without the load."""
        self.unload()
        self.array.stop()

    def present(self):
        """Members in the array that hold what they should."""
        return [path for path in self.members if path not in self.lost]

    def can_force(self):
        """Whether mdadm can start an array that is dirty and lacks a member: with the old superblocks it does not always."""
        return self.metadata != "0.90"

    @staticmethod
    def writing_c():
        """Whether the C module has its turn. It is there for what it leaves to the other, and what it is left, and spared
        what it was seen to lose data by: settings changed under load, members lost before a resync has ended, and syncs
        that are interrupted before their first stripe (sync_interrupted.py): for those md says that they are at sector 3,
        where the C module's stripes of the next one begin then. A member that is rebuilt from there keeps three sectors
        of what it held before, at its beginning and where P or Q move, and a repair at level 6 writes parity over data."""
        return kernel.driver() == "c"

    def may_not_interrupt(self):
        """Whether something is synced, or about to be, that the C module must not begin again."""
        return self.writing_c() and (not self.at_rest() or "rebuilds" in self.lost.values())

    def at_rest(self):
        """Whether nothing is synced, and no resync is due: md calls itself idle before it has begun that."""
        return self.array.action() == "idle" and self.array.get("resync_start") == "none"

    # What may happen. Each returns False if it cannot happen now.

    def settings(self):
        """Changes settings under load."""
        rng = self.rng
        if self.writing_c():
            return False
        for name, value in (("stripe_cache_size", rng.choice((17, 18, 33, 256, 1000))), ("group_thread_cnt", rng.randint(0, 3)),
                            ("rmw_level", rng.randint(0, 2)), ("skip_copy", rng.randint(0, 1)),
                            ("preread_bypass_threshold", rng.randint(0, 17))):
            if rng.random() < 0.5:
                self.say(f"{name} = {value}: {self.array.try_set(name, value) or 'ok'}")
        return True

    def victim(self):
        """A member that may be lost yet, or None."""
        if len(self.lost) >= self.parities:
            return None
        return self.rng.choice(self.present())

    def faulty(self):
        """A member is failed by hand."""
        path = self.victim()
        if not path or self.may_not_interrupt():
            return False
        self.lost[path] = "faulty"
        self.say(f"fail {path}")
        self.array.set(f"dev-{name_of(path)}/state", "faulty")
        return True

    def dead(self):
        """A member fails everything: I/O finds it out, or a hand after a while."""
        path = self.victim()
        if not path or self.writing_c():
            return False
        self.lost[path] = "faulty"
        self.say(f"{path} is dead")
        self.disks.tell(path, "dead", 1)
        self.a_while(0.1, 0.2)
        if "faulty" not in self.array.state(path) and self.array.state(path):
            self.array.try_set(f"dev-{name_of(path)}/state", "faulty")
        return True

    def unreadable(self):
        """Sectors of a member cannot be read until they are written; a check mends them."""
        path = self.victim()
        if not path or self.writing_c() or self.array.action() != "idle":
            return False
        low = self.array.data_offset(path) // SECTOR
        for _ in range(self.rng.choice((1, 5, 12))):
            sector = self.rng.randrange(0, self.array.data_size() // SECTOR - 64)
            sector -= sector % (self.block // SECTOR)
            self.disks.tell(path, "unreadable", low + sector, self.rng.choice((1, 8, 40)) * self.block // SECTOR)
        self.lost[path] = "unreadable"
        self.say(f"{path}: {self.disks.state(path)['unreadable']} sectors unreadable")
        return True

    def refuse(self):
        """A member takes no writes in a range: bad blocks, or it is failed."""
        path = self.victim()
        if not path or self.writing_c():
            return False
        low = self.array.data_offset(path) // SECTOR
        sector = low + self.rng.randrange(0, self.array.data_size() // SECTOR - 64) // 8 * 8
        self.lost[path] = "refuses"
        length = self.rng.choice((8, 16, 64))
        self.say(f"{path} takes no writes in {length} sectors from {sector - low}")
        self.disks.tell(path, "refuse", sector, length)
        return True

    def bad_blocks(self):
        """Somebody says that blocks of a member are bad."""
        path = self.victim()
        if not path or self.metadata == "0.90" or self.writing_c():
            return False
        sector = self.rng.randrange(0, self.array.data_size() // SECTOR - 64) // 8 * 8
        problem = self.array.try_set(f"dev-{name_of(path)}/bad_blocks", f"{sector} {self.rng.choice((8, 16, 48))}")
        self.lost[path] = "refuses"
        self.say(f"{path}: bad blocks from {sector}: {problem or 'ok'}")
        return True

    def hold(self):
        """A member, or all of them, answer nothing for a moment."""
        if not self.late:
            return False
        chosen = self.rng.sample(self.disks.paths, self.rng.choice((1, 1, 2, len(self.disks.paths))))
        self.say(f"hold {' '.join(chosen)}")
        for path in chosen:
            self.disks.tell(path, "hold", 1)
        self.a_while(0.02, 0.2)
        for path in chosen:
            self.disks.tell(path, "hold", 0)
        self.say("let go")
        return True

    def slow(self):
        """A member is slower than others."""
        if not self.late:
            return False
        self.disks.tell(self.rng.choice(self.disks.paths), "slow", self.rng.randint(0, 1))
        return True

    def action(self):
        """A check or repair, perhaps interrupted."""
        if self.needs_repair or self.may_not_interrupt():
            return False
        what = self.rng.choice(("check", "repair", "idle", "idle"))
        problem = self.array.try_set("sync_action", what)
        self.say(f"sync_action = {what}: {problem or 'ok'}")
        if self.rng.random() < 0.3 and not self.may_not_interrupt():
            self.a_while()
            self.say(f"sync_action = idle: {self.array.try_set('sync_action', 'idle') or 'ok'}")
        return True

    def bitmap_change(self):
        """The bitmap is taken away, or comes."""
        if self.lost or self.array.action() != "idle" or self.metadata == "0.90" or not self.bitmap:
            return False
        self.say("bitmap none, then internal")
        kernel.sh("mdadm", "--grow", "--quiet", "/dev/md0", "--bitmap=none", check=False)
        self.a_while()
        kernel.sh("mdadm", "--grow", "--quiet", "/dev/md0", "--bitmap=internal", "--bitmap-chunk=16K", check=False)
        return True

    def suspend(self):
        """Writes to a part of the array wait for a moment."""
        high = self.rng.randrange(8, self.array.size() // SECTOR)
        self.say(f"suspend 0..{high}")
        self.array.try_set("suspend_lo", 0)
        self.array.try_set("suspend_hi", high)
        self.a_while(0.01, 0.05)
        self.array.try_set("suspend_lo", high)
        self.array.try_set("suspend_hi", 0)
        self.array.try_set("suspend_lo", 0)
        return True

    def dead_together(self):
        """As many members as may be lost fail everything from one moment on."""
        room = self.parities - len(self.lost)
        if room < 2 or self.writing_c():
            return False
        dying = self.rng.sample(self.present(), room)
        for path in dying:
            self.lost[path] = "faulty"
        self.say(f"{' '.join(dying)} are dead")
        for path in dying:
            self.disks.tell(path, "dead", 1)
        self.a_while(0.1, 0.2)
        for path in dying:
            if "faulty" not in self.array.state(path) and self.array.state(path):
                self.array.try_set(f"dev-{name_of(path)}/state", "faulty")
        return True

    def frozen(self):
        """Whatever is synced stops for a moment, and so does what would begin."""
        if self.may_not_interrupt():
            return False
        self.say(f"{self.array.action()}, frozen: {self.array.try_set('sync_action', 'frozen') or 'ok'}")
        self.a_while()
        self.say(f"idle: {self.array.try_set('sync_action', 'idle') or 'ok'}")
        return True

    def window(self):
        """A check of a part, which waits at its end for a moment."""
        if self.needs_repair or self.writing_c() or self.lost or self.array.action() != "idle":
            return False
        chunk = self.chunk * 2
        begin = self.rng.randrange(0, self.array.data_size() // SECTOR // chunk // 2) * chunk
        self.say(f"check, from {begin} to {begin + 8 * chunk}: {self.array.try_set('sync_min', begin)} "
                 f"{self.array.try_set('sync_max', begin + 8 * chunk)} {self.array.try_set('sync_action', 'check')}")
        self.a_while()
        self.say(f"idle: {self.array.try_set('sync_action', 'idle') or 'ok'}")
        self.wait_idle()
        self.array.set("sync_min", "0")
        self.array.set("sync_max", "max")
        return True

    def resize(self):
        """The array grows by some chunks behind what is under load, or becomes smaller again."""
        if self.writing_c() or self.array.action() != "idle" or self.array.get("resync_start") != "none":
            return False
        size = self.size * 1024 + self.rng.randint(0, 4) * self.chunk
        self.say(f"component_size = {size}: {self.array.try_set('component_size', size) or 'ok'}")
        return True

    def states(self):
        """Somebody says that the array is clean, or active, or is to be read only, which it cannot be under load."""
        if self.writing_c():
            return False
        for word in self.rng.sample(("clean", "active", "readonly", "read-auto"), 3):
            problem = self.array.try_set("array_state", word)
            self.say(f"array_state = {word}: {problem or 'ok'}")
            if word.startswith("read") and problem != "EBUSY":
                raise Failed(f"array_state = {word} under load: expected EBUSY, came {problem or 'success'}")
            self.a_while(0.001, 0.02)
        return True

    def come_back(self):
        """A lost member comes back: re-added, added, replaced by another disk, or mended where it is. It is whole when the
        rebuild has ended; something else may happen before."""
        # While one is rebuilt it stays lost.
        candidates = [path for path, how in self.lost.items() if how != "rebuilds"]
        if not candidates:
            return False
        path = self.rng.choice(candidates)
        how = self.lost[path]
        self.disks.heal(path)
        if how == "unreadable":
            return self.mend(path)
        if how == "refuses":
            # Its bad blocks go with it.
            self.array.try_set(f"dev-{name_of(path)}/state", "faulty")
        state = f"dev-{name_of(path)}/state"
        wait_for(f"{path} removed", lambda: not self.array.state(path) or not self.array.try_set(state, "remove"), 10, 0.002)
        again = how == "faulty" and self.rng.random() < 0.6
        if again and kernel.sh("mdadm", "--quiet", "/dev/md0", "--re-add", path, check=False)[0] == 0:
            self.say(f"re-add {path}")
        else:
            new = path
            if self.rng.random() < 0.5:
                # Another disk in its place, and this one is a spare from now on.
                new = self.rng.choice(self.spares)
                self.spares = [path if spare == new else spare for spare in self.spares]
                self.members = [new if member == path else member for member in self.members]
                self.lost[new] = self.lost.pop(path)
            self.disks.tell(new, "garbage", self.rng.getrandbits(30))
            if self.rng.random() < 0.7:
                self.a_while()
            self.say(f"add {new}, full of garbage")
            kernel.sh("mdadm", "--quiet", "/dev/md0", "--add", new)
            path = new
        self.array.members = list(self.members)
        self.lost[path] = "rebuilds"
        return True

    def mend(self, path):
        """A check finds what cannot be read."""
        self.say(f"check, to mend {path}")
        self.wait_idle()
        try:
            self.array.set("sync_action", "check")
        except OSError:
            return False
        self.wait_idle()
        left = self.disks.state(path)["unreadable"]
        if left:
            # Blocks in memory hide sectors that cannot be read from a check: nothing is wrong, and nothing is mended.
            self.say(f"{left} sectors are left")
            return False
        del self.lost[path]
        return True

    def wait_idle(self):
        """Waits for what the sync thread does, and for members that are rebuilt."""
        def done():
            self.check.expect_right()
            return self.array.idle()
        wait_for("the sync thread idle", done, 60)

    def rebuilt(self):
        """Waits until those that are being rebuilt are whole."""
        waiting = [path for path, how in self.lost.items() if how == "rebuilds"]
        if not waiting:
            return False

        def done():
            self.check.expect_right()
            return self.array.idle() and all("in_sync" in self.array.state(path) for path in waiting)
        try:
            wait_for(f"{' '.join(waiting)} rebuilt", done, 60)
        except Broken:
            raise
        except Failed as problem:
            raise Failed(f"{problem}\n{self.array.mdstat()}") from None
        for path in waiting:
            del self.lost[path]
        self.say(f"{' '.join(waiting)} whole")
        return True

    def replace(self):
        """Members that still work are replaced, one or two at a time. The old one or the new one may fail on the way."""
        rng = self.rng
        # Under load the C module copies to replacements, now and then, what it has not read: it warns of it (raid5.c,
        # handle_stripe(): WARN_ON(!R5_UPTODATE)), and then goes on.
        if self.writing_c() or self.lost or self.metadata == "0.90" or not self.at_rest():
            return False
        count = rng.randint(1, len(self.spares))
        pairs = list(zip(rng.sample(self.members, count), rng.sample(self.spares, count)))
        for old, new in pairs:
            self.say(f"replace {old} by {new}, full of garbage")
            self.disks.tell(new, "garbage", rng.getrandbits(30))
            kernel.sh("mdadm", "--quiet", "/dev/md0", "--add-spare", new)
            kernel.sh("mdadm", "--quiet", "/dev/md0", "--replace", old, "--with", new)
        victim = rng.choice((None, *pairs[0]))
        if victim:
            self.a_while(0.001, 0.08)
            self.say(f"fail {victim}: {self.array.try_set(f'dev-{name_of(victim)}/state', 'faulty') or 'ok'}")

        def done():
            self.check.expect_right()
            states = [self.array.state(new) for _, new in pairs]
            return self.array.idle() and all(
                not state or "faulty" in state or {"in_sync", "replacement"} & state == {"in_sync"} for state in states)
        try:
            wait_for("replaced", done, 60)
        except Broken:
            raise
        except Failed as problem:
            raise Failed(f"{problem}\n{self.array.mdstat()}") from None
        for old, new in pairs:
            self.replaced(old, new)
        self.array.members = list(self.members)
        return True

    def replaced(self, old, new):
        """One of two that were one member goes."""
        goes = old
        if "in_sync" not in self.array.state(new) and "in_sync" in self.array.state(old):
            goes = new
            self.array.try_set(f"dev-{name_of(old)}/state", "-want_replacement")
        else:
            self.members = [new if member == old else member for member in self.members]
            self.spares = [old if spare == new else spare for spare in self.spares]
            if "in_sync" not in self.array.state(new):
                # It failed when it was the member already.
                self.lost[new] = "faulty"
        self.say(f"{goes} goes")
        state = f"dev-{name_of(goes)}/state"
        wait_for(f"{goes} removed", lambda: not self.array.state(goes) or not self.array.try_set(state, "remove"), 10, 0.002)

    def interrupt_rebuild(self):
        """A member that is being rebuilt fails."""
        waiting = [path for path, how in self.lost.items() if how == "rebuilds"]
        if not waiting or self.writing_c():
            return False
        path = self.rng.choice(waiting)
        self.say(f"fail {path}, which is being rebuilt or was")
        self.array.try_set(f"dev-{name_of(path)}/state", "faulty")
        self.lost[path] = "faulty"
        return True

    def restart(self):
        """Stop and assemble; the driver may be another one."""
        if self.may_not_interrupt():
            return False
        if self.lost:
            # md has an interrupted repair followed by a resync; stopped in that, a degraded array does not start again.
            self.resynced()
        self.stop()
        members = [path for path in self.members if self.lost.get(path) != "faulty"]
        self.assemble_keeping(members)
        self.load()
        return True

    def assemble_keeping(self, members, force=False):
        """Assembles under a driver that bears what is wrong with the members now."""
        pair = self.pair
        # A rebuild goes on where it was interrupted, which may be where the C module must not begin.
        if any(how in ("unreadable", "refuses", "rebuilds") for how in self.lost.values()) and "rust" in pair:
            self.pair = ("rust", "rust")
        try:
            self.assemble(members, force)
        finally:
            self.pair = pair

    def power_cut(self):
        """The power goes while everything is at work."""
        if any(how in ("unreadable", "refuses") for how in self.lost.values()):
            return False
        whole = not self.lost
        if not whole and (self.writing_c() or not self.can_force()):
            return False
        hole = not whole or (self.rng.random() < 0.4 and not self.writing_c())
        drop = whole and hole and self.can_force() and self.rng.random() < 0.5
        if self.writing_c():
            # When all members fail at once under load it acknowledges writes of which only some members had their part, and whose
            # failures no superblock tells of; and now and then no request ends any more. Ours must do neither.
            self.unload()
        self.check.command("eio 1")
        self.say("power off")
        self.disks.power_off(self.rng.getrandbits(30))
        self.unload()
        self.array.stop()
        self.disks.power_on()
        self.check.command(f"cut {int(hole)}")
        members = [path for path in self.members if self.lost.get(path) != "faulty"]
        if drop:
            path = self.rng.choice(members)
            members.remove(path)
            self.lost[path] = "faulty"
        self.assemble_keeping(members, force=not whole or drop)
        self.check.command("eio 0")
        self.needs_repair = bool(self.lost)
        self.load()
        if not hole or self.writing_c():
            self.resynced()
        self.readmit()
        return True

    def readmit(self):
        """After a forced assembly: members that were left out are lost, and may come back."""
        for path in self.members:
            state = self.array.state(path)
            if "in_sync" not in state and self.lost.get(path) != "faulty":
                self.say(f"{path}: {' '.join(state) or 'left out'}")
                self.lost[path] = "rebuilds" if "spare" in state else "faulty"
        if len(self.lost) > self.parities:
            raise Failed(f"lost: {self.lost}\n{self.array.mdstat()}")

    def resynced(self):
        """Waits until parity is right everywhere."""
        def done():
            self.check.expect_right()
            # A resync may begin or end between two looks, and a repair that is interrupted become one.
            return self.array.get("resync_start") == "none" and self.at_rest()
        wait_for("resync done", done, 60)
        self.say("in sync")

    def overkill(self):
        """More members die than there are parities: what was acknowledged before is there when they come back."""
        if self.writing_c() or not self.can_force() or any(how != "faulty" for how in self.lost.values()):
            return False
        self.check.command("eio 1")
        alive = self.present()
        dying = self.rng.sample(alive, self.parities + 1 - len(self.lost))
        for path in dying:
            self.say(f"{path} is dead, and that is too much")
            self.disks.tell(path, "dead", 1)
            if self.rng.random() < 0.5:
                self.a_while(0.001, 0.05)
        self.a_while(0.05, 0.15)
        self.unload()
        self.array.stop()
        for path in dying:
            self.disks.heal(path)
        self.check.command("cut 1")
        self.assemble_keeping(alive, force=True)
        self.check.command("eio 0")
        self.needs_repair = True
        self.load()
        self.readmit()
        return True

    # The whole

    def happen(self):
        """Something happens."""
        chances = ((self.settings, 3), (self.faulty, 3), (self.dead, 2), (self.unreadable, 2), (self.refuse, 2),
                   (self.bad_blocks, 1), (self.hold, 2), (self.slow, 1), (self.action, 2), (self.bitmap_change, 1),
                   (self.suspend, 1), (self.come_back, 8), (self.rebuilt, 3), (self.interrupt_rebuild, 1), (self.replace, 3),
                   (self.restart, 2), (self.power_cut, 2), (self.overkill, 1))
        if self.seed >= MORE:
            chances += ((self.dead_together, 2), (self.frozen, 2), (self.window, 1), (self.resize, 2), (self.states, 1))
        while True:
            event, = self.rng.choices([event for event, _ in chances], [weight for _, weight in chances])
            # With parity that may be wrong somewhere nothing else may be lost.
            if self.needs_repair and event not in (self.settings, self.hold, self.slow, self.come_back, self.rebuilt, self.suspend):
                if not self.lost:
                    self.repair()
                    return
                continue
            if event():
                return

    def repair(self):
        """Makes parity right everywhere."""
        self.wait_idle()
        self.say("repair")
        self.array.begin("repair")
        self.wait_idle()
        self.needs_repair = False

    def recover(self):
        """Brings everything back."""
        for path in self.disks.paths:
            for what in ("dead 0", "hold 0", "slow 0"):
                self.disks.tell(path, *what.split())
        while self.lost:
            if any(how == "unreadable" for how in self.lost.values()):
                # What is in memory hides from a check: assembled anew the array finds all. As in restart(), no resync may be due.
                self.resynced()
                self.stop()
                members = [path for path in self.members if self.lost.get(path) != "faulty"]
                self.assemble_keeping(members)
            while self.come_back():
                pass
            self.rebuilt()
        self.unload()
        self.resynced()
        if self.needs_repair:
            self.repair()

    def expect_sound(self):
        """Content and parity are right under this driver."""
        self.check.whole(self.array.path, "verify")
        self.array.expect_at_rest()
        wrong = self.array.scan()
        if wrong:
            raise Failed(f"mismatch_cnt under {kernel.driver()}: expected 0, came {wrong}")

    def finale(self):
        """All is brought back; both drivers find all right, also without as many members as there are parities."""
        self.recover()
        self.say(f"all is back under {kernel.driver()}: verify")
        self.check.command("settle")
        self.expect_sound()
        self.array.stop()
        kernel.use_driver(self.pair[0] if kernel.driver() == self.pair[1] else self.pair[1])
        self.had.add(kernel.driver())
        self.say(f"assemble under {kernel.driver()}: verify")
        kernel.sh("mdadm", "--assemble", "/dev/md0", "--quiet", *self.members)
        self.array = Array(self.members)
        self.expect_sound()
        for path in self.rng.sample(self.members, self.parities):
            self.say(f"fail {path}")
            self.array.set(f"dev-{name_of(path)}/state", "faulty")
        self.say("verify without them")
        self.check.whole(self.array.path, "verify")
        self.array.stop()

    def run(self):
        """The schedule, from the array's making to its end."""
        events = self.rng.randint(6, 12)
        try:
            self.create()
            self.load()
            for _ in range(events):
                self.happen()
                self.a_while()
            self.finale()
        except Exception as problem:
            what = f"{type(problem).__name__}: " if not isinstance(problem, Failed) else ""
            report = (f"under {kernel.driver()}: {what}{problem}\n  what happened:\n    " + "\n    ".join(self.log)
                      + f"\n  {self.array.mdstat() if self.array else ''}")
            if isinstance(problem, Broken) and self.had == {"c"} and "rust" in self.pair:
                note(report)
                raise Skipped("no other driver than the C module has had this array until it broke a rule: see above") from problem
            raise Failed(report) from problem
        if os.environ.get("SHOW"):
            note("\n    ".join(["what happened:", *self.log]))
        counts = self.check.counts()
        note(f"{self.title()}: {events} events, {counts['reads']} reads and {counts['writes']} writes so far, "
             f"{time.monotonic() - self.began:.1f} s")


def cleanup():
    """Takes everything down; what a broken rule left is not there for the next seed."""
    if kernel.loaded("raid456_disks"):
        try:
            Disks.power_on()
            for number in range(len([name for name in os.listdir("/dev") if name.startswith("frail")])):
                with open("/sys/kernel/debug/raid456_disks/command", "w", encoding="ascii") as command:
                    command.write(f"hold {number} 0")
        except OSError:
            pass
    Check.remove()
    stop_all()
    Disks.remove()


def cases(kind, chosen):
    """A case for each seed: those named ("1-25"), or the one that the command line names."""
    one = re.fullmatch(r"\^?seed (\d+)\$?", sys.argv[1]) if len(sys.argv) > 1 else None
    first, _, last = (one.group(1) if one else chosen).partition("-")
    return [(f"seed {seed}", lambda seed=seed: kind(seed).run()) for seed in range(int(first), int(last or first) + 1)]


if __name__ == "__main__":
    run(cases(Schedule, os.environ.get("FAULTS", SEEDS)), cleanup=cleanup)

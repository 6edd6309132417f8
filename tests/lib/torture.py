# SPDX-License-Identifier: GPL-2.0
"""Disks that fail on command and a load that knows what every read may return (tests/torture; scripts/build-load makes
the modules)."""

import errno
import os
import re
import time

from kernel import delete_module, flavour, insert_module, loaded
from report import Failed, wait_for

_REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _insert(name, parameters=""):
    path = f"{_REPO}/build/{flavour()}/torture/{name}.ko"
    if not os.path.exists(path):
        raise Failed(f"there is no {path}: run scripts/build-load {flavour()}")
    problem = insert_module(path, parameters)
    if problem:
        raise Failed(f"{path} could not be inserted: {problem}")


def _remove(name):
    if loaded(name):
        wait_for(f"{name} removed", lambda: delete_module(name) in ("", "ENOENT"), 20)


def _command(module, words):
    file = os.open(f"/sys/kernel/debug/{module}/command", os.O_WRONLY)
    try:
        os.write(file, words.encode())
    finally:
        os.close(file)


def _read(module, name):
    with open(f"/sys/kernel/debug/{module}/{name}", encoding="ascii") as file:
        return file.read()


# What Disks.lose() leaves in the memory that it takes.
LOST = "lost on purpose"


class Disks:
    """/dev/frail0, ...: memory that goes wrong on command. The head of tests/torture/disks.c tells what they can do."""

    def __init__(self, count, mib, late=False, cached=False, block=512, segments=0, largest=0, erase=False):
        _remove("raid456_disks")
        few = f" segments={segments}" if segments else ""
        _insert("raid456_disks", f"count={count} mib={mib} late={int(late)} cached={int(cached)} block={block}{few} "
                                 f"largest={largest} erase={int(erase)}")
        self.paths = [f"/dev/frail{number}" for number in range(count)]
        wait_for("the disks' nodes", lambda: all(os.path.exists(path) for path in self.paths), 10)

    @staticmethod
    def remove():
        """Takes them away; nothing may use them."""
        _remove("raid456_disks")

    @staticmethod
    def power_off(seed):
        """Cuts the power of all of them at one moment."""
        _command("raid456_disks", f"power off {seed}")

    @staticmethod
    def power_on():
        """Lets them answer again."""
        _command("raid456_disks", "power on")

    @staticmethod
    def lose(size):
        """Takes memory and forgets it; LOST stands in it."""
        _command("raid456_disks", f"lose {size}")

    def tell(self, path, what, *numbers):
        """dead, hold, slow, unreadable, reject, refuse, garbage."""
        _command("raid456_disks", f"{what} {self.paths.index(path)} {' '.join(str(number) for number in numbers)}")

    def state(self, path):
        """{word: number} of a disk's status line."""
        line = _read("raid456_disks", "status").splitlines()[self.paths.index(path)]
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}

    def heal(self, path):
        """A disk that does what it should, but for sectors that are still unreadable."""
        for what in ("dead 0", "hold 0", "slow 0", "reject 0", "rot 0", "refuse 0 0"):
            self.tell(path, *what.split())


class Broken(Failed):
    """The device under test broke a rule."""


class Check:
    """The load that checks. Each command raises Broken once a rule was broken."""

    def __init__(self):
        if not loaded("raid456_check"):
            _insert("raid456_check")

    @staticmethod
    def remove():
        """Takes it away."""
        _remove("raid456_check")

    def command(self, words):
        """As the head of tests/torture/check.c tells."""
        try:
            _command("raid456_check", words)
        except OSError as problem:
            if problem.errno in (errno.EILSEQ, errno.ETIME):
                raise Broken(self.explain()) from None
            raise Failed(f"{words}: {problem}") from None

    def new(self, geometry, sectors, cached=False, block=512, seed=1):
        """Forgets all, and is about an array of this shape from now on."""
        sectors -= sectors % (geometry.chunk * geometry.data)
        self.command(f"new sectors={sectors} chunk={geometry.chunk} data={geometry.data} cached={int(cached)} "
                     f"block={block} seed={seed}")

    def run(self, device, rw, **words):
        """Begins a load."""
        # What has just looked at the device may still hold it.
        self.command(f"run dev={device} rw={rw} " + " ".join(f"{name}={value}" for name, value in words.items()))

    def whole(self, device, rw, **words):
        """Writes (rw="fill") or reads and checks (rw="verify") everything once."""
        self.run(device, rw, jobs=2, depth=8, longest=256, **words)
        self.command("wait")

    def counts(self):
        """{word: number}: running, pending, reads, writes, errors, violations, uncertain, wild."""
        return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", _read("raid456_check", "status"), re.M)}

    def expect_right(self):
        """Raises Broken if a rule was broken by now."""
        if self.counts()["violations"]:
            raise Broken(self.explain())

    def explain(self):
        """What was broken, and what led to it."""
        history = _read("raid456_check", "history").splitlines()
        return (f"{_read('raid456_check', 'status')}\nin that row (uptime now {time.monotonic():.3f}):\n  "
                + "\n  ".join(history[-120:]))

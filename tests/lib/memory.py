# SPDX-License-Identifier: GPL-2.0
"""Kernels that run out of memory when they are told to: the kernel's fault injection for slabs and pages."""

import contextlib
import ctypes
import mmap
import os
import re
import threading
import time

from kernel import flavour, least, patience, sh
from kmem import text_of
from report import Failed, note

_DEBUG = "/sys/kernel/debug"
_KINDS = ("failslab", "fail_page_alloc")
# Whatever the order and the kind of an allocation, it may fail, without a word in the log.
_ANY = {"verbose": 0, "ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "min-order": 0, "cache-filter": "N"}
# More allocations than can fail.
MANY = 1 << 30
# Seconds from one look for tasks that are to have no memory to the next. The debug kernel has hardly time for anything else while one looks.
_LOOK = 0.2 if flavour() == "debug" else 0.02
_LIBC = ctypes.CDLL(None, use_errno=True)


class Setting:
    """A file of debugfs that holds a number, open for writing as long as the test: to open one takes memory."""

    def __init__(self, path):
        self._path, self._file = path, os.open(path, os.O_WRONLY)

    def set(self, value, timeout=20):
        """Stores a value; again for as long as there is no memory for that."""
        end = time.monotonic() + timeout * patience()
        while True:
            try:
                os.write(self._file, str(value).encode())
                return
            except (OSError, MemoryError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def get(self):
        """The number."""
        with open(self._path, "rb", buffering=0) as file:
            return int(file.read(32))

    def close(self):
        """Closes the file."""
        os.close(self._file)


class Shortage:
    """While it lasts (`with`), so many percent of allocations fail, blocking ones, too. Of whom:

    only="tasks"     of the threads of the array and of the load that checks, and of who calls `join()`
    only="driver"    those that are made by the driver's code, directly or below it (kernels with a filter by stack)
    only=None        of everybody; for `burst` seconds at a time, with a pause after each, so that programs get somewhere

    `failures()` tells how many allocations failed.
    """

    def __init__(self, percent, only="tasks", array="md0", burst=0.15, pause=0.1):
        self._percent, self._only, self._burst, self._pause = percent, only, burst, pause
        self._names = re.compile(rf"{array}_|raid456_check/")
        self._settings, self._failures, self._over, self._thread = {}, 0, threading.Event(), None
        self._burst_or_programs = threading.Lock()

    @staticmethod
    def possible(only="tasks"):
        """Whether this kernel can do that."""
        needed = "require-start" if only == "driver" else "task-filter"
        return all(os.path.exists(f"{_DEBUG}/{kind}/{needed}") for kind in _KINDS)

    def _set(self, name, value):
        for kind in _KINDS:
            if (kind, name) in self._settings:
                self._settings[kind, name].set(value)

    def __enter__(self):
        # Programs' own pages are there before memory is short.
        _LIBC.mlockall(3)
        wanted = {"probability": 0, "interval": 1, "times": 0, "space": 0, **_ANY, "task-filter": "Y" if self._only == "tasks" else "N"}
        if self._only == "driver":
            start, end = text_of("raid456")
            wanted.update({"require-start": hex(start), "require-end": hex(end), "stacktrace-depth": 32})
        for kind in _KINDS:
            for name in wanted:
                path = f"{_DEBUG}/{kind}/{name}"
                if os.path.exists(path):
                    self._settings[kind, name] = Setting(path)
        for name, value in wanted.items():
            self._set(name, value)
        self._mark()
        self._set("times", MANY)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._set("probability", 0)
        for kind in _KINDS:
            left = patiently(lambda kind=kind: self._settings[kind, "times"].get())
            self._failures += MANY - left
        self._set("times", 0)
        self._set("task-filter", "N")
        if self._only == "driver":
            self._set("require-end", hex((1 << 64) - 1))
            self._set("require-start", "0")
        for setting in self._settings.values():
            setting.close()

    def failures(self):
        """How many allocations failed; by now, while it lasts."""
        if self._over.is_set():
            return self._failures
        return sum(MANY - self._settings[kind, "times"].get() for kind in _KINDS)

    def _mark(self):
        """Marks the tasks that are to have no memory: those that are there now."""
        if self._only != "tasks":
            return
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as file:
                    ours = self._names.match(file.read())
                if ours:
                    with open(f"/proc/{pid}/make-it-fail", "w", encoding="ascii") as file:
                        file.write("1")
            except OSError:
                pass

    @contextlib.contextmanager
    def programs(self):
        """Programs have memory, within it: if everybody lacks it otherwise, there is no burst meanwhile."""
        with self._burst_or_programs:
            yield

    @contextlib.contextmanager
    def join(self):
        """Makes the calling thread one of those that have no memory, within it, if it goes by tasks; but not where all their allocations
        fail: the thread would have none for the files that it writes, nor for a page of its own."""
        if self._only != "tasks" or self._percent == 100:
            yield
            return
        # To open the file afterwards would take memory.
        file = os.open(f"/proc/self/task/{threading.get_native_id()}/make-it-fail", os.O_WRONLY)
        try:
            os.write(file, b"1")
            yield
        finally:
            os.pwrite(file, b"0", 0)
            os.close(file)

    def _watch(self):
        while not self._over.is_set():
            if self._only is None:
                with self._burst_or_programs:
                    self._set("probability", self._percent)
                    time.sleep(self._burst)
                    self._set("probability", 0)
                time.sleep(self._pause)
            else:
                self._set("probability", self._percent)
                self._mark()
                time.sleep(_LOOK)


class Point:
    """Has the calling thread's allocation number `number` fail, within it, counted from there on; `reached` tells afterwards
    whether there were so many."""

    def __init__(self, number):
        self._number, self.reached = number, False

    def __enter__(self):
        for path, value in ((f"{_DEBUG}/{kind}/{name}", value) for kind in _KINDS for name, value in _ANY.items()):
            if os.path.exists(path):
                with contextlib.closing(Setting(path)) as setting:
                    setting.set(value)
        self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/fail-nth", os.O_RDWR)
        os.write(self._file, str(self._number).encode())
        return self

    def __exit__(self, *_):
        # It is 0 when the allocation has failed, and else how many there would have to be.
        self.reached = int(os.pread(self._file, 16, 0)) == 0
        os.pwrite(self._file, b"0", 0)
        os.close(self._file)

    @staticmethod
    def each(dense=60, factor=1.06):
        """Numbers: all at first, then more and more seldom."""
        number = 1
        while True:
            yield int(number)
            number = number + 1 if number < dense else number * factor


def available():
    """Bytes of memory that programs could have."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024


def _setting(name, value=None):
    """A setting of the kernel's memory management; stores one. Not in one go: what is written behind what was read it ignores."""
    path = f"/proc/sys/vm/{name}"
    if value is None:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))
    if _setting(name) != str(value):
        raise Failed(f"vm.{name}: expected {value} as written, came {_setting(name)}")
    return value


@contextlib.contextmanager
def vm(**settings):
    """The kernel's memory management is set so, within it. What is None stays as it is for now, and what it is set to meanwhile
    does not last."""
    before = {name: _setting(name) for name in settings}
    try:
        for name, value in settings.items():
            if value is not None:
                _setting(name, value)
        yield
    finally:
        for name, value in before.items():
            _setting(name, value)


def dirty_limit(**settings):
    """Within it pages that are to be written may take nearly all memory: the limit that keeps writers from filling it is not the usual one. Other
    settings as for vm().

    Arrays with the least memory write so slowly that of so many pages none may come clean for a second or two, and whoever asks for
    memory has somebody killed then: there half of it is left to others."""
    share = 50 if least() else 90
    return vm(dirty_ratio=share, dirty_background_ratio=share - 10, **settings)


def free():
    """Bytes of memory that nobody uses. Programs could have less, for the kernel keeps some, or more."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("nr_free_pages ")) * mmap.PAGESIZE


def keep_free(kilobytes):
    """The kernel is to have so much more memory free than it has now, from now on (until `vm(min_free_kbytes=None)` ends): whoever asks for
    memory looks for it himself until that is so, however fast others free it."""
    now = free() >> 10
    least = max(int(_setting("min_free_kbytes")), now + kilobytes)
    _setting("min_free_kbytes", least)
    note(f"{now} KiB are free, {least} are to be")


def small():
    """For tests in which memory is short, before anything else: the kernel does not want more to be free than usual after it has
    broken up larger pieces (the boost of watermarks). In so little memory that is a part that matters, 6 of 30 MiB, and it stays
    until a thread has found time for it: on a busy machine a program was seen to wait for a page for half a minute, until the swap
    was full, and was killed."""
    _setting("watermark_boost_factor", 0)


def locked(size):
    """Memory that stays where it is."""
    memory = mmap.mmap(-1, max(mmap.PAGESIZE, size))
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _LIBC.mlock(ctypes.c_void_p(start), ctypes.c_size_t(len(memory))):
        raise Failed(f"{len(memory)} bytes could not be locked: errno {ctypes.get_errno()}")
    return memory


class Paged:
    """Memory of a program, with more pages than stay there: each says where it is."""

    def __init__(self, size):
        self._memory = mmap.mmap(-1, size // mmap.PAGESIZE * mmap.PAGESIZE)
        self._rest = bytes(range(256)) * 8

    def __len__(self):
        return len(self._memory)

    def _text(self, at):
        return at.to_bytes(16, "little") + self._rest

    def write(self, midway):
        """Writes every page; `midway` is called when three quarters are written: by then more than stays there."""
        late = len(self._memory) * 3 // 4
        for at in range(0, len(self._memory), mmap.PAGESIZE):
            text = self._text(at)
            self._memory[at:at + len(text)] = text
            if late and at >= late:
                late = 0
                midway()

    def wrong(self):
        """Reads every page: where those begin that are not as they were written."""
        found = []
        for at in range(0, len(self._memory), mmap.PAGESIZE):
            text = self._text(at)
            if self._memory[at:at + len(text)] != text:
                found.append(at)
        return found

    def close(self):
        """It goes."""
        self._memory.close()


@contextlib.contextmanager
def swapping(path, size):
    """A program with more memory than there is (Paged), within it: what does not fit is on the device `path`, which has `size`
    bytes; all memory beside is locked. From the program's one end to the other each page goes out and comes in.

    All that the program has fits the device, and more: pages that have come back keep their places there for a while, and with none left
    the kernel (7.2) frees no page of programs any more, however many are there twice, and kills."""
    room, hog, memory = size // 2, None, None
    sh("mkswap", path)
    sh("swapon", path)
    try:
        hog = locked(available() - room)
        memory = Paged(available() + size * 35 // 100)
        note(f"{available() >> 20} MiB of memory are there, {len(memory) >> 20} are used, {size >> 20} on the device")
        yield memory
    finally:
        # Before what is on the device comes back.
        if memory:
            memory.close()
        del hog
        sh("swapoff", path)


def swap_off():
    """Nothing is swap any more: what a case that failed has left."""
    with open("/proc/swaps", encoding="ascii") as file:
        for line in file.read().splitlines()[1:]:
            sh("swapoff", line.split()[0])


def patiently(action, timeout=20):
    """The action's result; tried again for as long as it fails for want of memory."""
    end = time.monotonic() + timeout * patience()
    while True:
        try:
            return action()
        except (OSError, MemoryError, Failed):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)

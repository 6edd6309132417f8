# SPDX-License-Identifier: GPL-2.0
"""What tasks allocate, by the kernel's kmem events: those that might be wrong with the stack of each, and how many there are
at all. To print a stack takes the debug kernel long, so the kernel itself chooses which."""

import collections
import os
import re

from kernel import sh
from report import Failed, expect, expect_range, note, wait_for

_TRACING = "/sys/kernel/tracing"

_LINE = re.compile(r"^ *(?P<comm>.{1,16})-(?P<pid>\d+) +\[\d+\] (?P<flags>\S+) +[\d.]+: (?P<event>\w+): (?P<text>.*)$")
_FRAME = re.compile(r"^ *=> (?P<name>.*?)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?(?: \[(?P<module>\w+)\])?$")

# Whom the way from the driver to an allocator leads through, and who asks for memory by rules of his own then: md core, an
# interrupt.
_OTHERS = re.compile(r"^(md|mddev|bitmap|llbitmap|super|asm|sysvec|irq|__irq|handle_softirqs)_")
_ALLOCATORS = re.compile(r"^(trace_|_*do_trace_|_*k[mvz]*alloc|_*alloc_|_*slab|___slab|new_slab|_*get_free_page|kmem_cache|bio_alloc|mempool_"
                         r"|folio_alloc|vma_alloc|_*refill)")
# What the debug kernel allocates for itself wherever others allocate, lock or free.
_DEBUG = re.compile(r"^(stack_depot|kasan|__kasan|kmemleak|__create_object|create_object|mem_pool_alloc|__debug_object|debug_object|"
                    r"lookup_object_or_alloc|fill_pool|lockdep|register_lock|dma_debug|debug_dma|dma_entry)")
# Below the submission of a bio its device's driver allocates, by its own rules.
_SUBMITS = re.compile(r"^_*submit_bio(_noacct)?(_nocheck)?$|^blk_(finish|flush)_plug|^__blk_flush_plug|^blk_mq_")

# Bits of gfp_t: it may start I/O, or wait for others' writes.
_IO, _FS, _DIRECT_RECLAIM = 0x40, 0x80, 0x400
_PAGE = 4096

# What is larger than a page.
_LARGE = {"kmalloc": f"bytes_req > {_PAGE}", "kmem_cache_alloc": f"bytes_req > {_PAGE}", "mm_page_alloc": "order > 0"}


class Allocation:
    """One allocation, with the way to it.

    comm, event     the task's name, and the event's
    who             "ours", for the way leads from the driver to the allocator and through nobody who has rules of his own;
                    "debug" kernel's; "below submit_bio"; or "others": md core, mostly
    caller          the first function of the driver, or for others' the first that has not the name of an allocator
    """

    def __init__(self, comm, event, text, frames):
        self.comm, self.event, self.text, self.frames = comm.strip(), event, text, frames
        # For small objects the slab's allocator may try for more than a page, without waiting: it then takes one page.
        tried = event == "mm_page_alloc" and any(re.match(r"new_slab|allocate_slab|___slab", name) for name, _ in frames)
        self.slab_tries = tried and "__GFP_NORETRY" in text and not re.search(r"GFP_(NOIO|KERNEL)|DIRECT_RECLAIM|__GFP_RECLAIM", text)
        self.who, self.caller = self._attribute()

    def _attribute(self):
        """Whose it is: the first caller tells."""
        debug = next((name for name, _ in self.frames if _DEBUG.match(name)), None)
        if debug:
            return "debug", debug
        for name, module in self.frames:
            if module == "raid456":
                return "ours", name
            if _SUBMITS.match(name):
                return "below submit_bio", self._named()
            if _OTHERS.match(name):
                break
        return "others", self._named()

    def _named(self):
        """The first function that has not the name of an allocator, for people."""
        return next((name for name, _ in self.frames if not _ALLOCATORS.match(name)), "?")

    def __str__(self):
        way = "\n".join(f"        {name}" + (f" [{module}]" if module else "") for name, module in self.frames)
        return f"{self.comm}: {self.event}: {self.text}\n{way}"


class Instance:
    """A trace of its own."""

    def __init__(self, name, kilobytes):
        self._path = f"{_TRACING}/instances/raid456_{name}"
        os.mkdir(self._path)
        self.write("buffer_size_kb", kilobytes)

    def write(self, name, value):
        """Stores a setting."""
        with open(f"{self._path}/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    def trace(self, event, condition, group="kmem"):
        """Traces an event where a condition holds."""
        self.write(f"events/{group}/{event}/filter", condition)
        self.write(f"events/{group}/{event}/enable", 1)

    def lines(self):
        """What was traced, CPU by CPU: a stack stands behind its event."""
        for cpu in sorted(os.listdir(f"{self._path}/per_cpu")):
            with open(f"{self._path}/per_cpu/{cpu}/trace", encoding="utf-8", errors="replace") as trace:
                yield from trace
            yield ""

    def lost(self):
        """Events that found no room."""
        number = 0
        for cpu in os.listdir(f"{self._path}/per_cpu"):
            with open(f"{self._path}/per_cpu/{cpu}/stats", encoding="ascii") as file:
                number += sum(int(found) for found in re.findall(r"^(?:overrun|dropped events): (\d+)", file.read(), re.M))
        return number

    def end(self):
        """The trace goes."""
        self.write("events/enable", 0)
        os.rmdir(self._path)


class Allocations:
    """What some tasks allocate during a `with` block. Their names are patterns (*, ? and [] as in a shell): those in
    `threads` must not wait for memory, those in `submitters` not for I/O. Afterwards

    doubtful    a list of Allocation: those that wait so, or are larger than a page, whosever they are
    counts      {(task, caller, event): how many} of all that were made with a caller that is known; numbers at the end of
                tasks' names are left out
    """

    def __init__(self, threads, submitters):
        threads, submitters = (" || ".join(f'comm ~ "{name}"' for name in names) for names in (threads, submitters))
        self._whose = f"({threads} || {submitters})"
        # A program's own pages are no business of ours.
        self._doubtful = {
            event: f"({large} && {self._whose}) || (gfp_flags & {_DIRECT_RECLAIM} && ({threads}))"
                   + (f" || (gfp_flags & {_IO | _FS} && ({submitters}) && %s)" if event != "mm_page_alloc" else "")
            for event, large in _LARGE.items()}
        self.doubtful, self.counts = [], collections.Counter()
        self._ways = self._all = None

    def __enter__(self):
        if not os.path.exists(f"{_TRACING}/trace"):
            sh("mount", "-t", "tracefs", "tracefs", _TRACING)
        if not os.path.exists(f"{_TRACING}/events/kmem/kmalloc"):
            raise Failed("this kernel has no kmem events")
        start, end = text_of("raid456")
        ours = f"call_site >= {start} && call_site < {end}"
        self._ways, self._all = Instance("ways", 16384), Instance("all", 8192)
        # With an offset a module's name comes.
        for option in ("stacktrace", "sym-offset"):
            self._ways.write(f"options/{option}", 1)
        for event, condition in self._doubtful.items():
            self._ways.trace(event, condition.replace("%s", ours))
        for event in ("kmalloc", "kmem_cache_alloc"):
            self._all.trace(event, self._whose)
        return self

    def __exit__(self, *_):
        try:
            for each in (self._ways, self._all):
                each.write("tracing_on", 0)
            self._read_ways()
            self._read_all()
            lost = self._ways.lost() + self._all.lost()
        finally:
            self._ways.end()
            self._all.end()
        if lost:
            raise Failed(f"{lost} events did not find room in the trace: trace less, or give it more memory")

    def _read_ways(self):
        head, frames = None, []
        for line in self._ways.lines():
            if found := _FRAME.match(line):
                frames.append((found["name"], found["module"]))
            elif (found := _LINE.match(line)) and found["event"] in _LARGE:
                if head:
                    self.doubtful.append(Allocation(*head, frames))
                head, frames = (found["comm"], found["event"], found["text"]), []
        if head:
            self.doubtful.append(Allocation(*head, frames))

    def _read_all(self):
        for line in self._all.lines():
            if found := _LINE.match(line):
                caller = re.search(r"call_site=(\S+?)(?:\+0x\S+)?(?: (\[\w+\]))? ", found["text"])
                comm = re.sub(r"\d+$", "", found["comm"].strip())
                self.counts[comm, " ".join(filter(None, caller.groups())), found["event"]] += 1


class Reclaims:
    """Whether threads of an array have to look for memory themselves, because none is free, within a `with` block.

    who         {thread's name: how often} of these, where the driver asks for memory
    ways        {the way there: how often} of these where md core asks by its own rules, to begin a rebuild for example, and of
                one thread beside
    may_wait    and what it has allocated that might have led there: {(event, caller): how often}
    others      how often anybody had to
    """

    def __init__(self, array, thread=0):
        self._array, self._thread, self.others = array, thread, 0
        self.who, self.may_wait, self.ways = collections.Counter(), collections.Counter(), collections.Counter()
        self._trace = None

    @staticmethod
    def _stalls():
        with open("/proc/vmstat", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("allocstall_"))

    def __enter__(self):
        if not os.path.exists(f"{_TRACING}/trace"):
            sh("mount", "-t", "tracefs", "tracefs", _TRACING)
        self._trace = Instance("reclaims", 1024)
        for option in ("stacktrace", "sym-offset"):
            self._trace.write(f"options/{option}", 1)
        self._trace.trace("mm_vmscan_direct_reclaim_begin", f'comm ~ "{self._array}_*" || common_pid == {self._thread or -1}', "vmscan")
        if self._thread:
            for event in _LARGE:
                self._trace.trace(event, f"common_pid == {self._thread} && gfp_flags & {_DIRECT_RECLAIM}")
        self.others = -self._stalls()
        return self

    def seen(self):
        """Whether somebody had to, while it lasts."""
        return self.others + self._stalls() > 0

    def wait(self, take):
        """Until somebody had to. As long as nobody has, because more was free than the kernel said or because it frees as fast as
        others ask, `take()` has less be there every few seconds."""
        for _ in range(12):
            try:
                return wait_for("somebody has to look for memory", self.seen, 5, 0.2)
            except Failed:
                take()
        raise Failed("nobody had to look for memory within a minute, with less and less of it")

    def __exit__(self, *_):
        self._trace.write("tracing_on", 0)
        self.others += self._stalls()
        head, frames = None, []
        for line in [*self._trace.lines(), ""]:
            if found := _FRAME.match(line):
                frames.append((found["name"], found["module"]))
                continue
            if head:
                self._count(head, frames)
            head, frames = _LINE.match(line), []
        self._trace.end()

    def _count(self, head, frames):
        if head["event"] in _LARGE:
            site = re.search(r"call_site=(\S+?)(?:\+0x\S+)? ", head["text"])
            self.may_wait[head["event"], site[1] if site else "?"] += 1
            return
        ours = next((module for name, module in frames if module == "raid456" or _OTHERS.match(name)), None)
        if ours or int(head["pid"]) != self._thread and not frames:
            self.who[head["comm"].strip()] += 1
        else:
            named = [name for name, _ in frames if not _ALLOCATORS.match(name)]
            self.ways[f"{head['comm'].strip()}: {' < '.join(named[:10])}"] += 1

    def expect_never(self, thread):
        """Ends the case if this thread of the array had to, for whomever."""
        ways = {way: number for way, number in self.ways.items() if way.startswith(f"{thread}:")}
        expect(f"times that {thread} had to look for memory, and the ways there", (0, {}), (self.who[thread], ways))

    def expect_others_only(self, least):
        """Ends the case unless somebody had to, at least so often, and no thread of the array had to."""
        expect_range("times that somebody had to look for memory", least, 1 << 40, self.others)
        for way, number in self.ways.items():
            note(f"md core or mdmon, {number} times: {way}")
        expect("threads of the array that had to for the driver", {}, dict(self.who))


def text_of(module):
    """The addresses between which a module's code lies, and no other one's."""
    with open("/proc/modules", encoding="ascii") as file:
        found = {name: (int(start, 16), int(size)) for name, size, start in
                 re.findall(r"^(\S+) (\d+) .* (0x[0-9a-f]+)", file.read(), re.M)}
    start, size = found[module]
    if not start:
        raise Failed(f"/proc/modules does not tell where {module} is")
    # The size is that of its data, too, which lie elsewhere: other modules' code may begin before that.
    return start, min([start + size, *(other for other, _ in found.values() if other > start)])

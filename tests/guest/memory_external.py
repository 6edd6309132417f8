#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml cpus=1 mem=480 timeout=300
"""Arrays whose metadata user space keeps, in the formats IMSM and DDF, with mdmon: they are created, lose a member, are rebuilt
on the container's spare, stopped and assembled; also while no thread of the array gets memory, and while memory is really short.
Nothing is acknowledged before mdmon has recorded a failure, and neither it, where it does that, nor the array waits for memory.

One CPU: see memory_pressure.py."""

import mmap
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from kmem import Reclaims
from memory import Shortage, available, dirty_limit, free, keep_free, patiently, small, swap_off, swapping
from raid import Array, mdstat_names, name_of, speed_limit, stop_all
from report import Failed, all_of, expect, expect_match, expect_range, note, run, wait_for, within
from torture import Check, Disks
import kernel

MIB = 1 << 20
CONTAINER, VOLUME = "md127", "md126"
# What a format keeps of each disk for itself, in MiB.
RESERVED = {"imsm": 6, "ddf": 33}

# For mdadm and mdmon: these are no Intel controller's disks, and have no serial numbers; no systemd runs here.
os.environ.update({"IMSM_NO_PLATFORM": "1", "IMSM_DEVNAME_AS_SERIAL": "1", "MDADM_NO_SYSTEMCTL": "1"})


class External:
    """An array in a container with a spare."""

    def __init__(self, form, level, members, mib=8, spares=1):
        os.makedirs("/run/mdadm", exist_ok=True)
        self.disks = Disks(members + spares, mib + RESERVED[form], late=True)
        speed_limit()
        kernel.sh("mdadm", "--create", f"/dev/{CONTAINER}", "--run", "--quiet", f"--metadata={form}", f"--raid-devices={members + spares}",
                  *self.disks.paths)
        kernel.sh("mdadm", "--create", f"/dev/{VOLUME}", "--run", "--quiet", f"--level={level}", f"--raid-devices={members}",
                  "--chunk=64", f"--size={mib}M", f"/dev/{CONTAINER}")
        self.array = Array(self.disks.paths, VOLUME)
        expect_match("metadata", r"^external:/md127/0$", self.array.get("metadata_version"))
        self.array.wait_synced()
        self.check = Check()
        self.check.new(self.array.geometry(), self.array.size() // 512, seed=level)

    def load(self, **words):
        """Begins a load of requests of all sizes."""
        self.check.run(self.array.path, "mix", **{"jobs": 2, "depth": 16, "longest": 256, "reads": 40, "fua": 5, "seed": 5, **words})

    def lose(self):
        """A member fails while it is written to: it dies, or if the format has a list of bad blocks, which mdmon would have to
        write once for each, somebody says that it has failed. mdmon records that, takes it out, and has the spare rebuilt.
        Returns its path, and the seconds until the failure was recorded."""
        array = self.array
        lost = array.slots()[1]
        begin = time.monotonic()
        if "external_bbl" in array.state(lost):
            patiently(lambda: array.set(f"dev-{name_of(lost)}/state", "faulty"))
        else:
            self.disks.tell(lost, "dead", 1)
        def recorded():
            state = array.state(lost)
            return not state or "faulty" in state and "blocked" not in state and array.get("array_state") != "write-pending"
        wait_for(f"the failure of {lost} is recorded", lambda: patiently(recorded), 60)
        seconds = time.monotonic() - begin
        self.take_out(lost)
        return lost, seconds

    @staticmethod
    def monitor():
        """mdmon's thread that records failures. The other one, which may wait for memory, is the process."""
        with open(f"/run/mdadm/{CONTAINER}.pid", encoding="ascii") as file:
            manager = int(file.read())
        others = [int(task) for task in os.listdir(f"/proc/{manager}/task") if int(task) != manager]
        expect("mdmon's threads beside the one that manages", 1, len(others))
        return manager, others[0]

    def take_out(self, lost):
        """mdmon takes the member out of the array. What the one of mdadm 4.4 could not do at once it tries again when something
        wakes its manager, which may be never: a signal does."""
        end = time.monotonic() + 20 * kernel.patience()
        with open(f"/run/mdadm/{CONTAINER}.pid", encoding="ascii") as file:
            manager = int(file.read())
        while patiently(lambda: self.array.state(lost)):
            if time.monotonic() > end:
                raise Failed(f"mdmon does not take {lost} out: {self.array.state(lost)}")
            os.kill(manager, signal.SIGUSR1)
            time.sleep(0.3)

    def wait_rebuilt(self):
        """Until no member is missing."""
        wait_for("rebuilt on the spare", lambda: patiently(
            lambda: self.array.get("degraded") == "0" and self.array.idle()), 60)

    def stop(self):
        """Stops everything. mdmon hears of that, and goes by itself."""
        stop_all()
        wait_for("mdmon's socket is gone", lambda: not os.path.exists(f"/run/mdadm/{CONTAINER}.sock"), 20)

    def assemble(self):
        """Assembles what the disks say."""
        kernel.sh("mdadm", "--assemble", f"/dev/{CONTAINER}", "--quiet", *self.disks.paths)
        kernel.sh("mdadm", "--incremental", "--run", "--quiet", f"/dev/{CONTAINER}")
        names = [name for name in mdstat_names() if name != CONTAINER]
        expect("arrays of the container", 1, len(names))
        self.array = Array(self.disks.paths, names[0])
        wait_for("mdmon runs", lambda: os.path.exists(f"/run/mdadm/{CONTAINER}.sock"), 10)

    def expect_whole(self, degraded=0):
        """Everything that was written is there, parity is right, nothing waits."""
        array = self.array
        array.expect_at_rest()
        self.check.expect_right()
        self.check.whole(array.path, "verify")
        expect("degraded", str(degraded), array.get("degraded"))
        if not degraded:
            expect("mismatch_cnt after check", 0, array.scan())
            array.expect_parity()


def life(form, level, members):
    """Create, fail, rebuild, stop, assemble."""
    subject = External(form, level, members)
    subject.check.whole(subject.array.path, "fill")
    subject.load()
    lost, seconds = subject.lose()
    note(f"{lost}: the failure was recorded after {seconds:.2f} s")
    subject.wait_rebuilt()
    subject.check.command("stop")
    expect("the lost disk is no member", set(), subject.array.state(lost))
    subject.expect_whole()
    # What it holds is old.
    subject.disks.heal(lost)
    subject.stop()
    if form == "ddf":
        # To assemble such a container mdadm 4.4 calls a null pointer.
        _, text = kernel.sh("mdadm", "--examine", subject.disks.paths[0])
        return expect_match("what the metadata say", r"state\[0\] : Optimal, Consistent", text)
    subject.assemble()
    subject.array.wait_idle()
    subject.expect_whole()
    expect("the lost disk is no member after all", set(), subject.array.state(lost))
    return None


def without_memory(form, percent):
    """The same while allocations of the array's threads and of who writes fail."""
    subject = External(form, 5, 3)
    subject.check.whole(subject.array.path, "fill")
    subject.load(jobs=3, depth=32)
    with Shortage(percent, "tasks", array=VOLUME) as shortage:
        time.sleep(0.2)
        lost, seconds = subject.lose()
        note(f"{lost}: the failure was recorded after {seconds:.2f} s")
        subject.wait_rebuilt()
    subject.check.command("stop")
    expect("I/Os in flight afterwards", 0, subject.check.counts()["pending"])
    expect_range("allocations that failed", 20, 1 << 40, shortage.failures())
    subject.expect_whole()


def pause(process):
    """Stops a process. A signal only asks its threads for that: one that is in a system call ends that before."""
    os.kill(process, signal.SIGSTOP)

    def stopped(task):
        with open(f"/proc/{process}/task/{task}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"
    wait_for("all threads have stopped", lambda: all(stopped(task) for task in os.listdir(f"/proc/{process}/task")), 20)


def ended():
    """How many writes of the array have ended."""
    with open(f"/sys/block/{VOLUME}/stat", encoding="ascii") as file:
        return int(file.read().split()[4])


def still():
    """Whether no write ends for a while."""
    before = ended()
    time.sleep(kernel.SLOW)
    return ended() == before


def wait_for_writes():
    """Until the load is at work: mdmon has said that the array is active."""
    before = ended()
    wait_for("writes end", lambda: ended() > before + 10, 20)


def unrecorded(form):
    """mdmon does not run: no write ends that the lost member should have taken, and those that wait end when it has
    recorded that."""
    subject = External(form, 5, 3)
    array = subject.array
    subject.check.whole(array.path, "fill")
    manager, _ = subject.monitor()
    lost = array.slots()[1]
    subject.load(reads=0, jobs=2, depth=32, fua=0)
    wait_for_writes()
    try:
        pause(manager)
        array.set(f"dev-{name_of(lost)}/state", "faulty")
        expect("the lost member is blocked", True, "blocked" in array.state(lost))
        # What lies on others alone may end, and md core lets no other begin: at least the two in which the two jobs stand.
        wait_for("no write ends any more", still, 20)
        before = ended()
        expect_range("writes that wait for the record", 2, 64, subject.check.counts()["pending"])
    finally:
        os.kill(manager, signal.SIGCONT)
    wait_for("writes end again", lambda: ended() > before + 100, 20)
    subject.take_out(lost)
    subject.wait_rebuilt()
    subject.check.command("stop")
    subject.expect_whole()


def busy(form):
    """Somebody sets the array's size, for which he has a lock that mdmon may need, and mdmon does not run: he waits for nothing that it
    would do. While writes wait for it to record a failure he is told that the array is busy, and afterwards he can set it."""
    subject = External(form, 5, 3)
    array = subject.array
    subject.check.whole(array.path, "fill")
    manager, _ = subject.monitor()
    lost = array.slots()[1]
    size = array.get("component_size")
    def set_size():
        return within(30, lambda: array.try_set("component_size", size))

    array.set("safe_mode_delay", "0.1")
    wait_for("clean", lambda: array.get("array_state") == "clean", 20)
    try:
        pause(manager)
        expect("the size is set at rest", "", set_size())
        expect("the array is clean still", "clean", array.get("array_state"))
    finally:
        os.kill(manager, signal.SIGCONT)
    # Small ones: each reads before it writes.
    subject.load(reads=0, jobs=2, depth=32, fua=0, discards=0, longest=8)
    wait_for_writes()
    # Those that came while the array was clean have waited for mdmon; from here on as many as may be are under way.
    time.sleep(0.3 * kernel.SLOW)
    try:
        pause(manager)
        # Some writes are to be on their way, with what they read, when the member fails: md core lets none begin then.
        for path in subject.disks.paths:
            subject.disks.tell(path, "hold", 1)
        time.sleep(0.2 * kernel.SLOW)
        array.set(f"dev-{name_of(lost)}/state", "faulty")
        for path in subject.disks.paths:
            subject.disks.tell(path, "hold", 0)
        wait_for("no write ends any more", still, 20)
        parked = int(re.search(r"^parked_superblock (\d+)$", array.get("memory"), re.M)[1])
        # There may be none: what was under way had got to its members by then, or the lost one had no share in it.
        expect_range("spans that wait for the record", 0, 256, parked)
        expect("the size is set meanwhile", "EBUSY" if parked else "", set_size())
        before = ended()
    finally:
        os.kill(manager, signal.SIGCONT)
    wait_for("writes end again", lambda: ended() > before + 100, 20)
    subject.take_out(lost)
    subject.wait_rebuilt()
    array.set("component_size", size)
    subject.check.command("stop")
    subject.expect_whole()


def in_background(work, *arguments):
    """A process that does that for ever; its number."""
    pid = os.fork()
    if not pid:
        killable(os.getpid(), True)
        work(*arguments)
    return pid


def killable(pid, yes):
    """Whether the kernel may kill a process for want of memory. It does so when it has looked in vain some times, and all that it finds waits
    for the failure to be recorded, which takes a moment on a busy machine."""
    with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("0" if yes else "-1000")


def write_for_ever(array):
    """What the process that calls this does from now on."""
    with open(array.path, "r+b", buffering=0) as disk:
        block, place, size = os.urandom(MIB), 0, array.size() // MIB
        while True:
            disk.seek(place % size * MIB)
            disk.write(block)
            place += 1


def ask_for_ever():
    """The same; somebody has to ask for memory also when all of the array is in it."""
    while True:
        with mmap.mmap(-1, MIB) as some:
            for at in range(0, MIB, mmap.PAGESIZE):
                some[at] = 1
        time.sleep(0.01)


def short_of_pages(form, level, members):
    """A member dies while a program has nearly all memory and another one writes more than the rest holds: the failure is recorded,
    and of all who look for memory themselves no thread of the array is one. mdmon's monitor may be: what it asks for is told."""
    subject = External(form, level, members, mib=14)
    array = subject.array
    manager, monitor = subject.monitor()
    with open(f"/proc/{manager}/status", encoding="ascii") as file:
        locked = int(re.search(r"VmLck:\s*(\d+)", file.read())[1])
    expect_range("KiB that mdmon has locked", 1000, 1 << 30, locked)
    killable(manager, False)
    killable(os.getpid(), False)
    with dirty_limit(min_free_kbytes=None):
        hog = mmap.mmap(-1, max(4096, max(available(), free()) - 24 * MIB))
        for at in range(0, len(hog), 4096):
            hog[at] = 1
        others = [in_background(write_for_ever, array), in_background(ask_for_ever)]
        try:
            with Reclaims(VOLUME, monitor) as reclaims:
                reclaims.wait(lambda: keep_free(1024))
                lost, seconds = subject.lose()
                time.sleep(1)
            note(f"{lost}: the failure was recorded after {seconds:.2f} s")
            for (event, caller), number in sorted(reclaims.may_wait.items()):
                note(f"mdmon's monitor: {number} times {event} by {caller}, which might have had to")
            reclaims.expect_others_only(1)
            if form == "imsm":
                # Its metadata are so few pages that a direct write has room for their list. DDF's are not: Documentation/memory.md.
                expect("direct writes of mdmon's monitor that might have had to", [],
                       sorted({caller for _, caller in reclaims.may_wait if "direct_IO" in caller}))
            subject.wait_rebuilt()
        finally:
            for pid in others:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            hog.close()
            killable(os.getpid(), True)
    array.expect_at_rest()
    expect("mismatch_cnt after check", 0, array.scan())
    array.expect_parity()


def swap(form, level, members):
    """A program whose memory is on the array for the most part, and a member that is lost: mdmon records that, and what the program
    wrote it reads. Nothing is rebuilt meanwhile: memory_pressure.py tells why."""
    subject = External(form, level, members, mib=24, spares=0)
    array = subject.array
    _, monitor = subject.monitor()
    lost = array.slots()[1]
    with swapping(array.path, array.size()) as memory:
        start = time.monotonic()
        with Reclaims(VOLUME, monitor) as reclaims:
            memory.write(midway=lambda: array.set(f"dev-{name_of(lost)}/state", "faulty"))
            wrong = memory.wrong()
        note(f"{time.monotonic() - start:.1f} s")
        reclaims.expect_others_only(1)
        reclaims.expect_never(f"{VOLUME}_raid{level}")
        wait_for("the failure is recorded", lambda: "blocked" not in array.state(lost), 30)
        expect("degraded", "1", array.get("degraded"))
        expect("pages that are not as they were written", [], wrong[:5])
    array.expect_at_rest()


def end_monitors():
    """No mdmon runs any more. It goes by itself when the arrays have been stopped, but not if a failed case has stopped it, or if it
    waits for something; and it has the disks open."""
    def running():
        _, text = kernel.sh("pidof", "mdmon", check=False)
        return [int(pid) for pid in text.split()]
    try:
        wait_for("mdmon goes", lambda: not running(), 5)
    except Failed:
        note("mdmon is still there: it is killed")
        for pid in running():
            os.kill(pid, signal.SIGKILL)
        wait_for("mdmon goes when it is killed", lambda: not running(), 5)


def cleanup():
    """Everything goes, also after a case that has failed: what one step cannot do is no reason to leave out the next."""
    all_of(swap_off, Check.remove, stop_all, end_monitors, Disks.remove)


if __name__ == "__main__":
    small()
    run([
        ("imsm raid5 lives", lambda: life("imsm", 5, 3)),
        ("ddf raid5 lives", lambda: life("ddf", 5, 4)),
        ("ddf raid6 lives", lambda: life("ddf", 6, 4)),
        ("imsm, nothing is acknowledged before the record", lambda: unrecorded("imsm")),
        ("ddf, nothing is acknowledged before the record", lambda: unrecorded("ddf")),
        ("imsm, the size is set before the record", lambda: busy("imsm")),
        ("imsm, memory is really short", lambda: short_of_pages("imsm", 5, 3)),
        ("ddf, memory is really short", lambda: short_of_pages("ddf", 6, 4)),
        ("imsm, swap on raid5", lambda: swap("imsm", 5, 3)),
        ("imsm, no thread of the array gets memory", lambda: without_memory("imsm", 100)),
        ("ddf, half of the array's threads' allocations fail", lambda: without_memory("ddf", 50)),
    ], cleanup=cleanup)

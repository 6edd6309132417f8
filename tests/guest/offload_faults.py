#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debian disks=8 disk-size=16 mem=1536 cpus=2 timeout=600
"""Faults of DMA engines, in software, under load: no byte is wrong, nothing is stuck and nothing is lost, and the engines can go
at any time."""

import os
import sys
import threading
import time
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow, pattern
from load import Load
from offload import SIZE, array_on, calm, done, engines, interrupts, jobs, load as load_engines, stats, tell, unload
from raid import stop_all
from report import expect, expect_match, expect_range, note, run, wait_for
import kernel


# Why the CPU has done an engine's job, as the log says it.
FAILED = "has failed"
LATE = "is late"
WRONG = "says that parity is wrong, which it is not"


class Fault(NamedTuple):
    """What an engine may do."""
    name: str
    # Of the engines, with how often.
    parameters: dict
    # What counts that it was so.
    counters: tuple
    # What the log says then for certain, if the driver has not just said it too often.
    said: tuple
    # When a job is late, in milliseconds: what is slow because this machine is busy is not.
    late: int = 60000
    # Whether parity is checked meanwhile. Where much hangs that takes too long.
    check: bool = True


# No descriptor for the interrupt that many ends wait for is the last one's alone, as nothing counts that: see untold().
PREP = Fault("no descriptor", {"fault_prep": 7}, ("redone",), (FAILED,))
ERRORS = Fault("errors", {"fault_error": 9, "jitter_us": 2000}, ("redone",), (FAILED,))
LIES = Fault("wrong about parity", {"fault_lie": 5}, ("false_alarms",), (WRONG,))
HANG = Fault("engines that hang", {"fault_hang": 41}, ("late",), (LATE,), late=400, check=False)
ALL = Fault("all of them", {"fault_prep": 23, "fault_error": 29, "fault_hang": 401, "fault_lie": 7, "fault_tell": 11},
            ("redone", "false_alarms"), (WRONG,), late=1000)


def new_interval():
    """Waits for the next of the times of 5 seconds in which a place of the driver's logs ten lines (src/ratelimit.rs counts them by
    this clock): what it has logged before costs it nothing from then on."""
    time.sleep(5.01 - time.monotonic() % 5)


def fault(array, one):
    """A fault while fio writes and verifies, a member is lost and rebuilt, and parity is checked: no byte is wrong, and
    nothing is stuck."""
    # Channels that were dropped for what happened before are used again.
    array.set("offload", "dma")
    array.set("offload_late_ms", one.late)
    before = stats(array)
    for parameter, value in one.parameters.items():
        tell(parameter, value)
    load = Load(array.path, array.size(), seconds=3, jobs=2, depth=16, largest="128k")
    victim = array.members[1]
    array.fail(victim)
    array.remove(victim)
    array.add(victim)
    array.wait_rebuilt()
    if one.check:
        # As above: what hung meanwhile may have cost some.
        array.set("offload", "dma")
        array.set("sync_action", "check")
        array.wait_idle()
        expect(f"{one.name}: mismatch_cnt of a check under load", "0", array.get("mismatch_cnt"))
    load.finish()
    found = stats(array)
    note(f"{one.name}: engines: {done()}, array: {found}")
    for counter in one.counters:
        expect(f"{one.name}: {counter}, more than before", True, found[counter] > before[counter])
    calm()
    wait_for("the end of what was abandoned", lambda: stats(array)["quarantined"] == 0)


def in_turn(level, faults):
    """Faults in turn, and what the log says of them; the array is sound after all of them."""
    with engines():
        array = array_on("dma", level=level)
        new_interval()
        log = kernel.Log()
        for one in faults:
            fault(array, one)
            # Before the kernel forgets it.
            log.lines()
        for said in sorted({said for one in faults for said in one.said}):
            expect_match("the log", f"offload: an engine's .* job {said}, and was done by the CPU", log.text())
        array.set("offload", "cpu")
        array.expect_clean()
        array.expect_parity()
        array.stop()


def untold():
    """A channel never has a descriptor for the interrupt that many ends wait for: it is asked what has ended, well before that is
    late."""
    with engines():
        array = array_on("dma", level=4)
        # It is asked after a second at the latest.
        array.set("offload_late_ms", 10000)
        tell("fault_tell", 1)
        with Shadow(array.path) as shadow:
            before = interrupts()
            shadow.fill()
            # Each 32nd operation asks for one of its own: a strip has five, and what is left over of a span's has none.
            expect_range("interrupts all the same", (SIZE << 20 >> 12) * 5 // 64, 1 << 20, interrupts() - before)
            shadow.write(0, pattern(1, 512 << 10))
            shadow.random_writes(3, 2)
            shadow.verify("with ends that nobody tells of")
        found = stats(array)
        note(f"engines: {done()}, array: {found}")
        expect("strips that were late, done by the CPU, and left to engines", (0, 0, 0), (found["late"], found["cpu"], found["quarantined"]))
        array.expect_clean()
        array.stop()


def given_up():
    """An engine that hung goes on when its array uses none any more, and no interrupt tells of what was given up: that is found."""
    with engines("channels=1"):
        array = array_on("dma")
        array.set("offload_late_ms", 300)
        tell("fault_tell", 1)
        tell("fault_hang", 1)
        with Shadow(array.path) as shadow:
            shadow.bytes[:] = shadow.disk.read(0, shadow.length)
            # Two strips of a span: so few operations that none asks for an interrupt of its own.
            shadow.write(0, pattern(1, 8192))
            array.set("offload", "cpu")
            expect("strips left to the engine", 2, stats(array)["quarantined"])
            tell("fault_hang", 0)
            tell("let_go", 0)
            wait_for("the end of what was given up", lambda: stats(array)["quarantined"] == 0)
            shadow.verify("after all that")
        # So that the engines' module can go.
        array.set("offload", "cpu")
        array.expect_clean()
        array.stop()


def little_room():
    """A channel that has room for few operations is no channel that fails: what it does not take is the CPU's, and it is used on."""
    with engines("channels=1 ring=100"):
        array = array_on("dma")
        with Shadow(array.path) as shadow:
            shadow.fill()
            for turn in range(3):
                before = stats(array)["redone"]
                tell("fault_hang", 1)
                writer = threading.Thread(target=shadow.write, args=(0, pattern(turn, 1 << 20)))
                writer.start()
                # Four spans have 64 copies each, and what is taken stays: two spans or more get no room at all.
                wait_for("strips that it had no room for", lambda: stats(array)["redone"] - before >= 32)
                calm()
                writer.join()
            shadow.verify("with an engine that has no room")
            found = stats(array)
            note(f"engines: {done()}, array: {found}")
            expect("channels that are dropped for that", 0, found["dropped"])
            shadow.write(0, pattern(7, 4096))
            expect("strips by the engine when there is room", 1, stats(array)["dma"] - found["dma"])
        array.expect_clean()
        array.stop()


def standstill():
    """An engine stands still for some time, and nothing of it is told. Its channel is used again, and in the end so is every
    ticket, with nothing written to sysfs."""
    with engines("channels=1"):
        array = array_on("dma")

        def stops(late):
            tell("fault_hang", 1)
            array.set("offload_late_ms", late)

        def goes_on():
            # What is slow because this machine is busy is not late.
            array.set("offload_late_ms", 60000)
            calm()

        with Shadow(array.path) as shadow:
            goes_on()
            shadow.fill()
            # They are late together if all are begun before the first one is: not at once on a busy machine.
            stops(3000)
            shadow.write(0, pattern(1, 512 << 10))
            found = stats(array)
            expect("strips that are late", 32, found["late"])
            expect("channels that are dropped for that", 0, found["dropped"])
            goes_on()
            shadow.write(0, pattern(2, 512 << 10))
            expect("strips by engines when it goes on: all 32 of a write", 32, stats(array)["dma"] - found["dma"])
            # Twice as many as there are tickets hang: half of these are replaced, the others lost.
            stops(200)
            for turn in range(40):
                # It would be dropped: it never does well.
                array.set("offload", "dma")
                before = stats(array)
                shadow.write(0, pattern(turn, 1 << 20))
                if before["late"] == stats(array)["late"]:
                    break
            expect_range("strips left to engines", 513, 1088, stats(array)["quarantined"])
            expect("strips that are late when there is no ticket", 0, stats(array)["late"] - before["late"])
            goes_on()
            wait_for("the end of what was abandoned", lambda: stats(array)["quarantined"] == 0)
            before = stats(array)
            shadow.write(0, pattern(3, 512 << 10))
            found = stats(array)
            expect("strips by engines, and by the CPU, when there are tickets again", (32, 0), (found["dma"] - before["dma"], found["cpu"] - before["cpu"]))
            # What was to stand still does not, if that is over before its turn comes.
            tell("delay_us", 300000)
            tell("fault_hang", 1)
            before, (given, _) = found, jobs(array)
            writer = threading.Thread(target=shadow.write, args=(0, pattern(4, 4096)))
            writer.start()
            wait_for("a copy that is to hang", lambda: jobs(array)[0] > given)
            calm()
            writer.join()
            expect("strips by engines, of a write that came just before they went on", 1, stats(array)["dma"] - before["dma"])
            shadow.verify("after all that")
        array.expect_clean()
        array.stop()


def lies():
    """An engine that is always wrong about parity: what it says is wrong is looked at again. The log is not full of it, and tells of
    it although there was too much to tell of failures just before."""
    with engines():
        array = array_on("dma", level=6)
        new_interval()
        log, began = kernel.Log(), time.monotonic()
        tell("fault_error", 1)
        expect("mismatch_cnt of a check by engines that always fail", 0, array.scan("check"))
        calm()
        # Channels that were dropped for that are used again.
        array.set("offload", "dma")
        tell("fault_lie", 1)
        expect("mismatch_cnt of a check", 0, array.scan("check"))
        expect("false alarms: each strip", SIZE << 20 >> 12, stats(array)["false_alarms"])
        # Each of the times of 5 seconds may have a line more than it should now and then.
        most = 10 * (int((time.monotonic() - began) / 5) + 2)
        for said in (FAILED, WRONG):
            expect_range(f"lines '{said}' in the log, of which there are ten in 5 seconds", 1, most, log.text().count(f"job {said}"))
        array.stop()


def dropped():
    """A channel that fails time after time is not used any more, and said so; writing to the file tries it again."""
    with engines():
        array = array_on("dma")
        log = kernel.Log()
        tell("fault_error", 1)
        with Shadow(array.path) as shadow:
            shadow.fill()
            shadow.random_writes(3, 20)
            shadow.verify("with engines that always fail")
            expect_match("the log", "offload: a channel has failed time after time and is not used any more", log.text())
            before = stats(array)
            expect_range("channels that are not used any more", 1, 2, before["dropped"])
            calm()
            array.set("offload", "dma")
            shadow.fill(seed=2)
            shadow.verify("with engines that work again")
        after = stats(array)
        expect("channels that are not used any more", 0, after["dropped"])
        expect("strips by engines", True, after["dma"] > before["dma"])
        array.stop()


def hanging_at_the_end():
    """An array can be stopped though an engine still has pages of it, or use none from then on; the modules stay until it lets go
    of them."""
    with engines():
        array = array_on("dma")
        array.set("offload_late_ms", 300)

        def hangs():
            tell("fault_hang", 3)
            with Shadow(array.path) as shadow:
                shadow.bytes[:] = shadow.disk.read(0, shadow.length)
                shadow.random_writes(3, 20)
                shadow.verify("with engines that hang")
            expect("jobs left to engines", True, stats(array)["quarantined"] > 0)

        hangs()
        array.set("offload", "cpu")
        expect("removal of the engines' module while an engine has pages", "EAGAIN", kernel.delete_module("raid456_dma"))
        calm()
        wait_for("the end of what was abandoned", lambda: stats(array)["quarantined"] == 0)
        array.set("offload", "cpu")
        unload()
        load_engines()
        array.set("offload", "dma")
        hangs()
        array.stop()
        expect("removal of the driver while an engine may call it", "EAGAIN", kernel.delete_module("raid456"))
        expect("removal of the engines' module meanwhile", "EAGAIN", kernel.delete_module("raid456_dma"))
        calm()
        wait_for("removal of the driver", lambda: not kernel.delete_module("raid456"))
    kernel.use_driver("rust")


def sum_of(counts):
    """How many operations, but for interrupts."""
    return sum(count for kind, count in counts.items() if kind != "interrupt")


def switching():
    """The mode changes while fio writes and verifies."""
    with engines("engines=2 channels=1"):
        array = array_on("dma", level=6)
        tell("delay_us", 30000)
        load = Load(array.path, array.size(), seconds=6, jobs=2, depth=16, largest="128k")
        count = 0
        while load.running():
            for mode in ("auto", "dma", "cpu"):
                array.set("offload", mode)
                expect("the mode", mode, array.get("offload"))
                before, ended = stats(array)["dma"], sum_of(done())
                time.sleep(0.2)
                count += 1
                if mode == "cpu":
                    # What was under way has been waited for.
                    expect("operations that end when the mode is cpu", 0, sum_of(done()) - ended)
                elif mode == "dma" and load.running():
                    wait_for("jobs on engines again", lambda: stats(array)["dma"] > before or not load.running())
        load.finish()
        expect_range("changes of the mode", 3, 1 << 20, count)
        array.set("offload", "cpu")
        before = stats(array)["dma"]
        array.set("offload", "dma")
        array.expect_clean()
        expect("strips of a check by engines, when the mode was cpu before", SIZE << 20 >> 12, stats(array)["dma"] - before)
        array.set("offload", "cpu")
        # Nobody uses the engines: their module can go while the array stays.
        unload()
        array.expect_parity()
        array.stop()


def taken_away():
    """An engine goes while fio writes and verifies and a member is rebuilt; then the other one, and their module."""
    with engines("engines=2 channels=1"):
        array = array_on("dma")
        tell("jitter_us", 3000)
        victim = array.members[1]
        array.fail(victim)
        array.remove(victim)
        # All that follows, mdadm's start too, is to be over before it is.
        load = Load(array.path, array.size(), seconds=30 if kernel.SLOW > 1 else 15, jobs=2, depth=16, largest="128k")
        wait_for("jobs on engines without a member", lambda: stats(array)["dma"] > 5)
        array.add(victim)
        tell("remove", 0)
        before = stats(array)
        expect("removal of the engines' module while it is used", "EAGAIN", kernel.delete_module("raid456_dma"))
        wait_for("jobs on the other engine", lambda: stats(array)["dma"] > before["dma"] + 5)
        tell("remove", 1)
        array.set("offload", "cpu")
        unload()
        expect("fio at work when the engines' module is gone", True, load.running())
        load.finish()
        note(f"array: {stats(array)}")
        array.wait_rebuilt()
        array.expect_clean()
        array.expect_parity()
        array.stop()


def names():
    """Engines are taken away while somebody reads which channels there are."""
    with engines("engines=2 channels=12"):
        array = array_on("dma")
        read, stop = [], threading.Event()

        def reads():
            while not stop.is_set():
                read.append(stats(array).get("copy"))

        thread = threading.Thread(target=reads)
        thread.start()
        try:
            for number in range(2):
                wait_for("a channel's name", lambda: read and (read[-1] or "").startswith("dma"))
                tell("remove", number)
        finally:
            stop.set()
            thread.join()
        note(f"read {len(read)} times: {sorted(set(map(str, read)))}")
        expect("channels at the end", None, stats(array).get("copy"))
        array.stop()


def cases():
    """All of them, with a name for each."""
    yield "each fault in turn, raid6", lambda: in_turn(6, (PREP, ERRORS, LIES, HANG, ALL))
    yield "errors, raid4", lambda: in_turn(4, (ERRORS,))
    yield "faults in turn, raid5", lambda: in_turn(5, (ERRORS, LIES, HANG, ALL))
    yield "fault: no interrupt for many ends", untold
    yield "fault: no interrupt for what was given up", given_up
    yield "fault: an engine has little room", little_room
    yield "fault: an engine stands still", standstill
    yield "fault: wrong about parity", lies
    yield "fault: always", dropped
    yield "fault: hanging when the array is stopped", hanging_at_the_end
    yield "the mode changes under load", switching
    yield "engines are taken away while their names are read", names
    yield "engines are taken away under load", taken_away


if __name__ == "__main__":
    run(list(cases()), cleanup=lambda: (stop_all(), unload()))

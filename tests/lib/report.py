# SPDX-License-Identifier: GPL-2.0
"""Cases, expectations and the report of a guest test.

A test is a list of named cases. Each prints what it expects and what came; a failed expectation ends its
case, shows the kernel's log of that case and how to run that case alone, and the next case goes on.
"""

import faulthandler
import os
import re
import shlex
import sys
import threading
import time
import traceback

import kernel


class Failed(Exception):
    """An expectation did not hold."""


class Skipped(Exception):
    """The case cannot run on this kernel; the reason is shown."""


def note(text):
    """Prints a line that says what happens now."""
    print(f"    {text}", flush=True)


def expect(what, expected, came):
    """Ends the case unless `came` equals `expected`."""
    if came != expected:
        raise Failed(f"{what}: expected {expected!r}, came {came!r}")
    note(f"ok: {what}: {came!r}")


def expect_in(what, allowed, came):
    """Ends the case unless `came` is one of `allowed`."""
    if came not in allowed:
        raise Failed(f"{what}: expected one of {allowed!r}, came {came!r}")
    note(f"ok: {what}: {came!r}")


def expect_range(what, low, high, came):
    """Ends the case unless low <= came <= high."""
    if not low <= came <= high:
        raise Failed(f"{what}: expected {low} to {high}, came {came}")
    note(f"ok: {what}: {came} (expected {low} to {high})")


def expect_match(what, pattern, text):
    """Ends the case unless the regular expression is found in `text`."""
    found = re.search(pattern, text)
    if not found:
        raise Failed(f"{what}: expected /{pattern}/, came:\n{indent(text) or '      (nothing)'}")
    note(f"ok: {what}: {found.group(0)!r}")


def expect_no_match(what, pattern, text):
    """Ends the case if the regular expression is found in `text`."""
    found = re.search(pattern, text)
    if found:
        raise Failed(f"{what}: expected no /{pattern}/, came {found.group(0)!r}")
    note(f"ok: {what}: none")


def indent(text, most=60):
    """The last lines of a text, `most` of them, shifted to the right for the report."""
    return "\n".join("      " + line for line in text.strip().splitlines()[-most:])


def wait_for(what, condition, timeout=60, pause=0.005):
    """Polls until condition() is true and returns its value; ends the case after `timeout` seconds, more where kernel.patience() says so."""
    timeout *= kernel.patience()
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"{what}: did not happen within {timeout} s")
        time.sleep(pause)


def within(seconds, action):
    """The action's result; fails if it takes too long (the thread that hangs is left behind), as kernel.patience() has it."""
    seconds *= kernel.patience()
    result = []
    thread = threading.Thread(target=lambda: result.append(action()), daemon=True)
    thread.start()
    thread.join(seconds)
    if not result:
        raise Failed(f"did not end within {seconds} s")
    return result[0]


def all_of(*steps):
    """Does each of these, whether others fail or not; then fails as the first one that did."""
    problems = []
    for step in steps:
        try:
            step()
        except Exception as problem:  # Another step may still be possible.
            problems.append(problem)
    if problems:
        raise problems[0]


def _show_tasks(title, begin):
    """Says that a case has not ended, and where everybody is."""
    print(f"    \"{title}\" has not ended after {time.monotonic() - begin:.0f} s. The threads of this test:", flush=True)
    faulthandler.dump_traceback(sys.stdout)
    print(f"    programs, arrays' threads and what cannot be interrupted:\n{indent(kernel.tasks(), 1000)}", flush=True)


def _watch(title):
    """A timer that looks at a case unless it is cancelled: after long, and shortly before the guest's time is up, when nobody is left to say
    what hung."""
    # The guest's clock has begun with it.
    left = 0.9 * float(os.environ.get("RAID456_TIMEOUT", "inf")) - time.monotonic()
    timer = threading.Timer(max(10, min(200 * kernel.patience(), left)), _show_tasks, (title, time.monotonic()))
    timer.daemon = True
    # Its stack is small, for some tests lock all that they have in memory.
    before = threading.stack_size(1 << 18)
    timer.start()
    threading.stack_size(before)
    return timer


def run(cases, setup=None, cleanup=None):
    """Runs the cases whose name matches the first argument (a regular expression) and exits."""
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    name = os.path.basename(sys.argv[0])
    chosen = [(title, body) for title, body in cases if re.search(pattern, title)]
    if not chosen:
        print(f"{name}: no case matches /{pattern}/; there are:")
        for title, _ in cases:
            print(f"    {title}")
        sys.exit(2)
    failed, skipped = [], 0
    kernel.expedite()
    begin = time.monotonic()
    print(f"{name}: {len(chosen)} cases, driver {kernel.driver()}, kernel {os.uname().release}", flush=True)
    for title, body in chosen:
        print(f"  {title}", flush=True)
        log = kernel.Log()
        watch = _watch(title)
        start = time.monotonic()
        try:
            if setup:
                setup()
            body()
            result = "passed"
        except Skipped as why:
            skipped += 1
            result = f"skipped: {why}"
        except Exception as problem:  # A broken test must not hide the other cases.
            failed.append(title)
            result = "FAILED"
            if isinstance(problem, Failed):
                print(f"    FAILED: {problem}")
            else:
                print(indent(traceback.format_exc()))
            print(f"    kernel log of this case:\n{indent(log.text())}")
        if cleanup:
            try:
                cleanup()
            except Exception as problem:
                print(f"    cleaning up after this case failed: {problem}")
                if title not in failed:
                    failed.append(title)
                    result = "FAILED"
        watch.cancel()
        print(f"  {title}: {result} ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"{name}: {len(chosen) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped, "
          f"{time.monotonic() - begin:.1f} s")
    for title in failed:
        print(f"  failed: {title}\n    run it again: {again(title)}")
    sys.exit(1 if failed else 0)


def again(title):
    """The command that runs one case of this test again, from the repository's top."""
    least = os.environ.get("RAID456_OPTIONS")
    words = [f"RAID456_OPTIONS={least}"] if least else []
    words += ["scripts/guest"]
    words += ["--kernel", kernel.flavour(), "--driver", kernel.driver()]
    with open(sys.argv[0], encoding="utf-8") as source:
        header = re.search(r"^# guest:(.*)$", source.read(), re.M)
    for key, value in re.findall(r"([^\s=]+)=(\S+)", header.group(1) if header else ""):
        if key in ("disks", "disk-size", "mem", "cpus", "timeout", "append"):
            words += [f"--{key}", value]
    pattern = "^" + re.sub(r"([].^$*+?{}[\\|()])", r"\\\1", title) + "$"
    return " ".join(words) + f" -- tests/guest/{os.path.basename(sys.argv[0])} {shlex.quote(pattern)}"

# SPDX-License-Identifier: GPL-2.0
"""The running kernel: its log, its modules, which raid456 is loaded, and how to swap it."""

import ctypes
import errno
import glob
import os
import re
import subprocess

_LIBC = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command ended with another status than 0, or not at all."""


def sh(*words, check=True, stdin=None, timeout=200):
    """Runs a command and returns (status, output of both streams). Raises CommandFailed if it fails and `check` is set, and if it takes more
    than `timeout` seconds, or as many times that as patience() says; then it is left behind, for what hangs in the kernel cannot be killed."""
    words = [str(word) for word in words]
    timeout *= patience()
    process = subprocess.Popen(words, stdin=None if stdin is None else subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace")
    try:
        text, _ = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise CommandFailed(f"`{' '.join(words)}` did not end within {timeout} s") from None
    if check and process.returncode:
        raise CommandFailed(f"`{' '.join(words)}` ended with {process.returncode}:\n{text}")
    return process.returncode, text


def tasks():
    """Where in the kernel programs are, and of its own tasks arrays' threads and those that cannot be interrupted: text."""
    def read(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    found = []
    for folder in sorted(glob.glob("/proc/[0-9]*/task/[0-9]*")):
        try:
            name, state = re.search(r"\((.*)\) (\S)", read(f"{folder}/stat"), re.S).groups()
            words = read(f"{folder}/cmdline").replace("\0", " ").strip()[:100]
            if words or state == "D" or name.startswith("md"):
                found.append(f"{name} ({state}) {words}\n{read(f'{folder}/stack')}")
        except OSError:
            # It has ended.
            continue
    return "\n".join(found)


class Log:
    """The kernel's log from the moment this is made."""

    def __init__(self):
        self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._file, 0, os.SEEK_END)
        self._lines = []

    def text(self):
        """Everything logged so far, one message a line, without the times."""
        return "\n".join(line for _, line in self.lines())

    def lines(self):
        """The same as pairs: how important (3 an error, 4 a warning, 6 information), and the message."""
        while True:
            try:
                record = os.read(self._file, 8192).decode(errors="replace")
            except BlockingIOError:
                return self._lines
            except OSError as problem:
                if problem.errno != errno.EPIPE:  # EPIPE: older messages were overwritten meanwhile.
                    raise
                continue
            head, _, message = record.partition(";")
            self._lines.append((int(head.split(",")[0]) % 8, message.split("\n", 1)[0]))

    def __del__(self):
        os.close(self._file)


def say(text):
    """Writes a line into the kernel's log, to tell the steps apart there."""
    with open("/dev/kmsg", "w", encoding="utf-8") as log:
        log.write(f"test: {text}\n")


def loaded(module="raid456"):
    """Whether a module is loaded (or built in)."""
    return os.path.isdir(f"/sys/module/{module}")


def driver():
    """Which raid456 is loaded: rust, c or none."""
    if not loaded():
        return "none"
    # Ours is no part of the kernel's own tree, and marked so.
    with open("/sys/module/raid456/taint", encoding="ascii") as taint:
        return "rust" if "O" in taint.read() else "c"


def use_driver(which):
    """Swaps the loaded raid456 for rust, c or none; no array may run."""
    if driver() != which:
        sh("use-driver", which)


def least():
    """Whether arrays that are started get the least memory that they can work with."""
    try:
        with open("/sys/module/raid456/parameters/least_memory", encoding="ascii") as file:
            return file.read().strip() == "Y"
    except FileNotFoundError:
        return False


def modprobe(module, *options):
    """Loads a module; returns False if this kernel does not have it."""
    return loaded(module.replace("-", "_")) or sh("modprobe", module, *options, check=False)[0] == 0


def expedite():
    """Has the kernel wait for RCU's grace periods in its fast way. Members that come and go, and arrays that stop, are what
    tests spend much of their time on, and most of that is waiting for those. The debug kernel waits as usual."""
    if flavour() != "debug" and os.path.exists("/sys/kernel/rcu_expedited"):
        with open("/sys/kernel/rcu_expedited", "w", encoding="ascii") as setting:
            setting.write("1")


def flavour():
    """Which of the project's kernels this is: uml, debian or debug."""
    return os.environ.get("RAID456_KERNEL", "uml")


# How many times longer than on User-mode Linux something may take: what scripts/test gives all of a test there (ON).
SLOW = 8 if flavour() == "debug" else 1


def patience():
    """How many times longer than usual something may take: on the debug kernel, and where arrays with the least memory do one strip after
    the other. It goes by what the guest was started with, and needs no memory to find out."""
    return SLOW * (3 if "least_memory=1" in os.environ.get("RAID456_OPTIONS", "") else 1)


def delete_module(name):
    """Asks the kernel to remove a module; returns the errno's name, or "" if it went."""
    if _LIBC.delete_module(name.encode(), os.O_NONBLOCK) == 0:
        return ""
    return errno.errorcode[ctypes.get_errno()]


def insert_module(path, parameters=""):
    """Asks the kernel to load the module file; returns the errno's name, or "" if it went."""
    with open(path, "rb") as module:
        if _LIBC.syscall(313, module.fileno(), parameters.encode(), 0) == 0:  # finit_module on x86-64
            return ""
    return errno.errorcode[ctypes.get_errno()]

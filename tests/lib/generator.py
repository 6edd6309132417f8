# SPDX-License-Identifier: GPL-2.0
"""The load generator inside the kernel (tests/load)."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections import Counter

from kernel import flavour, insert_module, loaded
from report import Failed

_REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FOLDER = "/sys/kernel/debug/raid456_load"


def ready():
    """Inserts the generator's module; scripts/build-load makes it."""
    if loaded("raid456_load"):
        return
    path = f"{_REPO}/build/{flavour()}/load/raid456_load.ko"
    if not os.path.exists(path):
        raise Failed(f"there is no {path}: run scripts/build-load {flavour()}")
    problem = insert_module(path)
    if problem:
        raise Failed(f"{path} could not be inserted: {problem}")


def start(words):
    """Runs a load to its end. words: as tests/load/main.c tells, "dev=/dev/md0 rw=randwrite seconds=2". An OSError carries
    the errno: EIO if an I/O failed."""
    file = os.open(f"{_FOLDER}/run", os.O_WRONLY)
    try:
        os.write(file, words.encode())
    finally:
        os.close(file)


def result():
    """What the last load gave, a dict."""
    with open(f"{_FOLDER}/result", encoding="ascii") as file:
        return json.load(file)


def load(device, words):
    """Runs a load on a device and returns the result; every I/O has to succeed."""
    ready()
    try:
        start(f"dev={device} {words}")
    except OSError as problem:
        raise Failed(f"load `{words}` on {device}: {problem}") from None
    return result()


@contextlib.contextmanager
def running(device, words):
    """A load that runs beside the `with` block, and ends with it; then result() is of that time."""
    ready()
    process = subprocess.Popen(["dd", f"of={_FOLDER}/run", "bs=4k", "status=none"], stdin=subprocess.PIPE)
    process.stdin.write(f"dev={device} {words}".encode())
    process.stdin.close()
    time.sleep(0.05)
    if process.poll() is not None:
        raise Failed(f"load `{words}` on {device}: it ended at once")
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def profile():
    """{"function+0xplace [module]": notes} of a load with profile=NS."""
    with open(f"{_FOLDER}/profile", encoding="ascii") as file:
        return Counter(re.sub(r"/0x[0-9a-f]+", "", line.strip()) for line in file)

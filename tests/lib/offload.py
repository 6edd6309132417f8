# SPDX-License-Identifier: GPL-2.0
"""The DMA engines in software (tests/dma), and what an array says of its jobs."""

import contextlib
import os

from kernel import delete_module, flavour, insert_module, loaded
from raid import Array, rams
from report import Failed, wait_for

SIZE = 1  # MiB of each member

_REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PARAMETERS = "/sys/module/raid456_dma/parameters"
KINDS = ("copy", "xor", "pq", "xor_check", "pq_check", "interrupt")


def load(parameters=""):
    """Inserts the engines' module; scripts/build-dma makes it."""
    path = f"{_REPO}/build/{flavour()}/dma/raid456_dma.ko"
    if not os.path.exists(path):
        raise Failed(f"there is no {path}: run scripts/build-dma {flavour()}")
    problem = insert_module(path, parameters)
    if problem:
        raise Failed(f"{path} could not be inserted with '{parameters}': {problem}")


def unload():
    """Ends what hangs and removes the module, which nobody may use any more."""
    if loaded("raid456_dma"):
        calm()
        wait_for("removal of the engines' module", lambda: not delete_module("raid456_dma"), timeout=20, pause=0.1)


def tell(parameter, value):
    """Sets a parameter of the engines."""
    with open(f"{_PARAMETERS}/{parameter}", "w", encoding="ascii") as file:
        file.write(str(value))


def done():
    """How many descriptors of each kind the engines have done."""
    with open(f"{_PARAMETERS}/done", encoding="ascii") as file:
        return dict(zip(KINDS, map(int, file.read().split(","))))


def interrupts():
    """How often the engines have told of ends."""
    with open(f"{_PARAMETERS}/interrupts", encoding="ascii") as file:
        return int(file.read())


def calm():
    """No faults and no delays from now on; what hangs is ended."""
    for parameter in ("fault_prep", "fault_error", "fault_lie", "fault_hang", "fault_tell", "delay_us", "jitter_us"):
        tell(parameter, 0)
    tell("let_go", 1)


@contextlib.contextmanager
def engines(parameters=""):
    """Engines for the `with` block. No array may use them at its end."""
    load(parameters)
    try:
        yield
    finally:
        if loaded("raid456_dma"):
            calm()
    unload()


def stats(array):
    """What the array says of its jobs."""
    words = [line.split() for line in array.get("offload_stats").splitlines()]
    return {name: int(value) if value.isdigit() else value for name, value in words}


def member_writes(array):
    """How many writes were sent to the members."""
    return array.counter("member_writes")


def jobs(array):
    """How many jobs engines were given, and CPUs did."""
    return array.counter("jobs_dma"), array.counter("jobs_cpu")


def array_on(mode, members=5, **shape):
    """An array whose jobs go to engines from the beginning. What a busy machine takes its time for is not late."""
    array = Array.create(rams(members), size=SIZE, **shape)
    array.set("offload_late_ms", 60000)
    array.set("offload", mode)
    return array

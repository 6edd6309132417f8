# SPDX-License-Identifier: GPL-2.0
"""The driver with a parity engine of one's choice."""

import re

from report import expect
import kernel

MODULE = "/raid456/raid456.ko"


def load(parameters=""):
    """Loads the module; returns the errno's name, or "", and what the log says."""
    kernel.use_driver("none")
    log = kernel.Log()
    problem = kernel.insert_module(MODULE, parameters)
    return problem, log.text()


def usable():
    """The engines that this CPU has, by the message that refuses one that there is not."""
    problem, text = load("parity_engine=nonsense")
    expect("loading with an engine that there is not", "EINVAL", problem)
    found = re.search(r'there is no parity engine "nonsense": this CPU has ([a-z0-9, ]+)', text)
    expect(f"the refusal in the log ({text.strip()})", True, bool(found))
    return found.group(1).split(", ")

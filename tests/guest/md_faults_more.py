#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml mem=900 timeout=900
"""More seeds of md_faults.py, in a guest beside that one: some of those in which more happens."""

import os

from md_faults import Schedule, cases, cleanup
from report import run

if __name__ == "__main__":
    run(cases(Schedule, os.environ.get("FAULTS", "226-250")), cleanup=cleanup)

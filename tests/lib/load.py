# SPDX-License-Identifier: GPL-2.0
"""fio as a verifying load in the background."""

import subprocess
import tempfile

from kernel import patience
from report import Failed, expect_match, indent, note


class Load:
    """fio jobs that write and read back what they wrote, until finish() or for `seconds`.

    Each job has its own part of the device; within it sizes and places are random, and writes of one job may overlap
    (fio keeps overlapping ones apart in time, so that it knows what to expect).
    """

    def __init__(self, path, size, seconds=6, jobs=4, depth=16, smallest="512", largest="256k", mix="randrw",
                 engine="libaio", extra=()):
        part = size // jobs // 4096 * 4096
        self._output = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self._process = subprocess.Popen(
            ["fio", "--name=load", f"--filename={path}", "--direct=1", f"--ioengine={engine}", f"--iodepth={depth}",
             f"--rw={mix}", f"--bsrange={smallest}-{largest}", f"--blockalign={smallest}", f"--size={part}",
             f"--offset_increment={part}", f"--numjobs={jobs}", "--time_based", f"--runtime={seconds}",
             "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64", "--verify_state_save=0",
             "--serialize_overlap=1", "--randseed=42", "--group_reporting", "--output-format=normal", *extra],
            stdout=self._output, stderr=subprocess.STDOUT, cwd="/tmp")

    def running(self):
        """Whether fio is still at work."""
        return self._process.poll() is None

    def finish(self, timeout=120):
        """Waits for fio's end; ends the case if it found an error."""
        timeout *= patience()
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise Failed(f"fio did not end within {timeout} s: a request hangs") from None
        self._output.seek(0)
        text = self._output.read()
        self._output.close()
        if status:
            raise Failed(f"fio: expected no error, it ended with {status}:\n{indent(text)}")
        for line in text.splitlines():
            if " READ:" in line or " WRITE:" in line:
                note(f"ok: fio {line.strip()}")

    def finish_without_device(self, timeout=120):
        """Waits for the end of fio whose device is gone; ends the case unless its I/O has failed for that."""
        try:
            self.finish(timeout)
        except Failed as ended:
            expect_match("the load ended by an error", r"Input/output error|error=5", str(ended))
        else:
            raise Failed("the load: expected it to end with errors, it succeeded")

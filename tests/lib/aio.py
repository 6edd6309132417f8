# SPDX-License-Identifier: GPL-2.0
"""Writes that their submitter does not wait for (Linux's AIO): one task has many under way. The system calls are x86-64's."""

import ctypes
import mmap
import os
import struct

from report import Failed

_LIBC = ctypes.CDLL(None, use_errno=True)
_SETUP, _DESTROY, _GETEVENTS, _SUBMIT = 206, 207, 208, 209
_PWRITE = 1
# struct iocb and struct io_event of linux/aio_abi.h.
_BLOCK = struct.Struct("=QIiHhIQQqQII")
_EVENT = struct.Struct("=QQqq")


def _call(number, *words):
    """A system call; raises if it fails."""
    done = _LIBC.syscall(ctypes.c_long(number), *words)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


def memory(data):
    """`data` where O_DIRECT can have it from."""
    pages = mmap.mmap(-1, len(data))
    pages[:] = data
    return pages


class Writer:
    """Writes of this task to a disk (disk.Disk), at most `most` under way. The end of `with` waits for all of them."""

    def __init__(self, disk, most):
        self._disk = disk
        self._submitted = 0
        self._under_way = {}
        self._events = ctypes.create_string_buffer(_EVENT.size * most)
        self._most = ctypes.c_long(most)
        self._context = ctypes.c_ulong(0)
        _call(_SETUP, self._most, ctypes.byref(self._context))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _call(_DESTROY, self._context)

    def under_way(self):
        """How many have been submitted whose ends nobody has taken."""
        return len(self._under_way)

    def submit(self, writes):
        """Submits [(offset, memory, flags)] by one system call, three and more of them under one plug. flags: as for pwritev2.
        Returns their numbers."""
        numbers, blocks = [], []
        for offset, pages, flags in writes:
            number = self._submitted + len(numbers)
            place = ctypes.addressof(ctypes.c_char.from_buffer(pages))
            block = _BLOCK.pack(number, 0, flags, _PWRITE, 0, self._disk.fileno(), place, len(pages), offset, 0, 0, 0)
            blocks.append(ctypes.create_string_buffer(block, _BLOCK.size))
            numbers.append(number)
            self._under_way[number] = pages
        self._submitted += len(numbers)
        table = (ctypes.c_void_p * len(blocks))(*[ctypes.addressof(block) for block in blocks])
        taken = _call(_SUBMIT, self._context, ctypes.c_long(len(blocks)), table)
        if taken != len(blocks):
            raise Failed(f"{self._disk.path}: {len(blocks)} writes were submitted together, only {taken} were taken")
        return numbers

    def reap(self, least=1):
        """Waits until so many have ended, and takes what has. All must have been written whole. Returns their numbers."""
        count = _call(_GETEVENTS, self._context, ctypes.c_long(least), self._most, self._events, None)
        numbers = []
        for event in range(count):
            number, _, done, _ = _EVENT.unpack_from(self._events, event * _EVENT.size)
            wanted = len(self._under_way.pop(number))
            if done != wanted:
                raise Failed(f"{self._disk.path}: write of {wanted} bytes: came {done}")
            numbers.append(number)
        return numbers

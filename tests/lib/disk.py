# SPDX-License-Identifier: GPL-2.0
"""Block devices past the page cache, and a copy in memory of what they ought to hold."""

import errno
import hashlib
import mmap
import os
import random

from report import Failed

SECTOR = 512
MIB = 1 << 20


class Disk:
    """A block device opened with O_DIRECT. Offsets and lengths are bytes, multiples of 512."""

    _open = set()

    def __init__(self, path, flags=0):
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_DIRECT | flags)
        self._buffer = mmap.mmap(-1, 2 * MIB)
        self.size = os.lseek(self._file, 0, os.SEEK_END)
        Disk._open.add(self)

    @classmethod
    def close_all(cls):
        """Closes what a failed case left open."""
        for disk in list(cls._open):
            disk.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the device."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            Disk._open.discard(self)

    def fileno(self):
        """The open file's number."""
        return self._file

    def read(self, offset, length, shift=0, flags=0):
        """Reads; the memory used starts `shift` bytes after a page's start. `flags` as for preadv2."""
        out = []
        while length:
            step = min(length, MIB)
            view = memoryview(self._buffer)[shift:shift + step]
            done = os.preadv(self._file, [view], offset, flags)
            out.append(bytes(view[:done]))
            if done < step:
                break
            offset, length = offset + step, length - step
        return b"".join(out)

    def write(self, offset, data, shift=0, flags=0):
        """Writes all of `data`; arguments as for read()."""
        for start in range(0, len(data), MIB):
            piece = data[start:start + MIB]
            view = memoryview(self._buffer)[shift:shift + len(piece)]
            view[:] = piece
            done = os.pwritev(self._file, [view], offset + start, flags)
            if done != len(piece):
                raise Failed(f"{self.path}: write of {len(piece)} bytes at {offset + start}: only {done} written")

    def sync(self):
        """fsync: one flush of the device."""
        os.fsync(self._file)

    def hash(self, offset=0, length=None):
        """A digest of a range."""
        digest = hashlib.blake2b(digest_size=16)
        end = self.size if length is None else offset + length
        while offset < end:
            step = min(MIB, end - offset)
            digest.update(self.read(offset, step))
            offset += step
        return digest.hexdigest()


def pattern(seed, length):
    """`length` bytes that depend on `seed` alone and repeat nowhere."""
    return hashlib.shake_128(repr(seed).encode()).digest(length)


def errno_of(action):
    """The errno's name of an action that fails, "" if it does not."""
    try:
        action()
    except OSError as problem:
        return errno.errorcode[problem.errno]
    return ""


class Shadow:
    """An array's device and, in memory, what it must hold. Knows only what was written through it."""

    def __init__(self, path, length=None):
        self.disk = Disk(path)
        self.length = self.disk.size if length is None else length
        self.bytes = bytearray(self.length)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the device; what it must hold is kept."""
        self.disk.close()

    def reopen(self, path=None):
        """Opens the device again, for instance after the array was stopped and assembled."""
        self.disk.close()
        self.disk = Disk(path or self.disk.path)

    def fill(self, seed=1):
        """Writes a pattern over the whole length, in pieces of 1 MiB."""
        self.write(0, pattern(seed, self.length))

    def write(self, offset, data, shift=0, flags=0):
        """Writes to the device and notes what it must hold from now on."""
        self.disk.write(offset, data, shift, flags)
        self.bytes[offset:offset + len(data)] = data

    def random_writes(self, seed, count, longest=256 * 1024, begin=0, end=None):
        """Writes `count` pieces of random place and size, 512 bytes to `longest`, from unaligned memory too."""
        choice = random.Random(seed)
        end = self.length if end is None else end
        for turn in range(count):
            size = choice.choice((1, 2, 7, 8, 9, 16, 64, 127, 128, choice.randrange(1, longest // SECTOR + 1)))
            size = min(size * SECTOR, longest, end - begin)
            place = begin + choice.randrange(0, (end - begin - size) // SECTOR + 1) * SECTOR
            self.write(place, pattern((seed, turn), size), shift=choice.choice((0, 0, 512, 1536)))

    def verify(self, what="the array's content", offset=0, length=None):
        """Reads a range and compares each byte; raises with the place of the first difference."""
        end = self.length if length is None else offset + length
        begin = offset
        while offset < end:
            step = min(MIB, end - offset)
            came = self.disk.read(offset, step)
            if came != self.bytes[offset:offset + step]:
                self._explain(what, offset, came)
            offset += step
        print(f"    ok: {what}: {end - begin} bytes as written", flush=True)

    def _explain(self, what, offset, came):
        """Raises Failed with the first sector that differs."""
        for at in range(0, max(len(came), 1), SECTOR):
            want = bytes(self.bytes[offset + at:offset + at + SECTOR])
            got = came[at:at + SECTOR]
            if want != got:
                raise Failed(f"{what}: {self.disk.path} sector {(offset + at) // SECTOR}: "
                             f"expected {want[:16].hex()}…, came {got[:16].hex() or 'nothing'}…")
        raise Failed(f"{what}: {self.disk.path}: expected more bytes at {offset}, came {len(came)}")

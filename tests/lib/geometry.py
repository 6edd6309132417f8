# SPDX-License-Identifier: GPL-2.0
"""Where a sector of the array lies on the members, and what P and Q must hold: an independent model of levels 4, 5, 6.

Written from the layouts' definitions; it shares nothing with the driver under test.
"""

import functools

# Names as mdadm knows them, and the numbers that the superblock and sysfs have.
LAYOUTS = {
    "left-asymmetric": 0,
    "right-asymmetric": 1,
    "left-symmetric": 2,
    "right-symmetric": 3,
    "parity-first": 4,
    "parity-last": 5,
}
LAYOUTS6 = {
    **LAYOUTS,
    "ddf-zero-restart": 8,
    "ddf-N-restart": 9,
    "ddf-N-continue": 10,
    "left-asymmetric-6": 16,
    "right-asymmetric-6": 17,
    "left-symmetric-6": 18,
    "right-symmetric-6": 19,
    "parity-first-6": 20,
}


class Row:
    """One stripe: which slot holds P, which Q (None below level 6), and which hold data, in the data's order."""

    def __init__(self, p, q, data, exponents):
        self.p, self.q, self.data = p, q, data
        # {slot: e}: Q is the sum of g^e times the slot's block.
        self.exponents = exponents


class Geometry:
    """An array's shape: level, layout name, number of members, chunk in sectors."""

    def __init__(self, level, layout, members, chunk):
        self.level, self.layout, self.members, self.chunk = level, layout, members, chunk
        self.data = members - (2 if level == 6 else 1)
        self._rows = {}

    def row(self, stripe):
        """The roles of the members in a stripe."""
        # Every layout repeats after so many stripes.
        turn = stripe % (self.members * (self.members - 1))
        if turn not in self._rows:
            self._rows[turn] = self._deal6(turn) if self.level == 6 else self._deal5(self.layout, self.members, turn)
        return self._rows[turn]

    def _deal5(self, layout, members, stripe):
        """A row with P alone."""
        last = members - 1
        turn = stripe % members
        if self.level == 4 or layout == "parity-last":
            p = last
        elif layout == "parity-first":
            p = 0
        else:
            p = last - turn if layout.startswith("left") else turn
        if self.level != 4 and layout in ("left-symmetric", "right-symmetric"):
            data = going_round(p, members)
        else:
            data = list(range(members))
        return Row(p, None, [slot for slot in data if slot != p], {})

    def _deal6(self, stripe):
        """A row with P and Q."""
        members, layout = self.members, self.layout
        if layout.endswith("-6"):
            # Level 5 on all members but the last, which has every Q.
            row = self._deal5(layout.removesuffix("-6"), members - 1, stripe)
            p, q, data = row.p, members - 1, row.data
        elif layout == "parity-last":
            p, q, data = members - 2, members - 1, range(members)
        elif layout == "parity-first":
            p, q, data = 0, 1, range(members)
        elif layout == "ddf-N-continue":
            p = members - 1 - stripe % members
            q, data = (p - 1) % members, going_round(p, members)
        else:
            # DDF's restarting layouts go the ways of md's asymmetric ones; N-restart is a stripe ahead.
            to_the_left = layout in ("left-asymmetric", "left-symmetric", "ddf-N-restart")
            turn = (stripe + (layout == "ddf-N-restart")) % members
            p = members - 1 - turn if to_the_left else turn
            q = (p + 1) % members
            data = going_round(q, members) if layout.endswith("-symmetric") else range(members)
        data = [slot for slot in data if slot not in (p, q)]
        if layout.startswith("ddf"):
            exponents = {slot: slot for slot in data}
        else:
            exponents = {slot: e for e, slot in enumerate(s for s in going_round(q, members) if s not in (p, q))}
        return Row(p, q, data, exponents)

    def parity_slot(self, stripe):
        """The slot of the member that holds the parity (P) of this stripe."""
        return self.row(stripe).p

    def data_slot(self, stripe, index):
        """The slot of the member that holds the stripe's data chunk number `index`."""
        return self.row(stripe).data[index]

    def locate(self, sector):
        """(slot, member's sector counted from its data offset) of a sector of the array."""
        chunk, within = divmod(sector, self.chunk)
        stripe, index = divmod(chunk, self.data)
        return self.data_slot(stripe, index), stripe * self.chunk + within

    def parity_of(self, sector):
        """(slot, member's sector) of the parity (P) that protects a sector of the array."""
        chunk, within = divmod(sector, self.chunk)
        stripe = chunk // self.data
        return self.row(stripe).p, stripe * self.chunk + within

    def q_of(self, sector):
        """(slot, member's sector) of the Q that protects a sector of the array."""
        slot, at = self.parity_of(sector)
        return self.row(at // self.chunk).q, at

    def array_sector(self, slot, sector):
        """The sector of the array that lies at this sector of a member; None for P and Q."""
        stripe, within = divmod(sector, self.chunk)
        row = self.row(stripe)
        if slot not in row.data:
            return None
        return (stripe * self.data + row.data.index(slot)) * self.chunk + within

    def parity(self, stripe, blocks):
        """(P, Q) of {slot: bytes} of a stripe's data; Q is None below level 6."""
        row = self.row(stripe)
        p = xor([blocks[slot] for slot in row.data])
        if row.q is None:
            return p, None
        # Horner's rule: from the highest exponent down, times g at each step.
        by_exponent = {e: slot for slot, e in row.exponents.items()}
        length = len(p)
        q = 0
        for e in range(max(by_exponent), -1, -1):
            q = int.from_bytes(q.to_bytes(length, "little").translate(times(2)), "little")
            if e in by_exponent:
                q ^= int.from_bytes(blocks[by_exponent[e]], "little")
        return p, q.to_bytes(length, "little")

    def wrong_parity(self, images):
        """Where P or Q does not fit the data: [(stripe, "P" or "Q")] for all members' data areas."""
        found = []
        for stripe, blocks in self._stripes(images):
            row = self.row(stripe)
            p, q = self.parity(stripe, blocks)
            if p != blocks[row.p]:
                found.append((stripe, "P"))
            if q is not None and q != blocks[row.q]:
                found.append((stripe, "Q"))
        return found

    def assemble(self, images):
        """The array's bytes, put together from the members' data areas (None: lost, computed from the others)."""
        out = []
        for stripe, blocks in self._stripes(images):
            row = self.row(stripe)
            lost = [slot for slot in row.data if blocks[slot] is None]
            if lost:
                blocks = self.recover(stripe, blocks, lost)
            out += [blocks[slot] for slot in row.data]
        return b"".join(out)

    def recover(self, stripe, blocks, lost):
        """{slot: bytes} with the lost data blocks computed: one by P or else by Q, two by both."""
        row = self.row(stripe)
        length = len(next(block for block in blocks.values() if block is not None))
        blocks = {**blocks, **{slot: bytes(length) for slot in lost}}
        # What is missing in P and Q: the sum of the lost blocks, and the sum of g^e times them.
        p, q = self.parity(stripe, blocks)
        p = blocks[row.p] and xor([p, blocks[row.p]])
        q = row.q is not None and blocks[row.q] and xor([q, blocks[row.q]])
        if len(lost) == 1:
            blocks[lost[0]] = p or scale(power(-row.exponents[lost[0]]), q)
            return blocks
        x, y = lost
        # p = x + y, q = g^a x + g^b y  =>  (g^a + g^b) x = g^b p + q
        a, b = power(row.exponents[x]), power(row.exponents[y])
        blocks[x] = scale(inverse(a ^ b), xor([scale(b, p), q]))
        blocks[y] = xor([p, blocks[x]])
        return blocks

    def _stripes(self, images):
        """(stripe, {slot: its chunk or None}) for each stripe of the members' data areas."""
        size = next(len(image) for image in images if image is not None)
        step = self.chunk * 512
        for stripe in range(size // step):
            where = slice(stripe * step, (stripe + 1) * step)
            yield stripe, {slot: None if image is None else bytes(image[where]) for slot, image in enumerate(images)}


def going_round(slot, members):
    """All slots, beginning with the one after `slot`."""
    return [(slot + 1 + step) % members for step in range(members)]


def xor(blocks):
    """The exclusive or of blocks of the same length."""
    total = 0
    for block in blocks:
        total ^= int.from_bytes(block, "little")
    return total.to_bytes(len(blocks[0]), "little")


# The field of Q: GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1, generated by g = 2.


def product(a, b):
    """a times b."""
    total = 0
    while b:
        total ^= a * (b & 1)
        a = a << 1 ^ (0x11d if a & 0x80 else 0)
        b >>= 1
    return total


@functools.cache
def times(factor):
    """The table that bytes.translate needs to multiply by `factor`."""
    return bytes(product(factor, value) for value in range(256))


@functools.cache
def power(exponent):
    """g to the power of `exponent`, which may be negative."""
    value = 1
    for _ in range(exponent % 255):
        value = product(value, 2)
    return value


def inverse(value):
    """What multiplied by `value` is 1."""
    return times(value).index(1)


def scale(factor, block):
    """A block times a constant."""
    return block.translate(times(factor))

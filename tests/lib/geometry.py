# SPDX-License-Identifier: GPL-2.0
"""Where a sector of the array lies on the members: an independent model of levels 4 and 5.

Written from the layouts' definitions; it shares nothing with the driver under test.
"""

LAYOUTS = {
    "left-asymmetric": 0,
    "right-asymmetric": 1,
    "left-symmetric": 2,
    "right-symmetric": 3,
    "parity-first": 4,
    "parity-last": 5,
}


class Geometry:
    """An array's shape: level, layout name, number of members, chunk in sectors."""

    def __init__(self, level, layout, members, chunk):
        self.level, self.layout, self.members, self.chunk = level, layout, members, chunk
        self.data = members - 1

    def parity_slot(self, stripe):
        """The slot of the member that holds the parity of this stripe."""
        last = self.members - 1
        if self.level == 4 or self.layout == "parity-last":
            return last
        if self.layout == "parity-first":
            return 0
        turn = stripe % self.members
        return last - turn if self.layout.startswith("left") else turn

    def data_slot(self, stripe, index):
        """The slot of the member that holds the stripe's data chunk number `index`."""
        parity = self.parity_slot(stripe)
        if self.level == 5 and self.layout in ("left-symmetric", "right-symmetric"):
            return (parity + 1 + index) % self.members
        return index if index < parity else index + 1

    def locate(self, sector):
        """(slot, member's sector counted from its data offset) of a sector of the array."""
        chunk, within = divmod(sector, self.chunk)
        stripe, index = divmod(chunk, self.data)
        return self.data_slot(stripe, index), stripe * self.chunk + within

    def parity_of(self, sector):
        """(slot, member's sector) of the parity that protects a sector of the array."""
        chunk, within = divmod(sector, self.chunk)
        stripe = chunk // self.data
        return self.parity_slot(stripe), stripe * self.chunk + within

    def assemble(self, images):
        """The array's bytes, put together from the members' data areas (None: rebuilt from the others)."""
        size = next(len(image) for image in images if image is not None)
        step = self.chunk * 512
        out = []
        for stripe in range(size // step):
            where = slice(stripe * step, (stripe + 1) * step)
            for index in range(self.data):
                slot = self.data_slot(stripe, index)
                if images[slot] is None:
                    out.append(xor([image[where] for image in images if image is not None]))
                else:
                    out.append(bytes(images[slot][where]))
        return b"".join(out)


def xor(blocks):
    """The exclusive or of blocks of the same length."""
    total = 0
    for block in blocks:
        total ^= int.from_bytes(block, "little")
    return total.to_bytes(len(blocks[0]), "little")

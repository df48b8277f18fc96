"""Which integer decisions a point has taken, as a number: what has the same may be averaged, what has not may not."""

from __future__ import annotations

import hashlib

import numpy as np

from decomp.messages import FloatArray

CONVEX = 0  # no integer decisions: everything may be averaged
UNKNOWN = -1  # the block does not say
BYTES = 6  # a float carries 53 bits exactly


def pattern_of(integers: FloatArray) -> int:
    """A number of the values of all integer variables of a point; CONVEX where there are none.

    Two patterns of one block have the same number with a chance of 2^-48; a point averaged by mistake is realised
    before it counts, and then found to be dear or impossible.
    """
    if not len(integers):
        return CONVEX
    whole = np.round(integers).astype("<i8").tobytes()
    return 1 + int.from_bytes(hashlib.blake2b(whole, digest_size=BYTES).digest(), "little")

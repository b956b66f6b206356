"""Opaque identifiers made of letters only, so that none can look like a card number or an SSN."""

import hashlib

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.sources.world.draws import Ints

_ALPHABET = np.frombuffer(b"bcdfghjkmnpqrstvwxyz", np.uint8)
"""Twenty consonants: no digits, no words."""
_BITS = 30
_MASK = (1 << _BITS) - 1
_LENGTH = 7
"""20**7 > 2**30: seven letters tell a billion accounts apart."""


def letters(values: Ints, length: int) -> pl.Series:
    """`values` (0 ≤ value < 20**length) written in `length` letters each."""
    matrix = np.empty((values.size, length), np.uint8)
    rest = values.astype(np.int64, copy=True)
    for position in range(length - 1, -1, -1):
        matrix[:, position] = _ALPHABET[rest % 20]
        rest //= 20
    offsets = np.arange(0, (values.size + 1) * length, length, dtype=np.int64)
    array = pa.LargeStringArray.from_buffers(
        values.size, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix))
    )
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


class Identifiers:
    """Seeded one-to-one maps from a number to seven letters, one map for each purpose."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, purpose: str, index: Ints) -> pl.Series:
        """Seven letters for each `index` (0 ≤ index < 2**30); different ones for different ones."""
        digest = hashlib.blake2b(f"{self._seed}/id/{purpose}".encode(), digest_size=16).digest()
        factor = (int.from_bytes(digest[:8], "little") & _MASK) | 1
        offset = int.from_bytes(digest[8:], "little") & _MASK
        mixed = index.astype(np.uint64) & np.uint64(_MASK)
        # An odd factor and a shift-xor are both one-to-one modulo a power of two.
        for _ in range(2):
            mixed = (mixed * np.uint64(factor) + np.uint64(offset)) & np.uint64(_MASK)
            mixed ^= mixed >> np.uint64(15)
        return letters(mixed.astype(np.int64), _LENGTH)

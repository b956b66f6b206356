"""Counter-based random draws: a number depends on the seed, its purpose and its keys, nothing else.

A stateful generator would have to be spawned per account and would tie a row to the rows drawn
before it. Hashing (seed, purpose, account, day, …) instead is vectorised over any set of rows and
makes every row independent of how many accounts there are and in what chunks they are made.
"""

import hashlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_UNIT = 2.0**-53


class Draws:
    """Draws for one `purpose` under one `seed`.

    Every method takes `keys`, integer arrays or scalars that broadcast together, and returns an
    array of their shape. The same keys give the same draw; give another purpose to draw again.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
        self._key = np.uint64(int.from_bytes(digest, "little"))
        self._seed = seed
        self._purpose = purpose

    def bits(self, *keys: npt.ArrayLike) -> npt.NDArray[np.uint64]:
        """64 random bits: a splitmix64 chain over the keys."""
        with np.errstate(over="ignore"):
            state = np.broadcast_to(self._key, np.broadcast_shapes(*(np.shape(k) for k in keys)))
            for position, key in enumerate(keys, start=1):
                salted = np.asarray(key).astype(np.uint64) * _GOLDEN + np.uint64(position)
                state = _mix(state ^ _mix(salted))
            return _mix(state + _GOLDEN)

    def uniform(self, *keys: npt.ArrayLike) -> Floats:
        """Uniform on [0, 1)."""
        return (self.bits(*keys) >> np.uint64(11)).astype(np.float64) * _UNIT

    def between(self, low: npt.ArrayLike, high: npt.ArrayLike, *keys: npt.ArrayLike) -> Floats:
        """Uniform on [low, high)."""
        return np.asarray(low) + self.uniform(*keys) * (np.asarray(high) - np.asarray(low))

    def integers(self, low: npt.ArrayLike, high: npt.ArrayLike, *keys: npt.ArrayLike) -> Ints:
        """Integers from `low` up to and without `high`."""
        return np.floor(self.between(low, high, *keys)).astype(np.int64)

    def happens(self, probability: npt.ArrayLike, *keys: npt.ArrayLike) -> Bools:
        """True with `probability`."""
        return self.uniform(*keys) < np.asarray(probability)

    def normal(self, *keys: npt.ArrayLike) -> Floats:
        """Standard normal, by Box and Muller."""
        other = Draws(self._seed, f"{self._purpose}/angle")
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(*keys)))
        return radius * np.cos(2.0 * np.pi * other.uniform(*keys))

    def exponential(self, mean: npt.ArrayLike, *keys: npt.ArrayLike) -> Floats:
        """Exponential with `mean`."""
        return -np.asarray(mean) * np.log1p(-self.uniform(*keys))

    def poisson(self, mean: npt.ArrayLike, *keys: npt.ArrayLike) -> Ints:
        """Poisson with `mean` (small: the inverse is found by counting up)."""
        uniform = self.uniform(*keys)
        term = np.exp(-np.broadcast_to(np.asarray(mean, np.float64), uniform.shape))
        cumulated = term.copy()
        count = np.zeros(uniform.shape, np.int64)
        mean = np.broadcast_to(np.asarray(mean, np.float64), uniform.shape)
        pending = np.flatnonzero(uniform.ravel() >= cumulated.ravel())
        flat_u, flat_mean = uniform.ravel()[pending], mean.ravel()[pending]
        flat_term, flat_cumulated = term.ravel()[pending], cumulated.ravel()[pending]
        step = 0
        while pending.size and step < 1000:
            step += 1
            flat_term = flat_term * flat_mean / step
            flat_cumulated = flat_cumulated + flat_term
            count.ravel()[pending] = step
            keep = flat_u >= flat_cumulated
            pending, flat_u, flat_mean = pending[keep], flat_u[keep], flat_mean[keep]
            flat_term, flat_cumulated = flat_term[keep], flat_cumulated[keep]
        return count

    def choice(self, weights: npt.ArrayLike, *keys: npt.ArrayLike) -> Ints:
        """An index into `weights`: one set for all rows, or one row of weights for each key."""
        cumulated = np.cumsum(np.asarray(weights, np.float64), axis=-1)
        uniform = self.uniform(*keys)
        if cumulated.ndim == 1:
            return np.searchsorted(cumulated / cumulated[-1], uniform, side="right").astype(
                np.int64
            )
        reached = uniform[..., None] * cumulated[..., -1:] >= cumulated
        return np.minimum(reached.sum(axis=-1), cumulated.shape[-1] - 1).astype(np.int64)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = state ^ (state >> np.uint64(30))
    mixed *= _MULTIPLIERS[0]
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MULTIPLIERS[1]
    mixed ^= mixed >> np.uint64(31)
    return mixed

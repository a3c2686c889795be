"""Random numbers as a pure function of (seed, purpose, epoch, index): no state, so any host can compute any row.

A row's numbers depend only on its key, so a batch may be built in pieces, out of order, or again. The mixing function
is the finalizer of SplitMix64 (Steele, Lea & Flood 2014), applied to a counter and then to the counter xor the key.

Shapes: N rows.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_BINOMIAL_WORDS = 1 << 16
_PACKED = np.uint64((1 << 11) - 1)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer: a bijection of 64-bit words in which every input bit moves every output bit."""
    x = x ^ (x >> np.uint64(30))
    x *= _M1
    x ^= x >> np.uint64(27)
    x *= _M2
    x ^= x >> np.uint64(31)
    return x


def keys(*parts: int | np.ndarray) -> np.ndarray:
    """One 64-bit key for each row, from integers or arrays of them that broadcast to [N]."""
    key = np.zeros(np.broadcast_shapes((1,), *(np.shape(part) for part in parts)), np.uint64)
    for part in parts:
        key = _mix((key + _GOLDEN) ^ _mix(np.atleast_1d(part).astype(np.uint64) + _GOLDEN))
    return key


class RowRandom:
    """A stream of random numbers for each of N rows. Successive draws are independent."""

    def __init__(self, keys_N: np.ndarray):
        self._keys = keys_N
        self._drawn = 0

    def bits(self, *shape: int) -> np.ndarray:
        """Uniform 64-bit words, [N, *shape]."""
        count = int(np.prod(shape, dtype=np.int64))
        counters = np.arange(self._drawn, self._drawn + count, dtype=np.uint64)
        self._drawn += count
        words = _mix(_mix(counters * _GOLDEN + _M1)[None] ^ self._keys[:, None])
        return words.reshape(len(self._keys), *shape)

    def uniform(self, *shape: int) -> np.ndarray:
        """Uniform float64 in [0, 1), [N, *shape]."""
        words = self.bits(*shape)
        words >>= np.uint64(11)
        numbers = words.astype(np.float64)
        numbers *= 2.0**-53
        return numbers

    def order(self, is_item_NT: np.ndarray) -> np.ndarray:
        """The positions of the items of each row in a uniformly random order, then the other positions: int64 [N, T].

        The order is that of `uniform(T)`.
        """
        length = is_item_NT.shape[1]
        if length > _PACKED + 1:
            return np.argsort(np.where(is_item_NT, self.uniform(length), 2.0), axis=1)
        # The position in the bits that `uniform` leaves out: sorting numbers is several times faster than argsort.
        words = self.bits(length)
        words[~is_item_NT] = ~np.uint64(0)
        words &= ~_PACKED
        words |= np.arange(length, dtype=np.uint64)
        words.sort(axis=1)
        words &= _PACKED
        return words.view(np.int64)

    def integers(self, high: int | np.ndarray, *shape: int) -> np.ndarray:
        """Uniform int64 in [0, high), [N, *shape]; `high` broadcasts. The bias is below high / 2^53."""
        return (self.uniform(*shape) * high).astype(np.int64)

    def binomial_half(self, trials_N: np.ndarray) -> np.ndarray:
        """The number of heads among `trials` fair coins for each row, int64 [N]: a count of random bits, so exact."""
        words = -(-int(trials_N.max(initial=0)) // 64)
        begin = self._drawn
        wanted = np.clip(trials_N[:, None] - 64 * np.arange(words)[None], 0, 64).astype(np.uint64)
        # A shift by 64 is undefined, so a mask of all 64 bits is a separate case.
        mask = np.where(wanted == 64, ~np.uint64(0), (np.uint64(1) << (wanted & np.uint64(63))) - np.uint64(1))
        heads = np.bitwise_count(self.bits(words) & mask).sum(axis=1, dtype=np.int64)
        # Later draws must not depend on the other rows' trials, so each call reserves the same number of words.
        self._drawn = begin + _BINOMIAL_WORDS
        if words > _BINOMIAL_WORDS:
            raise ValueError(f"{int(trials_N.max())} trials exceed {64 * _BINOMIAL_WORDS}")
        return heads


def permute(indices: np.ndarray, size: int, keys_N: np.ndarray, rounds: int = 6) -> np.ndarray:
    """Where a random permutation of range(size) sends each index: [N] int64. `keys_N` selects each row's permutation.

    A Feistel network over the next even power of two, applied repeatedly until the value falls inside the range (Black
    & Rogaway 2002, section 5). It keeps no permutation in memory, so an epoch of a billion examples costs nothing.
    """
    half = np.uint64(max(1, -(-int(size - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    out = np.array(indices, dtype=np.uint64)
    # Of every round, a key for each row: uint64 [rounds, N].
    round_keys = _mix(np.broadcast_to(keys_N, out.shape) + np.arange(rounds, dtype=np.uint64)[:, None])
    pending = np.arange(len(out))
    while len(pending):
        left, right = out[pending] >> half, out[pending] & mask
        for round_key in round_keys[:, pending]:
            mixed = _mix(right ^ round_key)
            left, right = right, left ^ (mixed & mask)
        out[pending] = (left << half) | right
        pending = pending[out[pending] >= size]
    return out.astype(np.int64)


def hash_text(text: str) -> int:
    """A 63-bit number that identifies a purpose, to pass to `keys`."""
    return int(keys(*text.encode())[0] >> np.uint64(1))

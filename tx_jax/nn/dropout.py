"""Dropout (Srivastava et al. 2014), and the generator of its random numbers.

A mask is a function of a key and of each element's place in the array: its bits are a hash of both, computed where
they are used, in the forward pass and once more in the backward pass. So nothing of a mask passes through memory or is
saved, and it is the same on every mesh and on every kind of device. (Threefry takes a CPU and a TPU several times as
long, and the generators in XLA and in the hardware give other numbers where an array is split.)
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

LEVELS = 2**16  # a mask is decided by 16 random bits


def _high_mixed(x: jax.Array, key: jax.Array) -> jax.Array:
    """A hash of x and a key, uint32, of which only the high 16 bits are good: the function `lowbias32` (Wellons 2018,
    nullprogram.com/blog/2018/07/31), with the key added between its two rounds, so that the hashes of two keys are not
    one sequence that begins at two places; without its last line."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    return ((x ^ (x >> 15)) + key) * jnp.uint32(0x846CA68B)


def _mixed(x: jax.Array, key: jax.Array) -> jax.Array:
    """The same hash with its last line, which makes the low bits good and leaves the high ones alone."""
    x = _high_mixed(x, key)
    return x ^ (x >> 16)


def _keys(data: jax.Array, numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two words of the key that a key, [2], and a number make; for every number of an array."""
    first = _mixed(numbers ^ data[0], data[1])
    return first, _mixed(first ^ data[1], data[0] + jnp.uint32(0x9E3779B9))


def random_bits(data: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    """Random unsigned integers of 8, 16, 32 or 64 bits. Each index along the first axis has a key of its own, so that
    an array may have more than 2^32 elements, though not along the other axes."""
    if bit_width == 64:
        halves = (random_bits(jnp.stack(_keys(data, jnp.uint32(i))), 32, shape).astype(jnp.uint64) for i in range(2))
        return (next(halves) << 32) | next(halves)
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(1, len(shape)):
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(math.prod(shape[axis + 1 :]) % 2**32)
    rows = jax.lax.broadcasted_iota(jnp.uint32, (*shape[:1], *(1,) * (len(shape) - 1)), 0) if shape else place
    first, second = _keys(data, rows)
    bits = (_high_mixed if bit_width <= 16 else _mixed)(place ^ first, second)
    return (bits >> (32 - bit_width)).astype(f"uint{bit_width}")


def _fold_in(data: jax.Array, number: jax.Array) -> jax.Array:
    return jnp.stack(_keys(data, number.astype(jnp.uint32)))


def _split(data: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    numbers = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return jnp.stack(_keys(data, numbers), axis=-1)


def _seed(seed: jax.Array) -> jax.Array:
    return _fold_in(jnp.array([0x243F6A88, 0x85A308D3], jnp.uint32), seed)  # the first digits of pi


COUNTER = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=random_bits, fold_in=_fold_in, name="counter", tag="ctr"
)


def dropout_key(seed: int) -> jax.Array:
    """A key of this generator, for "dropout" among a model's RNGs. For each step, fold the step's number in."""
    return jax.random.key(seed, impl=COUNTER)


def kept(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
    """Which elements remain, a boolean array, and the factor by which they are multiplied.

    The share that is dropped is `rate` to the nearest multiple of 2^-16, and the factor belongs to that share.
    """
    return jax.random.bits(key, shape, jnp.uint16) >= jnp.uint16(_dropped(rate)), kept_factor(rate)


def _dropped(rate: float) -> int:
    """The number of levels that are dropped."""
    return min(round(rate * LEVELS), LEVELS - 1)


def kept_factor(rate: float) -> float:
    """The factor of `kept`."""
    return LEVELS / (LEVELS - _dropped(rate))


def row_words(key: jax.Array, first_row: jax.Array | int, rows: int) -> jax.Array:
    """For `kept_at`: the words of the key that `rows` indices along an array's first axis have, uint32 [rows, 2]."""
    numbers = jnp.asarray(first_row, jnp.uint32) + jnp.arange(rows, dtype=jnp.uint32)
    return jnp.stack(_keys(jax.random.key_data(key), numbers), axis=-1)


def kept_at(place: jax.Array, first: jax.Array, second: jax.Array, rate: float) -> jax.Array:
    """What `kept` says of elements, for kernels that make a part of its array.

    Args:
      place: an element's index among all that share its index along the first axis, uint32.
      first, second: the `row_words` of that index.
    """
    # A TPU compares signed numbers. Added to the second word, 2^31 is added to the hash, whose last factor is odd; then
    # the signed comparison with a threshold that is lower by as much is the unsigned one.
    half = 2**31
    bits = _high_mixed(place ^ first, second ^ jnp.uint32(half))
    threshold = _dropped(rate) * (2**32 // LEVELS) - half
    return jax.lax.bitcast_convert_type(bits, jnp.int32) >= jnp.int32(threshold)


def regenerated(key: jax.Array) -> jax.Array:
    """The same key, for a backward pass: the compiler does not see that it is the same, or it would keep the mask."""
    data = jax.lax.optimization_barrier(jax.random.key_data(key))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """x with a share `rate` of its elements set to 0, and the others scaled so that the mean remains. x's dtype."""
    keep, factor = kept(key, rate, x.shape)
    return jnp.where(keep, x.astype(jnp.float32) * factor, 0).astype(x.dtype)


dropout.defvjp(
    lambda x, rate, key: (dropout(x, rate, key), key),
    lambda rate, key, gradient: (dropout(gradient, rate, regenerated(key)), None),
)


class Dropout(nn.Module):
    """`dropout` with the RNG "dropout" of the model."""

    rate: float
    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool | None = None) -> jax.Array:
        if nn.merge_param("deterministic", self.deterministic, deterministic) or not self.rate:
            return x
        return dropout(x, self.rate, self.make_rng("dropout"))

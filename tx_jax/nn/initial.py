"""Random initial parameters, and a fast way to create all arrays of a new state.

A program that draws a model's initial parameters takes seconds to compile, since each of its matrices has a generator
of its own in it. `create` gives the same numbers with one small program for all of them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jax.extend.random import threefry2x32_p

BLOCK = 2**17  # numbers that a call of the program draws


@functools.partial(jax.jit, static_argnames="shape")
def truncated_normal(key: jax.Array, stddev: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """float32 numbers from N(0, stddev), truncated at two standard deviations and not rescaled."""
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32) * stddev


@jax.jit
def _block(key_data: jax.Array, stddev: jax.Array, start: jax.Array) -> jax.Array:
    """The numbers `start` to `start + BLOCK` of `truncated_normal` with this threefry key, for any shape.

    jax.random counts the numbers of an array in row-major order and hashes each count, so any part can be drawn alone.
    """
    count = start + jnp.arange(BLOCK, dtype=jnp.uint32)
    bits = jnp.bitwise_xor(*threefry2x32_p.bind(key_data[0], key_data[1], jnp.zeros_like(count), count))
    # From here on as in jax.random, of which the results are equal bit for bit: a test compares them.
    low, high = (jax.lax.erf(jnp.float32(bound / np.sqrt(2))) for bound in (-2, 2))
    unit = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32) - 1
    normal = np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(low, unit * (high - low) + low))
    inside = (np.nextafter(np.float32(bound), np.float32(0)) for bound in (-2, 2))
    return jnp.clip(normal, *inside) * stddev


def traced(make: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """The same function of a threefry key, traced here and never again: tracing a model takes a while. What its results
    do not need, such as the forward pass that names the parameters, is left out."""
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    closed, shapes = jax.make_jaxpr(make, return_shape=True)(key)
    needed, structure = _part(closed, closed.jaxpr.outvars), jax.tree.structure(shapes)
    return lambda key: jax.tree.unflatten(structure, needed(key))


def create(make: Callable[[jax.Array], Any], key: jax.Array, shardings: Any) -> Any:
    """`make(key)`, with each array created where it will live.

    Arrays that `make` gets from `truncated_normal` and constants, which is almost all, are not compiled into a program
    of their own. Each process draws only the rows that its devices hold.

    Args:
      make: as for `jax.jit`.
      key: a threefry key.
      shardings: a tree like the result's.
    """
    closed, shapes = jax.make_jaxpr(make, return_shape=True)(key)
    jaxpr = closed.jaxpr
    made_by = {var: equation for equation in jaxpr.eqns for var in equation.outvars}
    places = jax.tree.leaves(shardings)
    drawn, values = {}, [None] * len(places)
    for i, (var, place) in enumerate(zip(jaxpr.outvars, places, strict=True)):
        equation = None if isinstance(var, Literal) else made_by.get(var)
        if equation is not None and equation.params.get("name") == truncated_normal.__name__:
            drawn[i] = equation
        elif equation is not None and _is_constant(equation):
            values[i] = _constant(equation.invars[0].val, var.aval, place)
    inputs = [var for equation in drawn.values() for var in equation.invars]
    known = iter(_part(closed, inputs)(key))  # operation by operation: those of each key are the same
    for i, equation in drawn.items():
        key_data, stddev = jax.random.key_data(next(known)), next(known)
        values[i] = _draw(key_data, stddev, equation.outvars[0].aval.shape, places[i])
    others = [i for i, value in enumerate(values) if value is None]
    if others:
        rest = _part(closed, [jaxpr.outvars[i] for i in others])
        made = jax.jit(rest, out_shardings=[places[i] for i in others])(key)
        for i, value in zip(others, made, strict=True):
            values[i] = value
    return jax.tree.unflatten(jax.tree.structure(shapes), values)


def _part(closed: ClosedJaxpr, results: list[Any]) -> Callable[..., list[Any]]:
    """The computation of these variables or literals alone, as a function of the same arguments."""
    needed = {var for var in results if not isinstance(var, Literal)}
    equations = []
    for equation in reversed(closed.jaxpr.eqns):
        if needed.intersection(equation.outvars):
            equations.append(equation)
            needed.update(var for var in equation.invars if not isinstance(var, Literal))
    names = closed.jaxpr.debug_info.with_unknown_names()
    part = closed.jaxpr.replace(outvars=results, eqns=equations[::-1], debug_info=names)
    return jaxpr_as_fun(ClosedJaxpr(part, closed.consts))


def _is_constant(equation: JaxprEqn) -> bool:
    return equation.primitive.name == "broadcast_in_dim" and isinstance(equation.invars[0], Literal)


def _constant(value: Any, like: Any, place: jax.sharding.Sharding) -> jax.Array:
    whole = np.broadcast_to(np.asarray(value, like.dtype), like.shape)
    return jax.make_array_from_callback(like.shape, place, lambda index: np.ascontiguousarray(whole[index]))


def _draw(key_data: jax.Array, stddev: jax.Array, shape: tuple[int, ...], place: jax.sharding.Sharding) -> jax.Array:
    row = math.prod(shape[1:])

    @functools.cache  # devices may hold the same rows
    def rows(start: int, stop: int) -> np.ndarray:
        size = (stop - start) * row
        blocks = [_block(key_data, stddev, np.uint32(start * row + first)) for first in range(0, size, BLOCK)]
        return np.concatenate([np.asarray(block) for block in blocks])[:size].reshape(stop - start, *shape[1:])

    def part(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[0].indices(shape[0])
        return rows(start, stop)[(slice(None), *index[1:])]

    return jax.make_array_from_callback(shape, place, part)

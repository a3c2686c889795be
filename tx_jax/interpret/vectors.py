"""Vectors of texts from a model's hidden states, and how near they are to each other.

The mean over a text's tokens is Sentence-BERT's (Reimers & Gurevych 2019, section 3); a mean of several layers, often
better than the last alone, is that of Li et al. 2020 ("On the Sentence Embeddings from Pre-trained Language Models").

Shapes: N texts, D model, B batch, T length.
"""

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.config.checks import is_whole
from tx_jax.errors import InputError
from tx_jax.files import is_local, write_atomically
from tx_jax.interpret import capture, sites
from tx_jax.interpret.texts import Row, batches
from tx_jax.nn.heads import last_tokens, pool

POOLINGS = ("mean", "first", "last")


def hidden_sites(config: TransformerConfig, layers: Sequence[int]) -> tuple[str, ...]:
    """The hidden states of an encoder (also of an encoder-decoder) or decoder: 0 = the embeddings, 1 = the first
    layer's output, and so on; negative numbers count from the last.

    Raises:
      InputError: there is no such layer.
    """
    chosen = list(layers) if isinstance(layers, Iterable) else []
    if not chosen or not all(map(is_whole, chosen)):
        raise InputError(f"layers={layers!r:.60}: give a list of numbers, such as [-1] for the last")
    stack = "decoder" if config.architecture == "decoder" else "encoder"
    names = sites.hidden(config, stack)
    if wrong := [layer for layer in layers if not -len(names) <= layer < len(names)]:
        raise InputError(
            f"there is no layer {wrong[0]}: 0 is the embeddings, 1 to {len(names) - 1} are the layers of the {stack}, "
            f"and -1 to -{len(names)} are the same from the last on"
        )
    return tuple(names[layer] for layer in layers)


def require_pooling(config: TransformerConfig, pooling: str) -> None:
    """Raises InputError for a pooling that is none, or that reads what a decoder's token cannot know."""
    if pooling not in POOLINGS:
        raise InputError(f"pooling={pooling!r}: there are {', '.join(POOLINGS)}")
    if pooling == "first" and config.architecture == "decoder":
        raise InputError("--pooling=first: the first token of a decoder sees nothing of the text: give mean or last")


def embed(
    model: capture.Model,
    rows: Sequence[Row],
    *,
    pooling: str = "mean",
    layers: Sequence[int] = (-1,),
    normalize: bool = True,
    batch_size: int = capture.BATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """A vector of each text: float32 [N, D]. Of an encoder-decoder it is the source's; the target is not computed.

    Args:
      pooling: "mean" of all tokens, special ones included; the "first", BERT's [CLS]; or the "last".
      layers: the mean of which layers, see `hidden_sites`.
      normalize: whether vectors get length 1.

    Raises:
      InputError: there is no such layer, a decoder's first token is asked for, or `batch_size` is no number of rows.
    """
    config = model.model
    require_pooling(config, pooling)
    compute = _jitted(config, hidden_sites(config, layers), pooling, normalize)
    vectors, done = np.zeros((len(rows), config.dim), np.float32), 0
    with jax.set_mesh(model.mesh):
        for indices, inputs in batches(rows, config, batch_size, model.mesh.devices.size):
            vectors[indices] = np.asarray(compute(model.params, capture.placed(inputs, model.mesh)))[: len(indices)]
            done += len(indices)
            progress(done, len(rows))
    return vectors


@functools.lru_cache(maxsize=16)
def _jitted(config: TransformerConfig, names: tuple[str, ...], pooling: str, normalize: bool) -> Callable:
    def vectors(params: Any, inputs: dict[str, jax.Array]) -> jax.Array:
        _, values = capture.run(config, params, inputs, read=names)
        hidden_BTD = sum(values[name].astype(jnp.float32) for name in names) / len(names)
        if pooling == "last":
            x_BD = last_tokens(hidden_BTD, inputs["valid"])
        else:
            x_BD = pool(hidden_BTD, inputs["valid"], pooling)
        if normalize:
            x_BD = x_BD / jnp.maximum(jnp.linalg.norm(x_BD, axis=-1, keepdims=True), 1e-12)
        return x_BD

    return jax.jit(vectors)


@contextlib.contextmanager
def written(path: Path, count: int, dim: int) -> Iterator[np.ndarray]:
    """An array [N, D] to fill, on the disk, which becomes the file `path` when the context ends without an error."""
    if not is_local(path):
        array = np.zeros((count, dim), np.float32)
        yield array
        content = io.BytesIO()
        np.save(content, array)
        write_atomically(path, content.getvalue())
        return
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        array = np.lib.format.open_memmap(temporary, "w+", np.float32, (count, dim))
        yield array
        array.flush()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def similarities(vectors_ND: np.ndarray, others_MD: np.ndarray) -> np.ndarray:
    """The cosines of all pairs: [N, M]; 0 for a vector of zeros."""
    return _unit(vectors_ND) @ _unit(others_MD).T


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)


def nearest(vectors_ND: np.ndarray, queries_MD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices [M, count] of the vectors with the largest cosines to each query, the largest first, and these
    cosines. In blocks, so that not all of them are in memory."""
    count = min(count, len(vectors_ND))
    best, scores = np.zeros((2, 0, count))
    unit = _unit(vectors_ND)
    for start in range(0, len(queries_MD), 256):
        found = _unit(queries_MD[start : start + 256]) @ unit.T
        order = np.argsort(-found, axis=1, kind="stable")[:, :count]
        best = np.concatenate([best, order])
        scores = np.concatenate([scores, np.take_along_axis(found, order, axis=1)])
    return best.astype(int), scores

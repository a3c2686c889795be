"""Reads and writes the activations of any model while it runs, without changing its code.

One interceptor of Linen's method calls stands where each activation of `sites` is computed. It hands what is asked for
out (read) or puts something else in its place (write); all that is not asked for is as without it. Probabilities of
attention are sown by the layer itself, and only XLA's attention has them: where a model would use a kernel that never
has them at hand, XLA's is used, with a warning.

Shapes: B batch, T length, H heads, K head dim.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError, InputWarning, did_you_mean
from tx_jax.interpret import sites
from tx_jax.interpret.texts import Row, batches
from tx_jax.models import registry
from tx_jax.models.output import Output
from tx_jax.models.placed import PlacedModel
from tx_jax.nn.attention import choice
from tx_jax.nn.attention.layer import MultiHeadAttention
from tx_jax.nn.block import Block
from tx_jax.nn.convolution import Convolution
from tx_jax.nn.dense import Dense
from tx_jax.nn.embed import Embedding
from tx_jax.nn.mlp import MLP
from tx_jax.nn.rotary import rotate
from tx_jax.nn.stack import Stack
from tx_jax.text.tokenizer import Tokenizer

Write = Callable[[jax.Array], jax.Array]
BATCH_SIZE = 32


class Model(PlacedModel, Protocol):
    """A model that is ready to run, such as `runs.trained.Trained`."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def name(self) -> str: ...
    def require_masks(self) -> Tokenizer: ...


def run(
    config: TransformerConfig,
    params: Any,
    inputs: Mapping[str, jax.Array],
    *,
    read: Sequence[str] = (),
    write: Mapping[str, Write] | None = None,
) -> tuple[Output, dict[str, jax.Array]]:
    """Runs a model, without dropout, and reads activations of it. To be called within `jax.jit`.

    Args:
      inputs: "tokens", "valid" and, where the model has them, "segments" [B, T]; for an encoder-decoder also
        "target_tokens" and "target_valid"; see `texts.batches`.
      read: names of sites. What is read where something is written is what was written.
      write: by the names of sites what to make of their values, of the same shape and dtype.

    Returns:
      The output, and what was read by name; shapes are those of `sites` behind [B].

    Raises:
      InputError: there is no such site, or one to write can only be read.
    """
    write = dict(write or {})
    known = sites.of(config)
    for name in (*read, *write):
        if name not in known:
            raise InputError(
                f"there is no activation {name!r}; see tx_jax/interpret/sites.py.{did_you_mean(name, known)}"
            )
        if name in write and not known[name].writable:
            raise InputError(f"{name} can only be read: write {name.rpartition('/')[0]}/heads instead")
    probabilities = [name for name in read if name.endswith("/probabilities")]
    # Checkpointing only makes sense where something is trained, and its inner values could not be handed out.
    config = dataclasses.replace(config, remat="none", attention="xla" if probabilities else config.attention)
    seam = _Seam(config, frozenset(read), write)
    arguments = _arguments(config, inputs)
    with nn.intercept_methods(seam):
        result = registry.build(config).apply(
            {"params": params}, deterministic=True, mutable=["intermediates"] if probabilities else False, **arguments
        )
    output, sown = result if probabilities else (result, {})
    for name in probabilities:
        node = sown["intermediates"]
        for part in name.split("/"):
            node = node[part]
        seam.values[name] = node[0]  # DeBERTa's mask decoder runs the last layer again
    return output, {name: seam.values[name] for name in read}


def _arguments(config: TransformerConfig, inputs: Mapping[str, jax.Array]) -> dict[str, Any]:
    """The model's arguments by name."""
    if config.architecture == "encoder_decoder":
        names = {"tokens": "tokens_BS", "valid": "valid_BS"}
        names |= {"target_tokens": "target_tokens_BT", "target_valid": "target_valid_BT"}
    else:
        names = {"tokens": "tokens_BT", "valid": "valid_BT", "segments": "segments_BT"}
        names |= {"masked_positions": "masked_positions_BP"}
    return {names[key]: value for key, value in inputs.items()}


class _Seam:
    """The interceptor. `values` has what was read."""

    def __init__(self, config: TransformerConfig, read: frozenset[str], write: Mapping[str, Write]):
        self.values: dict[str, jax.Array] = {}
        self._config, self._read, self._write = config, read, write
        self._angles: dict[str, jax.Array | None] = {}
        self._again = False

    def __call__(self, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if context.method_name != "__call__" or self._again:
            return call(*args, **kwargs)
        around = next((around for kind, around in _AROUND.items() if isinstance(module, kind)), None)
        path = "/".join(module.path)
        return call(*args, **kwargs) if around is None else around(self, path, call, args, kwargs)

    def _at(self, name: str, value: jax.Array) -> jax.Array:
        """What goes on in the place of an activation."""
        if name in self._write:
            made = self._write[name](value)
            if made.shape != value.shape:
                raise ValueError(f"{name}: {made.shape} was written in the place of {value.shape}")
            value = made.astype(value.dtype)
        if name in self._read:
            self.values[name] = value
        return value

    def _at_heads(self, name: str, value_BTD: jax.Array) -> jax.Array:
        """The same for what is [B, T, H, K] to the user, and [B, T, D] here."""
        if name not in self._write and name not in self._read:
            return value_BTD
        config = self._config
        value_BTHK = value_BTD.reshape(*value_BTD.shape[:-1], config.num_heads, config.head_dim)
        return self._at(name, value_BTHK).reshape(value_BTD.shape)

    def _stack(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        first, *rest = args
        y_BTD, decoded = call(self._at(f"{path}/input", first), *rest, **kwargs)
        return self._at(f"{path}/output", y_BTD), decoded

    def _block(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        if len(args) > 2:  # DeBERTa's mask decoder: the last layer once more, with other queries
            self._again = True
            try:
                return call(*args, **kwargs)
            finally:
                self._again = False
        y_BTD = call(*args, **kwargs)
        # The convolution beside the first layer makes that layer's output.
        beside = self._config.conv_kernel and path.endswith("/layer_0")
        return y_BTD if beside else self._at(f"{path}/output", y_BTD)

    def _convolution(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        return self._at(f"{path.rpartition('/')[0]}/layer_0/output", call(*args, **kwargs))

    def _attention(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        self._angles[path] = kwargs.get("angles_BTR")
        return self._at(f"{path}/output", call(*args, **kwargs))

    def _mlp(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        return self._at(f"{path}/output", call(*args, **kwargs))

    def _dense(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        parent, _, name = path.rpartition("/")
        x, *rest = args
        if name == "wo" and parent.endswith("mlp"):
            return call(self._at(f"{parent}/activations", x), *rest, **kwargs)
        # DeBERTa may project the table of relative positions by the same layers; it has no batch.
        if not parent.endswith("attention") or x.ndim != 3:
            return call(*args, **kwargs)
        if name == "out":
            return call(self._at_heads(f"{parent}/heads", x), *rest, **kwargs)
        y = call(*args, **kwargs)
        if name == "value":
            return self._at_heads(path, y)
        if name in ("query", "key") and path in self._read:
            y_BTHK = y.reshape(*y.shape[:-1], self._config.num_heads, self._config.head_dim)
            angles_BTR = self._angles[parent]
            self.values[path] = y_BTHK if angles_BTR is None else rotate(y_BTHK, angles_BTR)
        return y

    def _embedding(self, path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
        y = call(*args, **kwargs)
        return self._at("embeddings/token", y) if path == "embeddings/token" else y


_AROUND: dict[type, Callable] = {
    Stack: _Seam._stack,
    Block: _Seam._block,
    Convolution: _Seam._convolution,
    MultiHeadAttention: _Seam._attention,
    MLP: _Seam._mlp,
    Dense: _Seam._dense,
    Embedding: _Seam._embedding,
}


@functools.lru_cache(maxsize=64)  # so that texts that come one by one do not compile it each time
def _jitted(config: TransformerConfig, read: tuple[str, ...], of_output: Callable[[Output], Any]) -> Callable:
    def activations(params: Any, inputs: Mapping[str, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
        output, values = run(config, params, inputs, read=read)
        return of_output(output), values

    return jax.jit(activations)


def nothing(output: Output) -> None:
    """What is kept of a model's output where only activations are wanted."""


def stream(
    model: Model,
    rows: Sequence[Row],
    names: Sequence[str],
    *,
    of_output: Callable[[Output], Any] = nothing,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[int, dict[str, np.ndarray], Any]]:
    """Each row's index, its activations by name, without padding, and what is kept of its output.

    Rows come sorted by length, in few shapes, each of which is compiled once.

    Args:
      of_output: an array with a batch axis, or a dict of such; a function at the top of a module, so that it is
        compiled once. By default nothing is kept, and what only the output needs is not computed.
      batch_size: rows of the longest kind; as many more of shorter ones as have as many tokens.
      progress: called with the number of rows done, and of all rows.
    """
    if any(name.endswith("/probabilities") for name in names):
        warn_of_kernels(model)
    compute = _jitted(model.model, tuple(names), of_output)
    known, done = sites.of(model.model), 0
    with jax.set_mesh(model.mesh):
        for indices, inputs in batches(rows, model.model, batch_size, model.mesh.devices.size):
            kept, values = jax.device_get(compute(model.params, placed(inputs, model.mesh)))
            for place, index in enumerate(indices):
                trimmed = {name: _trimmed(value[place], known[name], rows[index]) for name, value in values.items()}
                yield index, trimmed, jax.tree.map(lambda x, place=place: x[place], kept)
            done += len(indices)
            progress(done, len(rows))


def collect(model: Model, rows: Sequence[Row], names: Sequence[str], **options: Any) -> list[dict[str, np.ndarray]]:
    """The activations of each row by name, in the rows' order, in memory. `options`: as of `stream`."""
    found: list[dict[str, np.ndarray]] = [{} for _ in rows]
    for index, values, _ in stream(model, rows, names, **options):
        found[index] = values
    return found


def outputs(model: Model, rows: Sequence[Row], of_output: Callable[[Output], Any], **options: Any) -> list[Any]:
    """What is kept of each row's output, in the rows' order. `options`: as of `stream`."""
    found: list[Any] = [None for _ in rows]
    for index, _, kept in stream(model, rows, (), of_output=of_output, **options):
        found[index] = kept
    return found


def placed(inputs: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """The arrays of a batch on the devices, each of which has some of the rows."""
    return {
        key: jax.device_put(value, sharding.batch_sharding(mesh, "example", value.ndim))
        for key, value in inputs.items()
    }


def _trimmed(value: np.ndarray, site: sites.Site, row: Row) -> np.ndarray:
    lengths = dict(site.lengths)
    cut = tuple(slice(row.length(lengths[axis])) if axis in lengths else slice(None) for axis in site.axes)
    value = value[cut]
    return value if value.dtype == np.float32 else value.astype(np.float32)


def warn_of_kernels(model: Model) -> None:
    """Says that attention is XLA's where the model would use a kernel that has no probabilities to show."""
    config = model.model
    platform = model.mesh.devices.flat[0].platform
    if config.attention not in ("auto", "xla") or (config.attention == "auto" and platform in choice.MADE_FOR):
        warnings.warn(
            f"probabilities of attention are asked for, which a fused implementation (model.attention="
            f"{config.attention!r} on {platform}) does not have: XLA's attention is used",
            InputWarning,
            stacklevel=3,
        )

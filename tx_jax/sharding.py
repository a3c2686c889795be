"""The device mesh, and where every parameter, batch and activation lives on it.

Data parallelism, fully sharded parameters, tensor parallelism and sequences split along their length are shapes of one
mesh, not code paths: parameters get logical axes from `PARAM_RULES` by their path, logical axes map to mesh axes by
`MESH_AXIS_OF`, and `jax.jit` inserts the communication. `constrain` and the functions after it say where it belongs;
layers call them, and without a mesh (`jax.set_mesh`) they do nothing.

Shapes: B batch, T length, S length of keys, D model, F features, H heads, K head dim.
"""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from tx_jax import tree
from tx_jax.batch import KEYS
from tx_jax.config import ExperimentConfig, MeshConfig
from tx_jax.config.heads import CLASSIFIERS, HEAD_OF_MODULE, is_added
from tx_jax.errors import InputError

MESH_AXES = ("data", "fsdp", "context", "tensor")

# Parameter path -> logical axes, one per dimension. The first row that matches counts. Rows match the end of a path, so
# that they hold for the parameter itself and for whatever an optimizer keeps under the same path.
PARAM_RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"embeddings/token/embedding$", ("vocab", "embed")),
    (r"(masked_lm|causal_lm)/output/embedding$", ("vocab", "embed")),
    (r"(position|segment|relative)/embedding$", (None, "embed")),
    (r"embeddings/project/kernel$", (None, "embed")),
    (r"attention/(query|key|value|relative_query|relative_key)/kernel$", ("embed", "heads")),
    (r"attention/(query|key|value|relative_query|relative_key)/bias$", ("heads",)),
    (r"attention/out/kernel$", ("heads", "embed")),
    (r"mlp/(wi|gate)/kernel$", ("embed", "mlp")),
    (r"mlp/(wi|gate)/bias$", ("mlp",)),
    (r"mlp/wo/kernel$", ("mlp", "embed")),
    (r"convolution/kernel$", (None, "embed", None)),
    (r"(^|/)(masked_lm|causal_lm)/bias$", ("vocab",)),
    (rf"(^|/)({'|'.join(HEAD_OF_MODULE)})(/transform|/out)?/kernel$", ("embed", None)),
    (r"norm/(scale|bias)$", (None,)),
    (rf"(out|wo|project|convolution|transform|{'|'.join(CLASSIFIERS)})/bias$", (None,)),
)

# The Megatron layout on "tensor", parameters spread over "fsdp"; activations are split by examples and by length.
MESH_AXIS_OF = {
    "vocab": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",
    "batch": ("data", "fsdp"),
    "length": "context",
    "rows": ("data", "fsdp", "context"),  # of a batch, flattened
    None: None,
}


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes `MESH_AXES` over all devices (or those given).

    Raises:
      InputError: the axis sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in MESH_AXES]
    if -1 in sizes:
        fixed = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = len(devices) // fixed
    if math.prod(sizes) != len(devices):
        shape = ", ".join(f"mesh.{axis}={getattr(config, axis)}" for axis in MESH_AXES)
        raise InputError(f"{shape} does not fit {len(devices)} {devices[0].platform} device(s)")
    # Linen and the partitioner behind jax.jit expect Auto axes; the default is Explicit.
    return jax.make_mesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes), devices=devices)


def param_sharding(mesh: Mesh, path: str, shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of one parameter, or of an array of its shape whose path ends with the parameter's.

    Raises:
      InputError: a mesh axis does not divide the dimension it shards.
    """
    if is_added(path):
        return NamedSharding(mesh, PartitionSpec())
    axes = _logical_axes(path)
    if len(axes) != len(shape):
        raise ValueError(f"the rule for {path!r} has axes {axes}, the parameter has shape {shape}")
    for axis, size in zip(axes, shape, strict=True):
        if axis is not None and size % (parts := num_parts(mesh, axis)):
            advice = "choose another mesh"
            if axis == "vocab":
                filled = -(-size // parts) * parts
                advice += f", or fill the vocabulary up with unused tokens: --config.model.vocab_size={filled}"
            raise InputError(
                f"{path} of shape {shape}: {size} is not divisible by mesh.{MESH_AXIS_OF[axis]}={parts}; {advice}"
            )
    return NamedSharding(mesh, _spec(*axes))


def _logical_axes(path: str) -> tuple[str | None, ...]:
    """A parameter's axes by `PARAM_RULES`; for an adapter (`models/lora.py`) one axis is its kernel's, and the rank is
    not split."""
    if adapter := re.search(r"(^|/)lora/(.+)/([ab])$", path):
        inputs, outputs = tree.lookup(adapter[2], PARAM_RULES)
        return (inputs, None) if adapter[3] == "a" else (None, outputs)
    return tree.lookup(path, PARAM_RULES)


def state_sharding(mesh: Mesh, state: Any) -> Any:
    """Shardings for a whole train state: optimizer moments lie where their parameters lie, scalars everywhere.

    Raises:
      KeyError, ValueError: no rule covers an array of the state, or the rule has another number of axes.
    """

    def one(path: str, leaf: Any) -> NamedSharding:
        return param_sharding(mesh, path, leaf.shape) if leaf.ndim else NamedSharding(mesh, PartitionSpec())

    return tree.map_with_path(one, state)


def with_sharding(mesh: Mesh, shapes: Any) -> Any:
    """The same tree of `jax.ShapeDtypeStruct`s with shardings: the target to restore a checkpoint into."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, state_sharding(mesh, shapes)
    )


def bytes_per_device(arrays: Any) -> int:
    """Bytes on each device of a tree of arrays, or of shapes with shardings."""
    leaves = jax.tree.leaves(arrays)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def batch_sharding(mesh: Mesh, name: str, ndim: int) -> NamedSharding:
    """Where the array of a batch with this name lives: its examples over the data axes, its length over "context"."""
    length = (*[None] * (ndim - 2), "length") if "length" in KEYS[name].axes else ()
    return NamedSharding(mesh, _spec("batch", *length))


def batch_parts(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """Which parts of a global batch this process must load, ascending, and how many equal parts there are in all.

    Processes that differ only in how they split the model, such as along "tensor", load the same parts. The parts are
    as large as possible, so that a process usually has one; on a TPU pod, where the order of the mesh follows the
    wires, it may have several that are not neighbors.
    """
    shards = num_parts(mesh, "batch")
    places = NamedSharding(mesh, _spec("batch")).addressable_devices_indices_map((shards,))
    return _as_large_parts({rows.start or 0 for (rows,) in places.values()}, shards)


def _as_large_parts(held: set[int], shards: int) -> tuple[tuple[int, ...], int]:
    """The held shards as parts of the largest possible size that are held completely, and the number of parts."""
    for size in range(len(held), 0, -1):
        parts = {shard // size for shard in held}
        if shards % size == 0 and len(parts) * size == len(held):
            return tuple(sorted(parts)), shards // size
    raise ValueError(f"no device of this process holds a part of the batch: {held=}, {shards=}")


def check_batch_size(mesh: Mesh, name: str, rows: int) -> None:
    """Raises InputError if `rows` sequences can't be split evenly over the mesh's data axes."""
    parts = num_parts(mesh, "batch")
    if rows % parts:
        raise InputError(f"{name}={rows} is not divisible by the {parts} shards of the mesh's data axes")


def check_divisible(mesh: Mesh, config: ExperimentConfig) -> None:
    """Raises InputError if the mesh does not divide the heads or a sequence length."""
    lengths = {"data.sequence_length": (config.data.sequence_length,)}
    lengths["phases.sequence_length"] = config.phases.sequence_length
    sizes = {"tensor": {"model.num_heads": (config.model.num_heads,)}, "context": lengths}
    for axis, named in sizes.items():
        for name, values in named.items():
            for value in values:
                if value % mesh.shape[axis]:
                    raise InputError(f"{name}={value} is not divisible by mesh.{axis}={mesh.shape[axis]}")


def num_parts(mesh: Mesh | AbstractMesh, axis: str) -> int:
    """The number of parts that a logical axis is split into."""
    names = MESH_AXIS_OF[axis]
    return math.prod(mesh.shape[name] for name in ((names,) if isinstance(names, str) else names))


def _spec(*axes: str | None) -> PartitionSpec:
    return PartitionSpec(*(MESH_AXIS_OF[axis] for axis in axes))


def _mesh() -> AbstractMesh | None:
    """The mesh of `jax.set_mesh`, if it is one of ours."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.axis_names == MESH_AXES else None


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """x with its dimensions split over the mesh by their logical axes. Those that can't be split evenly stay whole."""
    mesh = _mesh()
    if mesh is None:
        return x
    even = (
        axis if axis and size % num_parts(mesh, axis) == 0 else None for axis, size in zip(axes, x.shape, strict=True)
    )
    return jax.lax.with_sharding_constraint(x, _spec(*even))


def length_parts(length: int) -> int:
    """The number of parts that sequences of this length are split into."""
    mesh = _mesh()
    parts = 1 if mesh is None else num_parts(mesh, "length")
    return 1 if length % parts else parts


def row_parts(rows: int) -> int:
    """The number of devices that rows in the order of `flatten_rows` are spread over."""
    mesh = _mesh()
    parts = 1 if mesh is None else num_parts(mesh, "rows")
    return 1 if rows % parts else parts


def shares(x: jax.Array, *axes: str | None) -> jax.Array:
    """[P, ...]: x once for each of the devices that rows are spread over, for a parameter of which each of them makes a
    summand of the gradient. The summands that several uses make are then added first, and summed over devices once.

    Args:
      axes: those of x.
    """
    mesh = _mesh()
    parts = 1 if mesh is None else num_parts(mesh, "rows")
    return constrain(jnp.broadcast_to(x[None], (parts, *x.shape)), "rows", *axes)


def of_shares(x: jax.Array, parts: int, *axes: str | None) -> jax.Array:
    """The gradient [P, ...] of `shares` from summands of rows that were split in `len(x)` parts: P, or 1 where they
    could not be split."""
    x = x if len(x) == parts else jnp.broadcast_to(x / parts, (parts, *x.shape[1:]))
    return constrain(x, "rows", *axes)


def split_axes(axis: str, size: int) -> str | tuple[str, ...] | None:
    """The mesh axes that a dimension of this size is split over; None without a mesh, or where they can't split it."""
    mesh = _mesh()
    if mesh is None or num_parts(mesh, axis) == 1 or size % num_parts(mesh, axis):
        return None
    return MESH_AXIS_OF[axis]


def splits_kernels() -> bool:
    """Whether layers are split along "tensor"."""
    mesh = _mesh()
    return mesh is not None and mesh.shape["tensor"] > 1


def gather_param(x: jax.Array, path: tuple[str, ...]) -> jax.Array:
    """A parameter as its layer needs it, gathered along "fsdp" (ZeRO-3, Rajbhandari et al. 2020).

    Without this, XLA might gather the activations instead. `path` is the parameter's; its beginning may be missing.
    """
    mesh = _mesh()
    if mesh is None or mesh.shape["fsdp"] == 1:
        return x
    axes = _logical_axes("/".join(path))
    return _gather(x, axes, tuple(None if axis == "embed" else axis for axis in axes))


def gather_length(x_BSHK: jax.Array) -> jax.Array:
    """Keys or values of whole sequences, which the queries of every part of a sequence need."""
    mesh = _mesh()
    if mesh is None or mesh.shape["context"] == 1:
        return x_BSHK
    return _gather(x_BSHK, ("batch", "length", "heads", None), ("batch", None, "heads", None))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, before: tuple[str | None, ...], after: tuple[str | None, ...]) -> jax.Array:
    """x, from the axes `before` to `after`. Of its gradient each device makes a summand, and their sum is scattered."""
    return constrain(x, *after)


_gather.defvjp(
    lambda x, before, after: (constrain(x, *after), None),
    lambda before, after, _, gradient: (constrain(constrain(gradient, *after), *before),),
)


def flatten_rows(x: jax.Array) -> jax.Array:
    """[B, T, D] -> [B T, D], or from any other leading dimensions; `unflatten_rows` undoes it.

    Where T is split, the rows are ordered by device, then B, then T: XLA would gather an array to flatten it otherwise.
    """
    if blocks := _row_blocks(x.shape[:-1]):
        x = x.reshape(*blocks, x.shape[-1]).swapaxes(1, 2)
    return x.reshape(-1, x.shape[-1])


def unflatten_rows(x: jax.Array, leading: tuple[int, ...]) -> jax.Array:
    """[B T, F] -> [B, T, F], from the order of `flatten_rows`."""
    if blocks := _row_blocks(leading):
        batch, rows, context, columns = blocks
        x = x.reshape(batch, context, rows, columns, x.shape[-1]).swapaxes(1, 2)
    return x.reshape(*leading, x.shape[-1])


def _row_blocks(leading: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """[B, T] as (parts of B, rows of each, parts of T, columns of each), where T is split."""
    mesh = _mesh()
    if mesh is None or mesh.shape["context"] == 1 or len(leading) != 2:
        return None
    batch, context = num_parts(mesh, "batch"), num_parts(mesh, "length")
    if leading[0] % batch or leading[1] % context:
        return None
    return batch, leading[0] // batch, context, leading[1] // context


def platform() -> str:
    """The devices that are compiled for: those of the mesh, if one is set, or else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = device.platform if device is not None else jax.default_backend()
    return "gpu" if name in ("cuda", "rocm") else name


def device_kind() -> str:
    """The model of these devices, such as "TPU v5 lite"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return (device or jax.devices()[0]).device_kind

"""The device mesh, and where every parameter and batch lives on it.

Data parallelism, fully sharded parameters and tensor parallelism are shapes of one mesh, not code paths: parameters
get logical axes from `PARAM_RULES` by their path, logical axes map to mesh axes by `MESH_AXIS_OF`, and `jax.jit`
inserts the communication.
"""

import math
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tx_jax import tree
from tx_jax.config import MeshConfig
from tx_jax.errors import InputError

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_SPEC = PartitionSpec(("data", "fsdp"))  # axis 0 of every array of a batch

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
    (r"(^|/)masked_lm/bias$", ("vocab",)),
    (r"(^|/)(pooler|masked_lm/transform|replaced_token/transform)/kernel$", ("embed", None)),
    (r"(^|/)(next_sentence|replaced_token/out|multiple_choice)/kernel$", ("embed", None)),
    (r"(^|/)(sequence_classification|token_classification|question_answering)/kernel$", ("embed", None)),
    (r"norm/(scale|bias)$", (None,)),
    (
        r"(out|wo|pooler|project|convolution|transform|next_sentence|multiple_choice|classification|answering)/bias$",
        (None,),
    ),
)

# The Megatron layout on "tensor", parameters spread over "fsdp".
MESH_AXIS_OF = {"vocab": "tensor", "heads": "tensor", "mlp": "tensor", "embed": "fsdp", None: None}


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
    axes = _logical_axes(path)
    if len(axes) != len(shape):
        raise ValueError(f"the rule for {path!r} has axes {axes}, the parameter has shape {shape}")
    spec = [MESH_AXIS_OF[axis] for axis in axes]
    for axis, size in zip(spec, shape, strict=True):
        if axis is not None and size % mesh.shape[axis]:
            raise InputError(
                f"{path} of shape {shape}: {size} is not divisible by mesh.{axis}={mesh.shape[axis]}; "
                "choose another mesh or pad that dimension"
            )
    return NamedSharding(mesh, PartitionSpec(*spec))


def _logical_axes(path: str) -> tuple[str | None, ...]:
    """By `PARAM_RULES`; of an adapter (`models/lora.py`) one axis is its kernel's, and the rank lies whole."""
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
    """The same tree of `jax.ShapeDtypeStruct`s, each knowing where it lives: what a checkpoint is restored into."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, state_sharding(mesh, shapes)
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches are split over the data axes along their first dimension."""
    return NamedSharding(mesh, BATCH_SPEC)


def batch_parts(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """Which parts of a global batch this process must load, ascending, and how many equal parts there are in all.

    Processes that differ only in how they split the model, as along "tensor", load the same parts. The parts are as
    large as can be, so that mostly a process has one; on a TPU pod, where the order of the mesh follows the wires, it
    may have several that are no neighbours.
    """
    axes = BATCH_SPEC[0]
    shards = math.prod(mesh.shape[axis] for axis in axes)
    places = NamedSharding(mesh, PartitionSpec(axes)).addressable_devices_indices_map((shards,))
    return _as_large_parts({rows.start or 0 for (rows,) in places.values()}, shards)


def _as_large_parts(held: set[int], shards: int) -> tuple[tuple[int, ...], int]:
    """The shards that are held, as parts of the largest size in which they come whole, and the number of parts."""
    for size in range(len(held), 0, -1):
        parts = {shard // size for shard in held}
        if shards % size == 0 and len(parts) * size == len(held):
            return tuple(sorted(parts)), shards // size
    raise ValueError(f"no device of this process holds a part of the batch: {held=}, {shards=}")


def check_batch_size(mesh: Mesh, name: str, rows: int) -> None:
    """Raises InputError where `rows` sequences can't be split evenly over the mesh's data axes."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % shards:
        raise InputError(f"{name}={rows} is not divisible by the {shards} shards of the mesh's data axes")

"""Run in a process of its own with 8 virtual devices: prints by how much the TPU kernels on a mesh differ from plain
attention on one device, as JSON.

python -m tests.nn.attention.sharded
"""

import functools
import json

import jax
import numpy as np

from tests.nn.attention import plain, relative
from tx_jax import sharding
from tx_jax.config import MeshConfig
from tx_jax.nn.attention import relative_scores, rows, splash, xla
from tx_jax.nn.dropout import dropout_key
from tx_jax.nn.masks import Mask


def attend_relative(*arrays: jax.Array, dropout_key: None = None, interpret: bool = False) -> jax.Array:
    by_kernels = functools.partial(relative_scores.attend, interpret=True)
    return relative.attend(*arrays, by_kernels if interpret else xla.attend)


DROPOUT = {"dropout_rate": 0.2, "dropout_key": dropout_key(1)}
# name: (function, batch, heads, options)
RUNS = {
    "splash": (splash.attend, 4, 4, {}),
    "relative": (attend_relative, 4, 4, {}),
    "relative, a batch that the mesh does not divide": (attend_relative, 3, 4, {}),
    "rows": (rows.attend, 4, 4, DROPOUT),
    "rows, a batch that the mesh does not divide": (rows.attend, 3, 4, DROPOUT),
    "rows, heads that the mesh does not divide": (rows.attend, 4, 3, DROPOUT),
}


def difference(function, batch: int, heads: int, options: dict) -> dict[str, float]:
    """The largest difference of each array, relative to its root mean square."""
    inputs = plain.arrays((batch, 128, heads, 64))
    mask = Mask(valid_BS=plain.lengths(batch, 128))
    plainly = attend_relative if function is attend_relative else plain.attend
    expected = plain.value_and_gradients(plainly, *inputs, mask, **options)
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, context=1, tensor=2))
    with jax.set_mesh(mesh):
        placed = [jax.device_put(np.asarray(x), jax.NamedSharding(mesh, jax.P())) for x in inputs]
        actual = plain.value_and_gradients(functools.partial(function, interpret=True), *placed, mask, **options)
    return {
        name: float(np.abs(a - b).max() / np.sqrt((b**2).mean()))
        for name, a, b in zip(plain.NAMES, actual, expected, strict=True)
    }


if __name__ == "__main__":
    relative_scores.pltpu.roll = relative.rotate
    print(json.dumps({name: difference(*run) for name, run in RUNS.items()}))

"""Run as several processes: each loads its rows of a batch on several meshes, and compares what comes to lie on its
devices with the batch that one process builds whole. Prints which parts of the batch it loaded, as JSON.

python -m tests.multihost.placement STORE --coordinator=… --num_processes=… --process_id=…
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from configs import bert_base
from tx_jax import sharding
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.evaluation.evaluate import device_batch, evaluate, held_out, jit_eval_step, local_batches
from tx_jax.hosts import distributed
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import init_state


def woven(mesh: Mesh) -> Mesh:
    """The same shape with the devices in an order in which those of one process are no neighbors."""
    devices = mesh.devices.reshape(jax.process_count(), -1).T.reshape(mesh.devices.shape)
    return Mesh(devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def main(store: str, *arguments: str) -> None:
    options = dict(argument.removeprefix("--").split("=") for argument in arguments)
    distributed.start(
        options["coordinator"],
        int(options["num_processes"]),
        int(options["process_id"]),
        silence_seconds=30,
        report=print,
    )
    c = bert_base.get_config("smoke")
    c.model.vocab_size, c.data.store = 200, store
    config = from_config_dict(c)
    task = MaskedLM(config, TokenStore.open(store))
    whole = task.batches("train", batch_size=16, repeat=True).batch_at(3)
    meshes = {name: sharding.make_mesh(MeshConfig(**shape)) for name, shape in SHAPES.items()}
    meshes["woven"] = woven(meshes["data"])
    found = {}
    for name, mesh in meshes.items():
        placed = device_batch(local_batches(task, "train", mesh, batch_size=16, repeat=True).batch_at(3), mesh)
        for key, array in placed.items():
            assert array.shape == whole[key].shape, (name, key)
            for shard in array.addressable_shards:
                np.testing.assert_array_equal(shard.data, whole[key][shard.index], err_msg=f"{name}, {key}")
        found[name] = sharding.batch_parts(mesh)
    mesh = meshes["data x fsdp x tensor"]
    with jax.set_mesh(mesh):
        params = init_state(task.objective, Optimizer(config), 0, mesh).params
        batches = local_batches(task, "validation", mesh, batch_size=16, repeat=False)
        found["held out"] = evaluate(jit_eval_step(task.objective, mesh), params, held_out(batches, 0), mesh)
    print(json.dumps(found))
    distributed.stop()


SHAPES = {
    "data": {"data": 8, "fsdp": 1, "tensor": 1},
    "tensor": {"data": 1, "fsdp": 1, "tensor": 8},
    "data x fsdp x tensor": {"data": 2, "fsdp": 2, "tensor": 2},
    "data x tensor": {"data": 2, "fsdp": 1, "tensor": 4},
    "context": {"data": 1, "fsdp": 1, "tensor": 1, "context": 8},  # one row lies on several processes
    "data x context": {"data": 2, "fsdp": 1, "tensor": 1, "context": 4},
}

if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run in a process of its own with 8 virtual devices: one train step of a family on each of some meshes, as JSON.

python -m tests.multidevice.sharded FAMILY MESH...
"""

import dataclasses
import functools
import json
import math
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import bert_base
from tests.models import small
from tests.multidevice import families
from tests.multidevice.families import EXAMPLES, LENGTH, VOCABULARY
from tx_jax import sharding, tree
from tx_jax.config import ExperimentConfig, MeshConfig, TransformerConfig, from_config_dict
from tx_jax.evaluation.evaluate import device_batch
from tx_jax.nn import cross_entropy
from tx_jax.nn.dropout import dropout_key
from tx_jax.planning import hlo
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import TrainState
from tx_jax.training.step import train_step

COLLECTIVE = re.compile(
    r"= (?P<shapes>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)


def collectives(hlo: str) -> list[tuple[str, list[tuple[str, tuple[int, ...]]], str]]:
    """(kind, the dtype and shape of each array, the operation it belongs to) of each collective of a program."""
    found = []
    for line in hlo.splitlines():
        if match := COLLECTIVE.search(line):
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match["shapes"])
            shapes = [(dtype, tuple(int(size) for size in sizes.split(",") if size)) for dtype, sizes in arrays]
            operation = re.search(r'op_name="([^"]*)"', line)
            found.append((match["kind"], shapes, operation[1] if operation else ""))
    return found


def experiment(model: TransformerConfig) -> ExperimentConfig:
    c = bert_base.get_config("smoke")
    c.model.heads = ("masked_lm",)
    c.data.packing = "full_sentences"
    c.optimizer.update(learning_rate=1e-2, warmup_steps=0, clip_norm=0.0, beta1=0.5)
    # Adam's first update is g / (|g| + eps): eps is far above the rounding of a gradient of 0, as of a key's bias.
    c.optimizer.eps = 1e-2
    config = from_config_dict(c)
    packing = (
        "chunks" if "causal_lm" in model.heads else "pairs" if "next_sentence" in model.heads else "full_sentences"
    )
    return dataclasses.replace(config, model=model, data=dataclasses.replace(config.data, packing=packing))


CHUNK = VOCABULARY * EXAMPLES * LENGTH // 32  # of logits: 32 chunks on one device, 4 on each of 8


def run(family: str, config: MeshConfig) -> tuple[dict, dict]:
    """The loss, gradients and new parameters of one step, and the bytes that are summed over devices, counting every
    iteration of a loop; and the step's collectives."""
    model = families.FAMILIES[family]
    if "chunks" in family:
        cross_entropy.CHUNK = CHUNK
    size = math.prod((config.data, config.fsdp, config.tensor, config.context))
    mesh = sharding.make_mesh(config, jax.devices()[:size])
    params = small.params(model)
    optimizer = Optimizer(experiment(model))
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    state = jax.device_put(state, sharding.state_sharding(mesh, state))
    step = functools.partial(train_step, objective=families.AllHeads(model), optimizer=optimizer, accumulation_steps=1)
    with jax.set_mesh(mesh):
        batch = device_batch(families.batch(), mesh)
        compiled = jax.jit(step).lower(state, batch, dropout_key(0)).compile()
        new, metrics = compiled(state, batch, dropout_key(0))
    new = jax.device_get(new)
    # Adam's first moment is (1 - b1) times the first gradient.
    gradients = jax.tree.map(lambda moment: 2 * moment, optax.tree.get(new.opt_state, "mu"))
    values = {"loss": metrics["loss"].mean(), "gradients": gradients, "params": new.params}
    text = compiled.as_text()
    values["reduced"] = sum(each.bytes for each in hlo.read(text).collectives if each.kind == "all-reduce")
    return values, collectives(text)


def difference(actual: dict, expected: dict) -> float:
    """The largest of any element, in units of the largest expected one."""
    leaves = jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), actual, expected))
    return max(leaves) / max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))


def main(family: str, *meshes: str) -> dict:
    """The first mesh is the one that the others are compared with."""
    results, expected = {}, None
    for name in meshes:
        values, found = run(family, families.MESHES[name])
        expected = values if expected is None else expected
        results[name] = {
            "loss": values["loss"],
            "gradients": difference(values["gradients"], expected["gradients"]),
            "params": difference(values["params"], expected["params"]),
            "collectives": found,
            "reduced": values["reduced"],
        }
    before = tree.flatten(small.params(families.FAMILIES[family]))
    moved = {path: float(np.abs(leaf - before[path]).max()) for path, leaf in tree.flatten(expected["params"]).items()}
    return {"meshes": results, "still": [path for path, by in moved.items() if by < 1e-5]}


if __name__ == "__main__":
    assert len(jax.devices()) == 8
    print(json.dumps(main(*sys.argv[1:])))

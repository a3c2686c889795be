"""What each process loads, with 2 processes of 4 devices and with 4 of 2."""

import functools
import json

import jax
import pytest

from tests.multihost import launch
from tx_jax import sharding
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.evaluation.evaluate import evaluate, held_out, jit_eval_step
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import init_state

# Parts of how many, for each process.
PARTS = {
    (2, 4): {
        "data": [([0], 2), ([1], 2)],
        "tensor": [([0], 1), ([0], 1)],
        "data x fsdp x tensor": [([0], 2), ([1], 2)],
        "data x tensor": [([0], 2), ([1], 2)],
        "context": [([0], 1), ([0], 1)],
        "data x context": [([0], 2), ([1], 2)],
        "woven": [([0, 2, 4, 6], 8), ([1, 3, 5, 7], 8)],
    },
    (4, 2): {
        "data": [([0], 4), ([1], 4), ([2], 4), ([3], 4)],
        "tensor": [([0], 1)] * 4,
        "data x fsdp x tensor": [([0], 4), ([1], 4), ([2], 4), ([3], 4)],
        "data x tensor": [([0], 2), ([0], 2), ([1], 2), ([1], 2)],
        "context": [([0], 1)] * 4,
        "data x context": [([0], 2), ([0], 2), ([1], 2), ([1], 2)],
        "woven": [([0, 4], 8), ([1, 5], 8), ([2, 6], 8), ([3, 7], 8)],
    },
}


@functools.cache
def evaluated_alone(store):
    from configs import bert_base

    c = bert_base.get_config("smoke")
    c.model.vocab_size = 200
    config = from_config_dict(c)
    task = MaskedLM(config, store)
    mesh = sharding.make_mesh(MeshConfig(1, 1, 1))
    with jax.set_mesh(mesh):
        params = init_state(task.objective, Optimizer(config), 0, mesh).params
        batches = task.batches("validation", batch_size=16, repeat=False)
        return evaluate(jit_eval_step(task.objective, mesh), params, held_out(batches, 0), mesh)


@pytest.mark.long
@pytest.mark.parametrize("topology", PARTS)
def test_every_process_loads_what_its_devices_hold(tiny_store, topology):
    processes, devices = topology
    ended = launch.run("tests.multihost.placement", [str(tiny_store.path)], processes=processes, devices=devices)
    assert [process.code for process in ended] == [0] * processes, "\n".join(p.output[-2000:] for p in ended)
    found = [json.loads(process.output.splitlines()[-1]) for process in ended]
    for name, expected in PARTS[topology].items():
        assert [(parts[name][0], parts[name][1]) for parts in found] == expected, name
    for process in found:
        assert process["held out"] == pytest.approx(evaluated_alone(tiny_store), rel=1e-5)  # float32 sums


def test_shards_are_taken_in_the_largest_parts_that_come_whole():
    assert sharding._as_large_parts({0, 1, 4, 5}, 16) == ((0, 2), 8)
    assert sharding._as_large_parts({1, 2}, 4) == ((1, 2), 4)
    assert sharding._as_large_parts({0, 1, 2}, 9) == ((0,), 3)
    with pytest.raises(ValueError, match="no device of this process"):
        sharding._as_large_parts(set(), 4)

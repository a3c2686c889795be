"""Run in a process of its own with 8 virtual devices: prints the losses of a few steps on several meshes as JSON.

python -m tests.multidevice.losses STORE
"""

import json
import sys

import jax

from configs import bert_base
from tx_jax import sharding
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.evaluation.evaluate import device_batch, evaluate, held_out, jit_eval_step
from tx_jax.nn.dropout import dropout_key
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import init_state
from tx_jax.training.step import jit_train_step

# name: (devices, data, fsdp, tensor, accumulation steps, dropout, rank of adapters)
RUNS = {
    "one": (1, 1, 1, 1, 1, 0.0, 0),
    "data": (8, 8, 1, 1, 1, 0.0, 0),
    "data, accumulated": (8, 8, 1, 1, 2, 0.0, 0),
    "data x fsdp x tensor": (8, 2, 2, 2, 1, 0.0, 0),
    "one, dropout": (1, 1, 1, 1, 1, 0.1, 0),
    "data, dropout": (8, 8, 1, 1, 1, 0.1, 0),
    "one, adapters": (1, 1, 1, 1, 1, 0.0, 4),
    "data x fsdp x tensor, adapters": (8, 2, 2, 2, 1, 0.0, 4),
}


def run(
    store: TokenStore,
    devices: int,
    data: int,
    fsdp: int,
    tensor: int,
    accumulation_steps: int,
    dropout: float,
    rank: int,
):
    c = bert_base.get_config("smoke")
    c.model.vocab_size = store.vocab_size
    c.model.num_layers = 1
    c.model.dropout = c.model.attention_dropout = dropout
    c.optimizer.learning_rate = 1e-2
    if rank:
        c.lora.update(rank=rank, alpha=32.0, dropout=0.1)
        c.lora.update(targets=("layer_0/.*kernel$",), also_train=("^masked_lm/",))
        c.start_from = "nothing, in truth"
    c.training.num_steps = 10
    c.training.accumulation_steps = accumulation_steps
    config = from_config_dict(c)
    mesh = sharding.make_mesh(MeshConfig(data, fsdp, tensor), jax.devices()[:devices])
    task = MaskedLM(config, store)
    optimizer = Optimizer(config)
    with jax.set_mesh(mesh):
        state = init_state(task.objective, optimizer, 0, mesh)
        step = jit_train_step(config, task.objective, optimizer)
        batches = task.batches("train", batch_size=16, repeat=True)
        losses = []
        for i in range(4):
            state, metrics = step(state, device_batch(batches.batch_at(i), mesh), dropout_key(0))
            losses.append(metrics["loss"].mean())
        held = None
        if not dropout:  # which evaluation has none of
            validation = task.batches("validation", batch_size=16, repeat=False)
            held = evaluate(jit_eval_step(task.objective, mesh), state.params, held_out(validation, 0), mesh)
    kernel = state.params["encoder"]["layer_0"]["mlp"]["wi"]["kernel"]
    return {
        "losses": losses,
        "held_out": held,
        "kernel_shard": kernel.addressable_shards[0].data.shape,
        "kernel_shape": kernel.shape,
    }


if __name__ == "__main__":
    assert len(jax.devices()) == 8
    store = TokenStore.open(sys.argv[1])
    print(json.dumps({name: run(store, *values) for name, values in RUNS.items()}))

"""Run in a process of its own with 8 virtual devices: prints losses and scores of translation on several meshes.

python -m tests.multidevice.translation FOLDER
"""

import json
import sys
from pathlib import Path

import jax

from configs import transformer_base
from tests.data.translation import pairs
from tests.models import small
from tx_jax import sharding
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.data.translation.store import PairStore
from tx_jax.evaluation.evaluate import device_batch, evaluate, held_out, jit_eval_step
from tx_jax.nn.dropout import dropout_key
from tx_jax.tasks.translation import Translation
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import init_state
from tx_jax.training.step import jit_train_step

STEPS = 4
# name: (devices, data, fsdp, tensor, context, accumulation steps)
RUNS = {
    "one": (1, 1, 1, 1, 1, 1),
    "data, accumulated": (4, 4, 1, 1, 1, 2),
    "fsdp x tensor x context": (8, 1, 2, 2, 2, 1),
}


def run(store: PairStore, devices: int, *sizes: int):
    data, fsdp, tensor, context, accumulation_steps = sizes
    c = transformer_base.get_config("smoke")
    c.data.store, c.model.vocab_size = str(store.path), 40
    c.model.dropout = 0.0  # other microbatches have other masks
    c.optimizer.learning_rate, c.optimizer.warmup_share = 1e-2, 0.0
    c.training.accumulation_steps = accumulation_steps
    config = from_config_dict(c)
    mesh = sharding.make_mesh(MeshConfig(data, fsdp, tensor, context), jax.devices()[:devices])
    task = Translation(config, store)
    optimizer = Optimizer(config)
    with jax.set_mesh(mesh):
        state = init_state(task.objective, optimizer, 0, mesh)
        step = jit_train_step(config, task.objective, optimizer)
        batches = task.batches("train", batch_size=8, repeat=True)
        losses, lengths = [], []
        for i in range(STEPS):
            batch = batches.batch_at(i)
            state, metrics = step(state, device_batch(batch, mesh), dropout_key(0))
            losses.append(metrics["loss"].mean())
            lengths.append(batch["tokens"].shape[1])
        part = task.batches("validation", batch_size=8, repeat=False)
        outputs: dict = {}

        def scores(found: dict) -> dict[str, float]:
            outputs.update(found)
            return task.scores(found, split="validation")

        # Noise instead of what was learned, so that translations have words.
        noise = small.params(config.model)
        noise = jax.device_put(noise, sharding.state_sharding(mesh, noise))
        held = evaluate(jit_eval_step(task.objective, mesh), noise, held_out(part, 0), mesh, scores)
    translations = outputs["translation"].tolist()
    return {"losses": losses, "lengths": lengths, "held_out": held, "translations": translations}


if __name__ == "__main__":
    store = pairs.store(Path(sys.argv[1]))
    print(json.dumps({name: run(store, *values) for name, values in RUNS.items()}))

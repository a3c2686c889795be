"""What a prediction loses without a head, an attention layer, an MLP or a whole layer (Michel et al. 2019; Meyes et al.
2019, "Ablation Studies in Artificial Neural Networks").

Shapes: L layers, H heads, B batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError
from tx_jax.interpret import capture, predictions, sites
from tx_jax.interpret.capture import BATCH_SIZE
from tx_jax.interpret.predictions import Question
from tx_jax.interpret.texts import batches

PARTS = ("heads", "attention", "mlp", "layers")


def gated_heads(config: TransformerConfig, gates_LH: jax.Array) -> dict[str, capture.Write]:
    """Writes that multiply what each head has read by a number."""
    stack = sites.only_stack(config)
    return {
        f"{stack}/layer_{i}/attention/heads": lambda x, i=i: x * gates_LH[i][None, None, :, None].astype(x.dtype)
        for i in range(config.num_layers)
    }


def gated_parts(config: TransformerConfig, attention_L: jax.Array, mlp_L: jax.Array) -> dict[str, capture.Write]:
    """Writes that multiply by a number what each layer's attention and MLP add to the residual stream."""
    stack = sites.only_stack(config)
    gates = {"attention": attention_L, "mlp": mlp_L}
    return {
        f"{stack}/layer_{i}/{part}/output": lambda x, i=i, gate=gate: x * gate[i].astype(x.dtype)
        for i in range(config.num_layers)
        for part, gate in gates.items()
    }


def ablate(
    model: capture.Model,
    questions: Sequence[Question],
    part: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """The change of each answer's score without each part, [questions, L, H] for heads and [questions, L] for others,
    and the scores of the whole model [questions]. Negative: the part helped. See `predictions.scores`.

    Args:
      part: of `PARTS`; "layers" leaves out both attention and MLP, so that only their norms remain.

    Raises:
      InputError: there is no such part, or the model has two stacks.
    """
    if part not in PARTS:
        raise InputError(f"{part!r} cannot be ablated: {', '.join(PARTS)} can")
    config, head = model.model, predictions.head_of(model)
    layers, heads = config.num_layers, config.num_heads
    compute = _scores(config, head, questions[0].wrong is not None)
    units: list[tuple[int, ...]] = list(np.ndindex((layers, heads) if part == "heads" else (layers,)))
    results, done = np.zeros((len(questions), len(units) + 1)), 0
    with jax.set_mesh(model.mesh):
        for indices, inputs in batches([q.row for q in questions], config, BATCH_SIZE, model.mesh.devices.size):
            asked = [questions[i] for i in np.resize(indices, len(inputs["tokens"]))]
            inputs = capture.placed(inputs, model.mesh)
            for number, unit in enumerate([None, *units]):
                gates = [np.ones((layers, heads), np.float32), *np.ones((2, layers), np.float32)]
                for gate in gates_of(part) if unit is not None else ():
                    gates[gate][unit] = 0
                found = compute(model.params, inputs, *predictions.arrays(asked), *gates)
                results[indices, number] = np.asarray(found)[: len(indices)]
                done += len(indices)
                progress(done, results.size)
    shape = (len(questions), layers, heads) if part == "heads" else (len(questions), layers)
    return (results[:, 1:] - results[:, :1]).reshape(shape), results[:, 0]


def gates_of(part: str) -> tuple[int, ...]:
    """Which of the gates on heads, attention and MLP a part closes."""
    return {"heads": (0,), "attention": (1,), "mlp": (2,), "layers": (1, 2)}[part]


@functools.lru_cache(maxsize=8)
def _scores(config: TransformerConfig, head: str, compares: bool) -> Callable:
    def scores(
        params: Any,
        inputs: Any,
        places: jax.Array,
        answers: jax.Array,
        wrong: jax.Array,
        heads_LH: jax.Array,
        attention_L: jax.Array,
        mlp_L: jax.Array,
    ) -> jax.Array:
        write = gated_heads(config, heads_LH) | gated_parts(config, attention_L, mlp_L)
        output, _ = capture.run(config, params, inputs, write=write)
        return predictions.scores(output, head, places, answers, wrong if compares else None)

    return jax.jit(scores)

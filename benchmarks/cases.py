"""The models that are measured beside PyTorch, their batches, and our train step on them.

Shapes: B batch, T length, P predictions.
"""

import dataclasses
import importlib
from typing import Any

import numpy as np

MINI = {"dim": 256, "num_layers": 4, "num_heads": 4, "mlp_dim": 1024, "vocab_size": 8192}
WITHOUT_DROPOUT = ("cudnn", "splash")
TINY = {"dim": 64, "num_layers": 2, "num_heads": 2, "mlp_dim": 128, "vocab_size": 512}  # seconds on a CPU


@dataclasses.dataclass(frozen=True)
class Case:
    """A recipe of configs/ at one batch size and length, with changes of its model."""

    recipe: str
    batch_size: int
    length: int
    predictions: int = 0
    model: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self, dtype: str, *, dropout: bool = True, attention: str = "") -> Any:
        """The experiment, an ExperimentConfig, with the recipe's optimizer.

        Args:
          dropout: False for none, so that two implementations can be compared.
          attention: the implementation of attention; empty: the recipe's. A fused one has no dropout of its own, so
            attention_dropout is 0 then, for both sides.
        """
        from tx_jax.config import from_config_dict

        c = importlib.import_module(f"configs.{self.recipe}").get_config()
        importlib.import_module("configs.bert_base").one_phase(c)
        c.model.update(self.model | {"dtype": dtype, "max_length": max(self.length, c.model.max_length)})
        if not dropout:
            c.model.update(dropout=0.0, attention_dropout=0.0)
        if attention:
            c.model.attention = attention
        if attention in WITHOUT_DROPOUT:
            c.model.attention_dropout = 0.0
        c.data.sequence_length = self.length
        c.data.max_predictions = self.predictions or c.data.max_predictions
        c.training.batch_size = self.batch_size
        c.optimizer.clip_norm = 1.0  # RoBERTa's recipe has none, but all sides shall do the same
        return from_config_dict(c)


CASES = {
    "bert_mini": Case("bert_base", 16, 128, 20, MINI),
    "roberta_mini": Case("roberta_base", 16, 128, 20, MINI),
    "gpt2_mini": Case("gpt2_small", 16, 128, 0, MINI),
    "quickstart": Case("quickstart", 32, 64, 10),
    "bert_base": Case("bert_base", 128, 128, 20),
    "bert_base_512": Case("bert_base", 32, 512, 77),
    "bert_large": Case("bert_large", 64, 128, 20),
    "roberta_base": Case("roberta_base", 32, 512, 77),
    "gpt2_small": Case("gpt2_small", 16, 1024),
    "bert_tiny": Case("bert_base", 4, 32, 5, TINY),
    "roberta_tiny": Case("roberta_base", 4, 32, 5, TINY),
    "gpt2_tiny": Case("gpt2_small", 4, 32, 0, TINY),
}


def random_batch(config: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of random tokens in full rows, with as many predictions as the configuration allows."""
    from tx_jax.tasks.registry import objective_of

    rng, phase = np.random.default_rng(seed), config.training_phases[0]
    batch = {}
    for key, shape in objective_of(config).batch_shapes(phase).items():
        if key in ("tokens", "targets", "masked_targets"):
            values = rng.integers(5, config.model.vocab_size, shape.shape)
        elif key in ("segments", "next_sentence_labels"):
            values = rng.integers(0, 2 if config.model.num_segments > 1 else 1, shape.shape)
        elif key == "masked_positions":
            values = np.argsort(rng.random((shape.shape[0], phase.data.sequence_length)))[:, : shape.shape[1]]
        else:
            values = np.zeros(shape.shape) if key == "masked_dropped" else np.ones(shape.shape)
        batch[key] = values.astype(shape.dtype)
    if "targets" in batch:  # the next token, as the library that it is compared with derives it
        batch["targets"][:, :-1], batch["target_weights"][:, -1] = batch["tokens"][:, 1:], 0
    return batch


class OurStep:
    """Our train step on one batch, compiled; a call runs one step and waits for it."""

    def __init__(self, config: Any, batch: dict[str, np.ndarray]):
        import jax

        from tx_jax import sharding
        from tx_jax.evaluation.evaluate import device_batch
        from tx_jax.nn.dropout import dropout_key
        from tx_jax.tasks.registry import objective_of
        from tx_jax.training.optimizer import Optimizer
        from tx_jax.training.state import init_state
        from tx_jax.training.step import jit_train_step

        self.objective, optimizer = objective_of(config), Optimizer(config)
        self.mesh = sharding.make_mesh(config.mesh)
        with jax.set_mesh(self.mesh):
            self.state = init_state(self.objective, optimizer, config.seed, self.mesh)
            self._batch, self._rng = device_batch(batch, self.mesh), dropout_key(config.seed)
            step = jit_train_step(config, self.objective, optimizer)
            self.compiled = step.lower(self.state, self._batch, self._rng).compile()  # pyrefly: ignore

    def __call__(self) -> float:
        """The loss before the update."""
        import jax

        with jax.set_mesh(self.mesh):
            self.state, metrics = self.compiled(self.state, self._batch, self._rng)
        return metrics["loss"].mean()

    def first_loss(self, config: Any) -> float:
        """The loss of the present parameters on the batch without dropout, in another configuration of the model."""
        import jax

        from tx_jax.tasks.base import total_loss
        from tx_jax.tasks.registry import objective_of

        objective = objective_of(config)

        def loss(params: Any, batch: Any) -> Any:
            return total_loss(objective.metrics(params, batch, dropout_rng=None), objective.loss_weights(batch))

        with jax.set_mesh(self.mesh):
            return float(jax.jit(loss)(self.state.params, self._batch))

    def params(self) -> dict[str, np.ndarray]:
        """Copies of the parameters by path."""
        from tx_jax import tree

        return {path: np.array(value) for path, value in tree.flatten(self.state.params).items()}

"""Fine-tuning to choose the right continuation of a text (Devlin et al. 2018, section 4.4).

Shapes: B batch, C choices, T sequence length.
"""

import dataclasses
from collections.abc import Sequence

import jax

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig
from tx_jax.data.labeled import choices
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError
from tx_jax.tasks import scores
from tx_jax.tasks.classification import Classification, ClassificationObjective
from tx_jax.tasks.supervised import Record


class MultipleChoiceObjective(ClassificationObjective):
    """Trains the head `multiple_choice`: the scores of an example's choices compete in a softmax."""

    head = "multiple_choice"
    options = ("choices",)

    def check(self) -> None:
        super().check()
        if not self.data.choices:
            raise InputError(
                "task='multiple_choice' needs the columns of the choices, --config.data.choices=\"('a', 'b')\""
            )

    @property
    def pairs(self) -> bool:
        return True  # the context and a choice

    def logits(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> jax.Array:
        """[B, C], float32: each choice is a row of its own for the model."""
        shape = batch["tokens"].shape
        rows = {name: batch[name].reshape(-1, shape[2]) for name in ("tokens", "segments", "valid") if name in batch}
        return self.apply(params, rows, dropout_rng=dropout_rng).logits[self.head].reshape(shape[:2])


class MultipleChoice(Classification):
    """Labels are the numbers of the choices.

    Raises:
      InputError: the configuration does not have as many labels as choices.
    """

    objective_class = MultipleChoiceObjective
    usual_metrics = ("accuracy",)

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        data = config.labeled
        labels = data.labels or tuple(map(str, range(len(data.choices))))
        if len(labels) != len(data.choices):
            raise InputError(f"data.labels={labels} must name each of data.choices={data.choices}")
        scores.check(data.metrics, self.known_scores, len(labels))
        return dataclasses.replace(config, data=dataclasses.replace(data, labels=labels))

    def encode(self, records: Sequence[Record], *, labeled: bool) -> Table:
        return choices.table(
            records,
            self.data,
            self.tokenizer,
            segments=self.config.model.num_segments > 1,
            targets={"labels": self.targets(records)} if labeled else {},
        )

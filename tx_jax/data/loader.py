"""From (seed, step) to a batch, and nothing else: resuming needs only the step, on any number of hosts.

Shapes: B examples of this process, T sequence length, P predictions.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tx_jax.config import DataConfig
from tx_jax.data.corpus import TokenStore
from tx_jax.data.masking import Masking, mask_tokens
from tx_jax.data.packing import DocSentences
from tx_jax.data.pairs import SentencePairs
from tx_jax.data.rng import RowRandom, hash_text, keys, permute

Batch = dict[str, np.ndarray]

_ORDER, _CORRUPTION = hash_text("order"), hash_text("corruption")


class Examples(Protocol):
    """A numbered set of examples, any of which can be built alone."""

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray, rng: RowRandom) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class MaskedLMBatches:
    """Batches for pretraining an encoder.

    Attributes:
      batch_size: examples of a global batch, over all processes.
      repeat: True: epochs without end, each in another order. False: each example once, in a fixed random order (so
        that the first batches alone are a fair sample); the last batch is filled up with examples of weight 0.
      dupe_factor: 0 masks each epoch anew (dynamic). Otherwise epochs e and e + dupe_factor are masked alike (static).
      process, num_processes: which equal part of each global batch this process builds.
    """

    examples: Examples
    masking: Masking
    batch_size: int
    seed: int
    repeat: bool
    dupe_factor: int
    process: int = 0
    num_processes: int = 1

    def __post_init__(self):
        if self.batch_size % self.num_processes:
            raise ValueError(f"{self.batch_size=} is not divisible by {self.num_processes=}")

    def __len__(self) -> int:
        """Batches of one pass."""
        return -(-len(self.examples) // self.batch_size)

    def batch_at(self, step: int) -> Batch:
        """This process's rows of the global batch of a step. The keys are described in `tx_jax/tasks/base.py`."""
        local = self.batch_size // self.num_processes
        number = step * self.batch_size + self.process * local + np.arange(local)
        epoch, index = np.divmod(number, len(self.examples))
        weights = np.ones(local, np.float32)
        if not self.repeat:
            weights = (epoch == 0).astype(np.float32)
            epoch = np.zeros_like(epoch)
        index = permute(index, len(self.examples), keys(self.seed, _ORDER, epoch))
        copy = epoch % self.dupe_factor if self.dupe_factor else epoch
        rng = RowRandom(keys(self.seed, _CORRUPTION, copy, index))
        batch = self.examples.rows(index, rng)
        batch |= mask_tokens(batch["tokens"], batch["valid"], self.masking, rng)
        batch["masked_weights"] *= weights[:, None]
        return batch | {"example_weights": weights}


def masked_lm_batches(
    store: TokenStore, split: str, config: DataConfig, *, batch_size: int, seed: int, repeat: bool, **processes: int
) -> MaskedLMBatches:
    """The batches that a data configuration describes. `processes`: see `MaskedLMBatches`."""
    tokenizer = store.tokenizer()
    part = store.split(split)
    specials = {"pad_id": tokenizer.pad_id, "cls_id": tokenizer.cls_id, "sep_id": tokenizer.sep_id}
    if config.packing == "pairs":
        examples: Examples = SentencePairs(
            part,
            sequence_length=config.sequence_length,
            short_sequence_probability=config.short_sequence_probability,
            **specials,
        )
    else:
        examples = DocSentences(part, sequence_length=config.sequence_length, **specials)
    masking = Masking(
        rate=config.mask_rate,
        max_predictions=config.max_predictions,
        replace_with_mask=config.replace_with_mask,
        replace_with_random=config.replace_with_random,
        mask_id=tokenizer.mask_id,
        vocab_size=store.vocab_size,
        special_ids=tokenizer.special_ids,
    )
    dupe_factor = config.dupe_factor if config.masking == "static" else 0
    return MaskedLMBatches(examples, masking, batch_size, seed, repeat, dupe_factor, **processes)


def read_ahead(batches: Any, start: int, stop: int, depth: int) -> Iterator[Batch]:
    """`batches.batch_at(step)` for start <= step < stop, built by a thread `depth` batches before they are needed."""
    import grain  # here, for grain imports jax, and the rest of tx_jax.data runs without it

    steps = grain.MapDataset.range(start, stop).map(batches.batch_at)
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=depth)))

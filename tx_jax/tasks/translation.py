"""Translation with an encoder-decoder (Vaswani et al. 2017): each token of the target, from the source and those
before it."""

import logging
import math
from collections.abc import Iterable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig, Phase, TranslationDataConfig, skipped
from tx_jax.data.loader import phase_seed
from tx_jax.data.translation.batches import PairBatches
from tx_jax.data.translation.store import PairStore
from tx_jax.decoding import sampling
from tx_jax.decoding.prompts import NEW_TOKENS_BEYOND_SOURCE
from tx_jax.decoding.steps import Prompts, Writable, for_decoding
from tx_jax.errors import InputError
from tx_jax.models import forward, registry
from tx_jax.models.output import Output
from tx_jax.nn.cross_entropy import OutputLayer
from tx_jax.tasks.base import Metrics, Objective, WeightedSum
from tx_jax.tasks.pretraining import entropy, language_modeling
from tx_jax.tasks.translation_scores import scores
from tx_jax.text.tokenizer import Tokenizer

GIVEN = 2  # tokens of a target that are not predicted, at most: the start, and one that always follows it
SHOWN = 3  # translations beside their references, in the log
_logger = logging.getLogger(__name__)


class TranslationObjective(Objective):
    """Cross entropy with label smoothing.

    Reported beside it are the cross entropy without smoothing, whose perplexities a token, a byte and a word follow
    from, and greedy translations, if `data.metrics` asks for what is computed from them.
    """

    head = "causal_lm"

    def check(self) -> None:
        config, task = self.config, self.config.task
        if not isinstance(config.data, TranslationDataConfig):
            raise InputError(f"task={task!r} learns from a store of pairs, which configs/transformer_base.py shows")
        if config.model.architecture != "encoder_decoder":
            raise InputError(
                f"task={task!r} needs model.architecture='encoder_decoder', not {config.model.architecture!r}"
            )
        if self.head not in config.model.heads:
            raise InputError(f"model.heads={config.model.heads} lacks {self.head!r}, which task={task!r} trains")
        if epochs := config.training.num_epochs:
            raise InputError(f"training.num_epochs={epochs}: translation is measured in steps, training.num_steps")
        if config.phases.steps:
            raise InputError(f"phases.steps={config.phases.steps}: translation has a single phase")

    @property
    def data(self) -> TranslationDataConfig:
        return self.config.data

    def keys(self, phase: Phase) -> tuple[str, ...]:
        source = ("tokens", "valid", "example", "example_weights")
        return (*source, "target_tokens", "targets", "target_weights", "target_bytes", "target_words")

    def apply(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None, **inputs: jax.Array) -> Output:
        return forward.forward(
            self.config.model,
            self.config.lora,
            params,
            batch["tokens"],
            valid_BS=batch["valid"],
            target_tokens_BT=batch["target_tokens"],
            target_valid_BT=_up_to_last(batch["target_weights"] > 0),
            dropout_rng=dropout_rng,
            **inputs,
        )

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"translation_loss": batch["target_weights"].sum()}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        layer = self.apply(params, batch, dropout_rng=dropout_rng).output_layers["causal_lm"]
        metrics = language_modeling("causal_lm", layer, batch["targets"], batch["target_weights"])
        loss = metrics["causal_lm_loss"]
        smoothed = smoothing(layer, batch["targets"], batch["target_weights"], self.data.label_smoothing)
        bits = loss.total / math.log(2)
        return metrics | {
            "translation_loss": WeightedSum(loss.total + smoothed, loss.weight),
            "bits_per_byte": WeightedSum(bits, batch["target_bytes"].sum()),
            "word_loss": WeightedSum(loss.total, batch["target_words"].sum()),
        }

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """Greedy translations, ended as their references are, and at the latest by their source's length and 50: the
        tokens [B, T + 50], 0 behind their end, and their numbers [B]; T is `data.sequence_length`.

        Tokens that a form of pairs forbids (Marian's padding) are not excluded here, as they are in `decoding`: a text
        has none of them.
        """
        if not self.data.metrics:
            return {}
        longest = self.data.sequence_length + NEW_TOKENS_BEYOND_SOURCE
        lengths_B = batch["valid"].sum(axis=1, dtype=jnp.int32)
        predicted_BT = batch["target_weights"] > 0
        given_B = 1 + predicted_BT.argmax(axis=1).astype(jnp.int32)
        lasts_B = _up_to_last(predicted_BT).sum(axis=1) - 1
        ends_B = jnp.take_along_axis(batch["targets"], jnp.maximum(lasts_B, 0)[:, None], axis=1)[:, 0]
        limits_B = jnp.minimum(lengths_B - 1 + NEW_TOKENS_BEYOND_SOURCE, self.config.model.max_length - given_B)
        rows = len(lengths_B)
        one = jnp.ones((), jnp.float32)
        knobs = sampling.Knobs(
            temperature=one,
            top_p=one,
            min_p=one,
            penalty=one,
            key=jax.random.key(0),
            numbers_N=jnp.zeros(rows, jnp.int32),
            samples_N=jnp.zeros(rows, jnp.int32),
            limits_N=jnp.where(batch["example_weights"] > 0, limits_B, 0),
            stop_ids=ends_B[:1],
        )
        config = for_decoding(self.config.model)
        program = sampling.Program(config, Writable(config.vocab_size), longest, 1, samples=False)
        prompts = Prompts(batch["target_tokens"][:, :GIVEN], given_B, batch["tokens"], batch["valid"])
        params = forward.merged_params(params, self.config.lora)
        found = sampling.start(program, params, prompts, knobs, cache_size=GIVEN + longest)
        found = sampling.proceed(program, params, found, knobs, jnp.int32(longest))
        return {"translation": found.tokens_NL, "translation_length": found.counts_N}

    def flops_per_token(self, phase: Phase | None = None) -> float:
        """A token of the source and one of the target. Of attention only the scores of the shortest bucket are counted,
        of which every batch has as many or more."""
        return registry.flops_per_pair(self.config.model, self.data.buckets[0])


def _up_to_last(predicted_BT: jax.Array) -> jax.Array:
    """True up to the last token that is predicted, also where one before the first is not."""
    return jnp.flip(jnp.cumsum(jnp.flip(predicted_BT, axis=1), axis=1), axis=1) > 0


def smoothing(layer: OutputLayer, targets: jax.Array, weights: jax.Array, share: float) -> jax.Array:
    """What label smoothing adds to the sum of the cross entropy: share * (target's logit - mean of the logits).

    For (1 - share) (Z - z_t) + share (Z - mean z) = (Z - z_t) + share (z_t - mean z), with Z the logarithm of the sum
    of the exponentials (Szegedy et al. 2016, section 7). So no logits are needed.
    """
    if not share:
        return jnp.zeros((), jnp.float32)
    hidden, table = layer.hidden.astype(jnp.float32), layer.table
    logits = (hidden * jnp.take(table, targets, axis=0, mode="clip")).sum(axis=-1) - hidden @ table.mean(axis=0)
    if layer.bias is not None:
        logits = logits + jnp.take(layer.bias, targets, mode="clip") - layer.bias.mean()
    return share * (logits * weights).sum()


class Translation:
    """Translation on a store of pairs."""

    objective_class: ClassVar[type[TranslationObjective]] = TranslationObjective

    def __init__(self, config: ExperimentConfig, store: PairStore):
        """Raises InputError as the objective does, if the store's vocabulary is larger than the model's, or if it lacks
        a split."""
        self.config, self.store = config, store
        self.objective = self.objective_class(config)
        needed, have = store.vocab_size, config.model.vocab_size
        if needed > have:
            raise InputError(
                f"the tokenizer of {config.data.store} has {needed} tokens, but the model only "
                f"model.vocab_size={have}: give --config.model.vocab_size={needed} or prepare a smaller vocabulary"
            )
        self.score_names: tuple[str, ...] = config.data.metrics

    @property
    def tokenizer(self) -> Tokenizer:
        return self.store.tokenizer()

    @property
    def data_fingerprint(self) -> str:
        return self.store.fingerprint

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        return tuple(name for name in self.store.splits if name != "train")

    def batches(
        self,
        split: str,
        *,
        batch_size: int,
        repeat: bool,
        phase: Phase | None = None,
        process: int = 0,
        num_processes: int = 1,
    ) -> PairBatches:
        data = self.config.data
        return PairBatches(
            self.store.split(split),
            data.buckets,
            batch_size,
            self.tokenizer.pair_tokens,
            seed=phase_seed(self.config.seed, phase.number if phase else 0),
            repeat=repeat,
            first_step=phase.start if phase else 0,
            skipped=skipped.parse(data.skip_batches) if repeat else (),
            process=process,
            num_processes=num_processes,
        )

    def scores(self, outputs: dict[str, np.ndarray], split: str) -> dict[str, float]:
        """BLEU and chrF of the translations, and a few of them in the log."""
        if not self.config.data.metrics:
            return {}
        texts, tokenizer, special = self.store.split(split).texts(), self.tokenizer, set(self.tokenizer.special_ids)
        pairs = [texts[i] for i in outputs["example"]]
        found = [
            tokenizer.decode([i for i in ids[:count].tolist() if i not in special])
            for ids, count in zip(outputs["translation"], outputs["translation_length"], strict=True)
        ]
        values, signature = scores(found, [target for _, target in pairs], self.config.data.metrics)
        if jax.process_index() == 0:
            for (source, target), translation in list(zip(pairs, found, strict=True))[:SHOWN]:
                _logger.info("source:      %s\ntranslation: %s\nreference:   %s", source, translation, target)
            _logger.info("%s of %d greedy translations: %s", split, len(found), "; ".join(signature))
        return values

    def notices(self) -> list[str]:
        found = []
        for name in self.store.splits:
            batches = self.batches(name, batch_size=self.config.training.batch_size, repeat=False)
            if empty := self.store.meta["splits"][name]["empty"]:
                found.append(f"{name}: {empty:,} pairs with an empty side were left out of the store")
            if batches.too_long:
                found.append(
                    f"{name}: {batches.too_long:,} of {len(batches.split):,} pairs are longer than "
                    f"data.sequence_length={self.config.data.sequence_length} and are left out"
                )
        return found

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        counts, num_bytes, num_words = np.zeros(self.store.vocab_size), 0.0, 0.0
        for batch in batches:
            ids, weights = np.asarray(batch["targets"]).ravel(), np.asarray(batch["target_weights"]).ravel()
            counts += np.bincount(ids, weights, self.store.vocab_size)
            num_bytes += float(np.sum(batch["target_bytes"]))
            num_words += float(np.sum(batch["target_words"]))
        nats = entropy(counts)
        return {
            "causal_lm_loss": (nats, "unigram entropy of the tokens"),
            "causal_lm_accuracy": (float(counts.max() / counts.sum()), "always the most frequent token"),
            "bits_per_byte": (nats * counts.sum() / math.log(2) / num_bytes, "the unigram entropy per byte"),
            "word_loss": (nats * counts.sum() / num_words, "the unigram entropy per word"),
        }

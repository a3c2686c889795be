"""Continues prompts, or translates: from text to text.

Prompts are grouped by length and filled up to few shapes, each of which is compiled once.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax import sharding
from tx_jax.config.checks import is_whole, require
from tx_jax.data.by_length import bucket
from tx_jax.decoding import beam, sampling
from tx_jax.decoding.options import Options
from tx_jax.decoding.prompts import Row, batches, check, device_prompts, encode, writable
from tx_jax.decoding.steps import for_decoding
from tx_jax.decoding.text import Stops, continuation, pieces, without_part
from tx_jax.models.placed import PlacedModel as Model
from tx_jax.text.tokenizer import Tokenizer

# Texts that end a sequence are looked for after so many tokens each.
LOOK_EVERY = 16
SAMPLE = Options()


@dataclasses.dataclass(frozen=True)
class Generation:
    """One sequence.

    Attributes:
      number: its prompt's.
      sample: its own among those of the prompt: of a beam search the rank, from 0.
      text: without special tokens and without the text that ended it.
      tokens: the ids, with those that ended it.
      log_probs: the logarithm of the model's probability of each.
      finish: what ended it: the "end" token; a "stop" text or token; or its "length".
      score: of a beam search the sum of the log-probabilities, divided by the length penalty; otherwise their sum.
    """

    number: int
    sample: int
    text: str
    tokens: list[int]
    log_probs: list[float]
    finish: Literal["end", "stop", "length"]
    score: float


def generate(
    model: Model,
    prompts: Sequence[str | Sequence[int]],
    options: Options = SAMPLE,
    *,
    numbers: Sequence[int] | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Generation]:
    """Continues each prompt with a decoder; translates each with an encoder-decoder.

    Args:
      prompts: texts, or token ids.
      numbers: of each prompt, from which its random numbers follow; None = 0, 1, ...: so a prompt's samples are the
        same alone and in any batch, but for what rounding makes of other shapes.
      batch_size: sequences that are computed together.
      progress: called with the number of prompts done, and of all.

    Returns:
      In the order of the prompts, `num_return_sequences` for each; a beam search may find fewer.

    Raises:
      InputError: a model or tokenizer that cannot generate, one text in place of a list, a prompt that is empty or too
        long, or a `batch_size` that is no number of sequences.
    """
    require(not isinstance(prompts, str), f"prompts={prompts!r:.60} is one text: give a list, [...]")
    require(is_whole(batch_size, 1), f"batch_size={batch_size!r}: give a number of sequences, 1 or more")
    tokenizer = _tokenizer(model)
    rows = encode(model.model, tokenizer, prompts, range(len(prompts)) if numbers is None else numbers, options)
    stops = Stops(tokenizer, options.stop)
    per_prompt = max(options.num_beams, options.num_return_sequences)
    parts = sharding.num_parts(model.mesh, "batch")
    found: dict[int, list[Generation]] = {}
    for batch, size in batches(rows, max(1, batch_size // per_prompt), parts, model.model.max_length):
        with jax.set_mesh(model.mesh):
            if options.num_beams > 1:
                made = _search(model, tokenizer, batch, size, options, stops)
            else:
                every = LOOK_EVERY if stops.texts else 0
                *_, made = _sample(model, tokenizer, batch, size, options, stops, every)
        found |= {row.place: generations for row, generations in zip(batch, made, strict=True)}
        progress(len(found), len(rows))
    return [generation for place in range(len(rows)) for generation in found[place]]


def stream(model: Model, prompt: str | Sequence[int], options: Options = SAMPLE, *, number: int = 0) -> Iterator[str]:
    """The text that `generate` gives for a prompt, piece by piece as its tokens come; whole characters only.

    Raises:
      InputError: as `generate`; or there would be several sequences, or a search, which has none before its end.
    """
    require(
        options.num_beams == options.num_return_sequences == 1,
        f"only one sequence can be shown as it comes, not num_beams={options.num_beams} or num_return_sequences="
        f"{options.num_return_sequences}",
    )
    tokenizer = _tokenizer(model)
    rows = encode(model.model, tokenizer, [prompt], [number], options)
    stops, size = Stops(tokenizer, options.stop), sharding.num_parts(model.mesh, "batch")

    def texts() -> Iterator[str]:
        text = ""
        with jax.set_mesh(model.mesh):
            for [[generation]] in _sample(model, tokenizer, rows, size, options, stops, 1):
                text = generation.text
                yield text if generation.finish != "length" else stops.safe(text)
        yield text

    yield from pieces(texts())


def _tokenizer(model: Model) -> Tokenizer:
    """Raises InputError for a model that cannot generate."""
    check(model.model, model.untrained)
    return model.require_tokenizer()


def _sample(
    model: Model, tokenizer: Tokenizer, batch: Sequence[Row], size: int, options: Options, stops: Stops, every: int
) -> Iterator[list[list[Generation]]]:
    """What there is of each prompt's sequences, every so many tokens (0: never) and at the end.

    Args:
      size: rows of the batch, those that only fill it up included.
    """
    copies, last = options.num_return_sequences, max(row.limit for row in batch)
    filled = _filled(batch, size)
    program = sampling.Program(
        config=for_decoding(model.model),
        writable=writable(model.model, tokenizer),
        longest=bucket(last),
        rows=copies,
        samples=options.samples,
        top_k=options.top_k,
        filters=tuple(name for name, off in (("top_p", 1), ("min_p", 0)) if getattr(options, name) != off),
        penalizes=options.repetition_penalty != 1,
    )
    knobs = sampling.Knobs(
        temperature=jnp.float32(1.0 if options.temperature is None else options.temperature),
        top_p=jnp.float32(options.top_p),
        min_p=jnp.float32(options.min_p),
        penalty=jnp.float32(options.repetition_penalty),
        key=jax.random.key(options.seed or 0),
        numbers_N=jnp.asarray(np.repeat([row.number for row in filled], copies), jnp.int32),
        samples_N=jnp.asarray(np.tile(np.arange(copies), size), jnp.int32),
        limits_N=jnp.asarray(np.repeat([row.limit for row in filled], copies), jnp.int32),
        stop_ids=jnp.asarray(stops.ids, jnp.int32),
    )
    prompts = device_prompts(filled, model.mesh, model.model.max_length)
    cache_size = prompts.tokens_BP.shape[1] + program.longest
    rows = sampling.start(program, model.params, prompts, knobs, cache_size=cache_size)
    made: dict[int, Generation] = {}
    for count in (*range(every, last, every), last) if every else (last,):
        rows = sampling.proceed(program, model.params, rows, knobs, jnp.int32(count))
        tokens, log_probs, counts, finished = jax.device_get(
            (rows.tokens_NL, rows.log_probs_NL, rows.counts_N, rows.finished_N)
        )
        for i in range(len(batch) * copies):
            if i not in made or made[i].finish == "length":
                found = tokens[i, : counts[i]], log_probs[i, : counts[i]]
                made[i] = _generation(tokenizer, batch[i // copies], i % copies, *found, stops)
        stopped = [i for i, generation in made.items() if generation.finish == "stop"]
        finished = finished | np.isin(np.arange(len(finished)), stopped)
        yield [[made[i * copies + j] for j in range(copies)] for i in range(len(batch))]
        if finished.all():
            return
        rows = rows.replace(finished_N=jax.device_put(finished, rows.finished_N.sharding))


def _search(
    model: Model, tokenizer: Tokenizer, batch: Sequence[Row], size: int, options: Options, stops: Stops
) -> list[list[Generation]]:
    """The best hypotheses of each prompt. `size`: see `_sample`."""
    filled = _filled(batch, size)
    program = beam.Search(
        config=for_decoding(model.model),
        writable=writable(model.model, tokenizer),
        longest=bucket(max(row.limit for row in batch)),
        num_beams=options.num_beams,
        stops=len(stops.ids),
        normalization=options.length_normalization,
        early_stopping=options.early_stopping,
        penalizes=options.repetition_penalty != 1,
    )
    knobs = beam.SearchKnobs(
        length_penalty=jnp.float32(options.length_penalty),
        penalty=jnp.float32(options.repetition_penalty),
        limits_B=jnp.asarray([row.limit for row in filled], jnp.int32),
        stop_ids=jnp.asarray(stops.ids, jnp.int32),
    )
    prompts = device_prompts(filled, model.mesh, model.model.max_length)
    cache_size = prompts.tokens_BP.shape[1] + program.longest
    found = jax.device_get(beam.search(program, model.params, prompts, knobs, cache_size=cache_size))
    made = []
    for i, row in enumerate(batch):
        made.append([])
        for j in range(options.num_return_sequences):
            if n := int(found.counts_BK[i, j]):
                ids, log_probs = found.tokens_BKL[i, j, :n], found.log_probs_BKL[i, j, :n]
                generation = _generation(tokenizer, row, j, ids, log_probs, stops)
                made[-1].append(dataclasses.replace(generation, score=float(found.scores_BK[i, j])))
    return made


def _filled(batch: Sequence[Row], size: int) -> list[Row]:
    """With rows that get no token."""
    return [*batch, *[dataclasses.replace(batch[0], limit=0)] * (size - len(batch))]


def _generation(
    tokenizer: Tokenizer, row: Row, sample: int, ids: np.ndarray, log_probs: np.ndarray, stops: Stops
) -> Generation:
    """What a row has got so far; it has "length" while nothing has ended it."""
    tokens, finish = ids.tolist(), "length"
    prompt = row.ids if row.source is None else ()
    if tokens and tokens[-1] in stops.ids:
        finish = "end" if tokens[-1] == tokenizer.eos_id else "stop"
    text = continuation(tokenizer, prompt, tokens)
    if stops.texts and (place := stops.place(prompt, tokens)) is not None:
        (count, text), finish = place, "stop"
        tokens, log_probs = tokens[:count], log_probs[:count]
    if finish == "length":
        text = without_part(text)
    return Generation(
        row.number, sample, text, tokens, log_probs.tolist(), finish, float(log_probs.astype(np.float64).sum())
    )

"""Small decoders and encoder-decoders with a vocabulary of single characters, and decoding written out plainly."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.models import small
from tx_jax import sharding, text
from tx_jax.config import MeshConfig, TransformerConfig
from tx_jax.decoding.steps import Prompts
from tx_jax.models import registry
from tx_jax.runs.trained import Trained

# Each form that a decoder has: positions, norms, a window, tables of its own.
DECODERS = {
    "gpt2": {"norm_position": "pre", "embedding_norm": False, "activation": "gelu_tanh"},
    "rotary_window": {
        "norm_position": "pre",
        "position_embedding": "rotary",
        "local_window": 8,
        "global_every": 2,
        "local_rotary_theta": 100.0,
        "gated_mlp": True,
        "use_bias": False,
    },
    "offset_untied": {"position_offset": 2, "tie_embeddings": False},
    "sinusoidal": {"position_embedding": "sinusoidal", "embedding_scale": True},
}
SEQ2SEQ = {
    norm: {
        "architecture": "encoder_decoder",
        "num_decoder_layers": 2,
        "activation": "relu",
        "embedding_norm": False,
        "embedding_scale": True,
        "position_embedding": "sinusoidal",
        "norm_position": norm,
    }
    for norm in ("post", "pre")
}
SEQ2SEQ["marian"] = {**SEQ2SEQ["post"], "position_embedding": "sinusoidal_halves", "output_bias": True}
SEQ2SEQ["mbart"] = {
    **SEQ2SEQ["pre"],
    "position_embedding": "learned",
    "position_offset": 2,
    "decoder_embeddings": True,
    "embedding_norm": True,
    "first_norm": True,
    "output_bias": True,
}
DECODERS["narrow_table"] = {**DECODERS["gpt2"], "embedding_dim": 16}
FORMS = DECODERS | {f"seq2seq_{norm}": form for norm, form in SEQ2SEQ.items()}


def config(form: str, **changes: Any) -> TransformerConfig:
    base = {"architecture": "decoder", "num_segments": 0, "heads": ("causal_lm",), "max_length": 64}
    return small.config(**base | FORMS[form] | changes)


@functools.cache
def tokenizer(kind: str = "gpt2_bpe", size: int = 300) -> text.Tokenizer:
    words = ["the cat sat on the mat", "a größe, naïve café über straße", "one two three four five"] * 5
    return text.train(kind, iter(words), vocab_size=size)


def model(form: str, kind: str = "gpt2_bpe", mesh: MeshConfig | None = None, **changes: Any) -> Trained:
    """A model whose parameters are noise, so that its continuations are no loops of one token."""
    mine = tokenizer(kind)
    shape = config(form, **{"vocab_size": mine.vocab_size} | changes)
    of = sharding.make_mesh(mesh or MeshConfig(1, 1, 1), None if mesh else jax.devices()[:1])
    params = small.params(shape)
    return Trained(shape, None, mine, jax.device_put(params, sharding.state_sharding(of, params)), None, of)


def logits(model: Trained, ids: Sequence[int], source: Sequence[int] | None = None) -> np.ndarray:
    """[T, V], float64 from float32: the whole sequence at once, without a cache and without padding."""
    return _logits(model.model, model.params, tuple(ids), source and tuple(source))


def _logits(config: TransformerConfig, params: Any, ids: tuple[int, ...], source: tuple[int, ...] | None) -> np.ndarray:
    # Behind the sequence, in a causal model, is nothing that it sees: so there are few shapes.
    length = -(-len(ids) // 16) * 16
    tokens = np.zeros((1, length), np.int32)
    tokens[0, : len(ids)] = ids
    sources = None if source is None else np.array([source], np.int32)
    return np.asarray(_run(config, params, tokens, sources), np.float64)[: len(ids)]


@functools.partial(jax.jit, static_argnums=0)
def _run(config: TransformerConfig, params: Any, tokens: jax.Array, sources: jax.Array | None) -> jax.Array:
    valid, model = jnp.ones_like(tokens, bool), registry.build(config)
    if sources is None:
        output = model.apply({"params": params}, tokens, valid_BT=valid, deterministic=True)
    else:
        output = model.apply(
            {"params": params},
            sources,
            valid_BS=jnp.ones_like(sources, bool),
            target_tokens_BT=tokens,
            target_valid_BT=valid,
            deterministic=True,
        )
    return output.logits["causal_lm"][0]


def next_of(model: Trained, prompt: Sequence[int], source: Sequence[int] | None = None) -> "Next":
    """The log-probabilities of the token after a prompt and some generated ones, of the tokenizer's vocabulary."""
    size = model.model.vocab_size if model.tokenizer is None else model.tokenizer.vocab_size

    @functools.cache
    def after(ids: tuple[int, ...]) -> np.ndarray:
        return log_softmax(logits(model, [*prompt, *ids], source)[-1][:size])

    return after


def toy(form: str = "gpt2", vocab_size: int = 5, **changes: Any) -> Trained:
    """A model of a few tokens, without a tokenizer."""
    shape = config(form, **{"vocab_size": vocab_size, "num_layers": 1} | changes)
    mesh = sharding.make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return Trained(shape, None, None, small.params(shape), None, mesh)


def prompts(*ids: Sequence[int], sources: Sequence[Sequence[int]] = (), filler: int = 0) -> Prompts:
    """Padded on the right with `filler`."""

    def padded(rows: Sequence[Sequence[int]]) -> jax.Array:
        length = max(map(len, rows))
        return jnp.asarray([[*row, *[filler] * (length - len(row))] for row in rows], jnp.int32)

    def lengths(rows: Sequence[Sequence[int]]) -> jax.Array:
        return jnp.asarray([len(row) for row in rows], jnp.int32)

    if not sources:
        return Prompts(padded(ids), lengths(ids))
    source = padded(sources)
    valid = jnp.arange(source.shape[1])[None] < lengths(sources)[:, None]
    return Prompts(padded(ids), lengths(ids), source, valid)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


Next = Callable[[tuple[int, ...]], np.ndarray]  # of the generated tokens: the log-probabilities [V] of one more


def greedy(next_of: Next, end: int, limit: int) -> list[int]:
    found: list[int] = []
    while len(found) < limit and (not found or found[-1] != end):
        found.append(int(next_of(tuple(found)).argmax()))
    return found


def every_sequence(next_of: Next, vocabulary: int, end: int, limit: int) -> list[tuple[float, tuple[int, ...]]]:
    """Each whole sequence, with the sum of its log-probabilities: brute force."""
    found = []
    for length in range(1, limit + 1):
        others = [i for i in range(vocabulary) if i != end]
        last = [end] if length < limit else range(vocabulary)
        for ids in itertools.product(*[others] * (length - 1), last):
            found.append((sum(float(next_of(ids[:i])[ids[i]]) for i in range(length)), ids))
    return found


def beam_search(
    next_of: Next,
    end: int,
    limit: int,
    beams: int,
    penalty: Callable[[int], float],
    early_stopping: bool | str,
    rising: bool,
) -> list[tuple[float, tuple[int, ...]]]:
    """The search in lists of Python: no cache, no arrays. `rising`: whether the penalty grows with the length."""
    running: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    whole: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, limit + 1):
        candidates = sorted(
            ((score + float(p), (*ids, i)) for score, ids in running for i, p in enumerate(next_of(ids)) if p > -1e9),
            key=lambda pair: -pair[0],
        )[: 2 * beams]
        ended = [ids[-1] == end or length == limit for _, ids in candidates]
        for (score, ids), over in list(zip(candidates, ended, strict=True))[:beams]:
            if over:
                whole.append((score / penalty(length), ids))
        whole = sorted(whole, key=lambda pair: -pair[0])[:beams]
        running = [pair for pair, over in zip(candidates, ended, strict=True) if not over][:beams]
        if not running:
            break
        if len(whole) == beams:
            best = running[0][0] / penalty(limit if early_stopping == "never" and rising else length)
            if early_stopping is True or best <= whole[-1][0]:
                break
    return whole

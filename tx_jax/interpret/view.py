"""Attention to look at: who attends to whom, as one HTML page that needs nothing else, or in a notebook.

Head, model and neuron view are those of BertViz (Vig 2019, "A Multiscale Visualization of Attention in the Transformer
Model"). Weights are rounded as finely as a page of about `LIMIT` bytes allows, and the page says how finely; exact
numbers are in `arrays`.

Shapes: L layers, H heads, T queries, S keys, K head dim.
"""

import base64
import dataclasses
import html
import zlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.interpret import capture, sites
from tx_jax.interpret.texts import Row, rows_of_texts, unknown_words
from tx_jax.web import page

LIMIT = 1_900_000  # bytes of a page
# Codes of weights, from fine to coarse: w = (code / levels)^2, so that small weights are finer than large ones.
LEVELS = (65535, 4095, 1023, 255, 127, 63)
NEURON_LEVELS = 127
ROOM = 60_000  # for everything else on the page
TOO_LARGE = "Queries and keys did not fit into the page: choose fewer layers, or a shorter text."
_NAMES = {
    "encoder": {"attention": "encoder, self-attention"},
    "decoder": {"attention": "decoder, self-attention", "cross_attention": "decoder to encoder"},
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """Attention of one kind, such as an encoder's to itself.

    Attributes:
      layers: the numbers of those that were looked at.
      queries, keys: the tokens of each side.
      query_special, key_special: which of them are special.
      query_segments, key_segments: 0 for tokens of the first text, 1 of the second.
      weights: float32 [L, H, T, S].
      query, key: float32 [L, H, T, K] and [L, H, S, K]; None where they alone do not make the scores.
    """

    name: str
    layers: tuple[int, ...]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    query_special: tuple[bool, ...]
    key_special: tuple[bool, ...]
    query_segments: tuple[int, ...]
    key_segments: tuple[int, ...]
    weights: np.ndarray
    query: np.ndarray | None
    key: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class AttentionView:
    """The attention of one text, or pair of texts. As the last value of a notebook's cell it shows itself.

    Attributes:
      unknown: what the tokenizer's vocabulary lacks of the texts, so that the model reads its unknown token instead.
    """

    title: str
    kinds: tuple[Kind, ...]
    unknown: tuple[str, ...] = ()

    def page(self) -> str:
        """The page, below `LIMIT` bytes where the coarsest weights allow it. Rather than coarse weights it has no
        queries and keys."""
        neurons = [_neurons(kind) for kind in self.kinds]
        of_neurons = sum(len(one.get("query", "")) + len(one.get("key", "")) for one in neurons)
        for levels in LEVELS:
            weights = [_weights(kind, levels) for kind in self.kinds]
            size = sum(map(len, weights)) + ROOM
            if size <= LIMIT or levels == LEVELS[-1]:
                break
        if of_neurons and size + of_neurons > LIMIT:
            coarser = [(other, [_weights(kind, other) for kind in self.kinds]) for other in (255,) if other < levels]
            fits = [one for one in coarser if sum(map(len, one[1])) + ROOM + of_neurons <= LIMIT]
            if fits:
                ((levels, weights),) = fits
            else:
                neurons = [{"why": TOO_LARGE} for _ in self.kinds]
        kinds = [_described(*one) for one in zip(self.kinds, weights, neurons, strict=True)]
        data = {"colors": page.COLORS, "levels": levels, "kinds": kinds, "unknown": self.unknown}
        style, script, body = (
            resources.files(__package__).joinpath(f"view.{ending}").read_text(encoding="utf-8")
            for ending in ("css", "js", "html")
        )
        return page.text(self.title, body, data, style=style, script=script)

    def _repr_html_(self) -> str:
        """In a frame of its own, so that neither its style nor its script meets the notebook's."""
        return (
            f'<iframe title="{html.escape(self.title)}" srcdoc="{html.escape(self.page())}" width="100%" height="720" '
            'style="border: 0" sandbox="allow-scripts allow-downloads"></iframe>'
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights and tokens by name, exact."""
        found: dict[str, Any] = {}
        for kind in self.kinds:
            values = {"weights": kind.weights, "layers": kind.layers, "queries": kind.queries, "keys": kind.keys}
            found |= {f"{kind.name}/{name}": np.asarray(value) for name, value in values.items()}
        return found


def attention(
    model: capture.Model, text: str, text_pair: str | None = None, *, layers: Sequence[int] | None = None
) -> AttentionView:
    """The attention of all heads in some layers, or all, on a text or a pair; of an encoder-decoder on a source and a
    target. The name of the mask token is read as a mask.

    Raises:
      InputError: the text is empty or longer than the model, or there is no such layer.
    """
    config = model.model
    tokenizer, pairs = model.require_tokenizer(), [] if text_pair is None else [text_pair]
    masks = tokenizer.mask_id is not None and tokenizer.token(tokenizer.mask_id) in f"{text} {text_pair}"
    (row,) = rows_of_texts(model, [text], pairs, masks=masks)
    for stack in sites.stacks(config):
        sites.require_layers(config, stack, layers or ())
    paths = [
        (stack, kind, [i for i in range(count) if layers is None or i in layers])
        for stack, count in sites.stacks(config).items()
        for kind in _NAMES[stack]
        if f"{stack}/layer_0/{kind}/heads" in sites.of(config)
    ]
    names = [
        f"{stack}/layer_{i}/{kind}/{part}"
        for stack, kind, chosen in paths
        for i in chosen
        for part in (("probabilities",) if config.relative_attention else ("probabilities", "query", "key"))
    ]
    (values,) = capture.collect(model, [row], names)
    return AttentionView(
        f"Attention of {model.name or 'a model'}",
        tuple(_kind(config, row, values, f"{stack}/layer_{{}}/{kind}", chosen) for stack, kind, chosen in paths),
        unknown_words(row, [text, *pairs], tokenizer.unk_id),
    )


def _kind(config: TransformerConfig, row: Row, values: dict[str, np.ndarray], path: str, layers: Sequence[int]) -> Kind:
    stack, _, kind = path.split("/")
    target = config.architecture == "encoder_decoder" and stack == "decoder"

    def side(of_target: bool) -> tuple[tuple[str, ...], tuple[bool, ...], tuple[int, ...]]:
        if not of_target:
            return row.tokens, row.special, row.segments
        return row.target_tokens, (True, *[False] * (len(row.target_ids) - 1)), (0,) * len(row.target_ids)

    def stacked(part: str) -> np.ndarray | None:
        found = [values[f"{path.format(i)}/{part}"] for i in layers if f"{path.format(i)}/{part}" in values]
        return np.stack(found) if found else None

    queries, keys = side(target), side(target and kind == "attention")
    query, key = (None if x is None else x.swapaxes(1, 2) for x in (stacked("query"), stacked("key")))
    return Kind(
        name=_NAMES[stack][kind],
        layers=tuple(layers),
        queries=queries[0],
        keys=keys[0],
        query_special=queries[1],
        key_special=keys[1],
        query_segments=queries[2],
        key_segments=keys[2],
        weights=np.stack([values[f"{path.format(i)}/probabilities"] for i in layers]),
        query=query,
        key=key,
    )


def _described(kind: Kind, weights: str, neurons: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": kind.name,
        "layers": kind.layers,
        "heads": kind.weights.shape[1],
        "query": {"tokens": kind.queries, "special": kind.query_special, "segments": kind.query_segments},
        "key": {"tokens": kind.keys, "special": kind.key_special, "segments": kind.key_segments},
        "weights": weights,
        "neurons": neurons if "query" in neurons else None,
        "why": neurons.get("why"),
    }


def _weights(kind: Kind, levels: int) -> str:
    codes = np.rint(np.sqrt(np.clip(kind.weights, 0, 1)) * levels)
    return _bytes(codes.astype(np.uint16), 2 if levels > 255 else 1)


def _neurons(kind: Kind) -> dict[str, Any]:
    """Queries and keys, or "why" there are none."""
    if kind.query is None or kind.key is None:
        return {"why": "This model adds terms of relative positions to the scores, which queries and keys do not show."}
    if kind.query.size + kind.key.size > LIMIT:
        return {"why": TOO_LARGE}
    (query, of_query), (key, of_key) = _scaled(kind.query), _scaled(kind.key)
    return {
        "size": kind.query.shape[-1],
        "scales": [of_query.tolist(), of_key.tolist()],
        "query": _bytes(query.view(np.uint8), 1),
        "key": _bytes(key.view(np.uint8), 1),
    }


def _scaled(x_LHTK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes, int8, and for each head the value of the code 1, to seven digits."""
    scales = np.abs(x_LHTK).max(axis=(2, 3), keepdims=True) / NEURON_LEVELS + 1e-30
    return np.rint(x_LHTK / scales).astype(np.int8), np.array([float(f"{s:.6e}") for s in scales.ravel()])


def _bytes(codes: np.ndarray, size: int) -> str:
    """Compressed, in base 64; of codes of two bytes first all high ones, then all low ones."""
    flat = codes.ravel()
    raw = flat.astype(np.uint8).tobytes() if size == 1 else (flat >> 8).astype(np.uint8).tobytes()
    raw += b"" if size == 1 else (flat & 255).astype(np.uint8).tobytes()
    deflate = zlib.compressobj(6, wbits=-15)
    return base64.b64encode(deflate.compress(raw) + deflate.flush()).decode()

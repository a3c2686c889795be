"""The batches of batches.json: digests of what every packing and corruption gave on 2026-11-29.

A run that is resumed with a newer version must go on with the batches that it would have had. After a change that is
meant to give other batches, which the changelog must name:

    python -m tests.golden.batches
"""

import dataclasses
import hashlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.golden import multilingual, tokenizers
from tx_jax.config import DataConfig
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.pretraining.batches import causal_lm_batches, masked_lm_batches

PATH = Path(__file__).with_name("batches.json")
TOKENIZERS = ("wordpiece", "byte_bpe", "unigram")
STEPS = (0, 1, 7, 40)
_WORDS = sorted({word for line in multilingual.DOCUMENTS for word in line.split()})
_LISTED = ["words", "niño", "rain", "in the", "Straßen", "weather"]
_CONFIG = DataConfig(
    store="somewhere",
    sequence_length=64,
    packing="full_sentences",
    short_sequence_probability=0.1,
    mask_rate=0.15,
    max_predictions=10,
    replace_with_mask=0.8,
    replace_with_random=0.1,
    masking="dynamic",
    dupe_factor=10,
    read_ahead=1,
)
_MANY = {"mask_rate": 0.5, "max_predictions": 32}
_LONG = {"sequence_length": 450, "mask_rate": 0.5, "max_predictions": 225}
_FORMATS = {
    "pairs": {"packing": "pairs"},
    "pairs, two separators, whole words": {"packing": "pairs", "pair_separators": 2, "mask_unit": "whole_word"},
    "pairs, many short": {"packing": "pairs", "short_sequence_probability": 0.7},
    "sentence pairs": {"packing": "sentence_pairs"},
    "full sentences": {},
    "document sentences": {"packing": "doc_sentences"},
    "packed documents": {"packing": "packed_documents"},
    "packed documents, spans": {"packing": "packed_documents", "mask_unit": "span"},
    "static": {"masking": "static", "dupe_factor": 2},
    "no replacement by others": {"replace_with_mask": 1.0, "replace_with_random": 0.0},
    "many": _MANY,
    "whole words": {"mask_unit": "whole_word"},
    "whole words, many": {"mask_unit": "whole_word", **_MANY},
    "spans": {"mask_unit": "span"},
    "spans, many": {"mask_unit": "span", **_MANY},
    "spans, long": {"mask_unit": "span", "span_probability": 0.05, "span_max_words": 20},
    "rising rate": {"mask_rate_end": 0.4, "mask_rate_steps": 30, "max_predictions": 26},
    "long rows": {"sequence_length": 2500, "max_predictions": 375},
    "long rows, whole words": {"mask_unit": "whole_word", **_LONG},
    "long rows, spans": {"mask_unit": "span", **_LONG},
    "long rows, selective": {"selective_words": "words.txt", "selective_rate_of": "tokens", **_LONG},
    "selective": {"selective_words": "words.txt"},
    "selective, few predictions": {"selective_words": "words.txt", "mask_rate": 0.03, "max_predictions": 2},
    "selective, of tokens": {"selective_words": "words.txt", "selective_rate_of": "tokens"},
    "selective, mixed with spans": {"selective_words": "words.txt", "selective_share": 0.5, "mask_unit": "span"},
}
_CAUSAL = {"chunks": {"packing": "chunks"}, "packed documents": {"packing": "packed_documents"}}
_KINDS = {"masked": (masked_lm_batches, _FORMATS), "causal": (causal_lm_batches, _CAUSAL)}


def _write_corpus(path: Path, *, documents: int, seed: int) -> None:
    draw = random.Random(seed)
    texts = []
    for _ in range(documents):
        lengths = [1 + draw.randrange(draw.choice((4, 12, 60))) for _ in range(1 + draw.randrange(8))]
        texts.append("\n".join(" ".join(_WORDS[draw.randrange(len(_WORDS))] for _ in range(n)) for n in lengths))
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def _stores(folder: Path, name: str) -> tuple[Stores, Stores]:
    """A store, and that one with another."""
    tokenizer = tokenizers.rebuild(name, json.loads(tokenizers.PATH.read_text(encoding="utf-8"))[name])
    tokenizer.save(folder / "tokenizer")
    for number, documents in enumerate((150, 50)):
        source = folder / f"{number}.txt"
        _write_corpus(source, documents=documents, seed=number)
        prepare(
            PrepareConfig(
                store=folder / f"store{number}",
                source=SourceConfig((str(source),)),
                tokenizer=str(folder / "tokenizer"),
                sentences="line",
                validation_fraction=0.1,
                workers=1,
            )
        )
    paths = [str(folder / f"store{number}") for number in range(2)]
    return Stores.open(paths[0]), Stores.open(",".join(paths))


def digests() -> Iterator[tuple[str, str]]:
    """The name of each case, and the digest of its batches."""
    for name in TOKENIZERS:
        with tempfile.TemporaryDirectory() as folder:
            one, two = _stores(Path(folder), name)
            words = Path(folder) / "words.txt"
            words.write_text("\n".join(_LISTED), encoding="utf-8")
            yield f"{name}, tokens", _digest([{"tokens": _tokens(store)} for store in two.stores])
            for kind, (make, formats) in _KINDS.items():
                for title, changes in formats.items():
                    config = dataclasses.replace(_CONFIG, **changes)
                    if config.selective_words:
                        config = dataclasses.replace(config, selective_words=str(words))
                    for of, stores in (("one", one), ("two", two)):
                        batches = make(stores, "train", config, batch_size=24, seed=5, repeat=True)
                        found = [batches.batch_at(step) for step in STEPS]
                        yield f"{name}, {kind}, {title}, of {of}", _digest(found)
                    once = make(two, "validation", config, batch_size=24, seed=5, repeat=False)
                    yield f"{name}, {kind}, {title}, once", _digest([once.batch_at(step) for step in range(len(once))])


def _tokens(store):
    split = store.split("train")
    return split.read([0], [split.num_tokens])


def _digest(batches: list[dict]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for key in sorted(batch.keys() - {"target_words"}):  # which is newer than the digests
            digest.update(f"{key} {batch[key].dtype} {batch[key].shape}".encode())
            digest.update(batch[key].tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    PATH.write_text(json.dumps(dict(digests()), indent=1) + "\n", encoding="utf-8")

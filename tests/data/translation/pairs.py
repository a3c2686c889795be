"""Pairs of made-up texts: the target is the source word by word, so that it can be learned."""

from pathlib import Path

import numpy as np

from tx_jax.data.translation.sources import PairSource
from tx_jax.data.translation.store import PairStore, prepare

WORDS = {"hund": "dog", "katze": "cat", "rot": "red", "läuft": "runs", "und": "and", "haus": "house", "groß": "big"}


def made(count: int, seed: int = 0, longest: int = 9) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    words = list(WORDS)
    sources = [[words[i] for i in rng.integers(0, len(words), rng.integers(1, longest))] for _ in range(count)]
    return [(" ".join(source), " ".join(WORDS[word] for word in source)) for source in sources]


def write(folder: Path, name: str, pairs: list[tuple[str, str]]) -> str:
    """Two files whose lines belong together; what --train gets."""
    for side, ending in enumerate(("de", "en")):
        (folder / f"{name}.{ending}").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return f"{folder / name}.de,{folder / name}.en"


def store(folder: Path, count: int = 200, **options) -> PairStore:
    folder.mkdir(exist_ok=True)
    sources = {
        name: PairSource(write(folder, name, made(size, seed)))
        for seed, (name, size) in enumerate({"train": count, "validation": 20, "test": 12}.items())
    }
    return prepare(folder / "store", sources, **{"kind": "unigram", "vocab_size": 40} | options)

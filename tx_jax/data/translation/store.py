"""Stores of pairs: both sides of every split as token ids that numpy memory-maps, and the tokenizer that made them.

STORE/meta.json               counts, checksums; written last: a store without it is unfinished
STORE/tokenizer/
STORE/SPLIT/source.npy        token ids of all sources, one after another; target.npy likewise
STORE/SPLIT/source_ends.npy   int64: where each one ends; target_ends.npy likewise
STORE/SPLIT/bytes.npy         UTF-8 bytes and words of each target, int32 [pairs, 2]
STORE/SPLIT/texts.jsonl       of splits that are not trained on: the texts, which translations are compared with
"""

import dataclasses
import functools
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tx_jax import text
from tx_jax.data.translation.sources import Pair, PairSource
from tx_jax.errors import InputError
from tx_jax.files import json_text, local_path, new_folder, write_atomically
from tx_jax.text.pair_forms import PLAIN, PairTokens
from tx_jax.text.tokenizer import Tokenizer

META, FORMAT = "meta.json", "pairs 1"  # a store of tokens has a number
_BLOCK = 10_000  # pairs that are encoded at once
_ARRAYS = ("source", "source_ends", "target", "target_ends", "bytes")


@dataclasses.dataclass(frozen=True)
class PairSplit:
    """The pairs of a split.

    Attributes:
      source, target: flat token ids without special tokens.
      source_ends, target_ends: where each pair's ids end.
      sizes: UTF-8 bytes and words of each target, [pairs, 2].
    """

    name: str
    source: np.ndarray
    source_ends: np.ndarray
    target: np.ndarray
    target_ends: np.ndarray
    sizes: np.ndarray
    folder: Path

    def __len__(self) -> int:
        return len(self.source_ends)

    def lengths(self, tokens: PairTokens) -> np.ndarray:
        """Of each pair the tokens of the longer side, its special ones included: int64 [pairs]."""
        source, target = (np.diff(ends, prepend=0) for ends in (self.source_ends, self.target_ends))
        return np.maximum(source + len(tokens.before) + len(tokens.after), target + len(tokens.first) + 1)

    def texts(self) -> list[Pair]:
        """The texts of a split that is not trained on."""
        with (self.folder / "texts.jsonl").open(encoding="utf-8") as file:
            return [tuple(json.loads(line)) for line in file]


@dataclasses.dataclass(frozen=True)
class PairStore:
    """A finished store of pairs."""

    path: Path
    meta: Mapping

    @classmethod
    def open(cls, path: str | Path) -> "PairStore":
        """Raises InputError if there is no finished store, or its files do not have the sizes that it was made with."""
        path = local_path(str(path), "data.store")
        if not (path / META).is_file():
            raise InputError(
                f"no store of pairs at {path}: make one with python -m experiments.prepare_pairs --store={path}"
            )
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        if meta.get("format") != FORMAT:
            raise InputError(f"{path / META} is not of a store of pairs that this version reads: prepare it again")
        for name, size in meta["files"].items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size:
                raise InputError(f"the store of pairs at {path} is damaged: {name} is missing or has another size")
        return cls(path, meta)

    @property
    def vocab_size(self) -> int:
        return self.meta["vocab_size"]

    @property
    def fingerprint(self) -> str:
        """Identifies tokenizer and pairs."""
        return self.meta["fingerprint"]

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return text.load(self.path / "tokenizer", requires=("eos",))

    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.meta["splits"])

    def split(self, name: str) -> PairSplit:
        """Raises InputError for a split that the store lacks."""
        if name not in self.splits:
            raise InputError(
                f"the store of pairs at {self.path} has no {name} split, but {', '.join(self.splits)}: prepare it "
                f"again with --{name}"
            )
        folder = self.path / name
        arrays = (np.load(folder / f"{array}.npy", mmap_mode="r") for array in _ARRAYS)
        return PairSplit(name, *arrays, folder=folder)


def prepare(
    path: Path,
    sources: Mapping[str, PairSource],
    *,
    tokenizer: Tokenizer | None = None,
    kind: str = "sentencepiece_bpe",
    vocab_size: int = 8000,
    overwrite: bool = False,
) -> PairStore:
    """Makes a store of these splits. Pairs of which a side is empty are left out, and counted. After an error nothing
    is there, or what was there before.

    Args:
      sources: by split; "train" is trained on.
      tokenizer: None = one is trained on both sides of "train" together (Vaswani et al. 2017, section 5.1).
      kind, vocab_size: of that tokenizer, see `text.train`.

    Raises:
      InputError: a source cannot be read or is empty, or something is at `path` already.
    """
    taken = path.exists() and any(path.iterdir())
    if taken and not overwrite:
        raise InputError(f"{path} exists: give another --store, or --overwrite")
    made = path.with_name(f"{path.name}.new") if taken else path
    if taken:
        shutil.rmtree(made, ignore_errors=True)
    with new_folder(made, last=META) as folder:
        _write(folder, sources, tokenizer, kind, vocab_size)
    if taken:
        shutil.rmtree(path)
        made.rename(path)
    return PairStore.open(path)


def _write(
    path: Path, sources: Mapping[str, PairSource], tokenizer: Tokenizer | None, kind: str, vocab_size: int
) -> None:
    """Writes a store's files; see `prepare`."""
    if tokenizer is None:
        tokenizer = text.train(kind, _texts(sources["train"]), vocab_size=vocab_size)
    tokenizer.pair_tokens  # noqa: B018 - raises if there are none
    tokenizer.save(path / "tokenizer")
    digest, splits = hashlib.sha256(tokenizer.fingerprint.encode()), {}
    if tokenizer.pair_form != PLAIN:
        digest.update(json_text(tokenizer.pair_form).encode())
    for name, source in sources.items():
        splits[name] = _write_split(path / name, source, tokenizer, digest, keep_texts=name != "train")
    files = {
        str(file.relative_to(path)): file.stat().st_size
        for file in sorted(path.rglob("*"))
        if file.suffix != ".tmp" and file.is_file()
    }
    meta = {
        "format": FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": digest.hexdigest(),
        "splits": splits,
        "files": files,
    }
    write_atomically(path / META, json_text(meta, indent=2) + "\n")


def _texts(source: PairSource) -> Iterator[str]:
    for pair in source.pairs():
        yield from filter(None, pair)


def _write_split(folder: Path, source: PairSource, tokenizer: Tokenizer, digest, *, keep_texts: bool) -> dict:
    folder.mkdir()
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    flat: dict[str, list[np.ndarray]] = {"source": [], "target": []}
    lengths: dict[str, list[np.ndarray]] = {"source": [], "target": []}
    sizes, kept, counts = [], [], Counter()
    for block in _blocks(source, counts):
        for side, (name, encoder) in enumerate({"source": tokenizer, "target": tokenizer.for_targets}.items()):
            ids, each = encoder.encode_flat([pair[side] for pair in block])
            flat[name].append(ids.astype(dtype))
            lengths[name].append(each)
        sizes += [(len(target.encode()), len(target.split())) for _, target in block]
        kept += block if keep_texts else []
    if not sizes:
        raise InputError(f"{source.spec} has no pairs: nothing to train on or to evaluate")
    arrays = {
        name: array
        for side in ("source", "target")
        for name, array in (
            (side, np.concatenate(flat[side])),
            (f"{side}_ends", np.cumsum(np.concatenate(lengths[side]), dtype=np.int64)),
        )
    }
    arrays["bytes"] = np.array(sizes, np.int32)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", arrays[name])
        digest.update(name.encode() + arrays[name].tobytes())
    if keep_texts:
        rows = "".join(json_text(pair, ensure_ascii=False) + "\n" for pair in kept)
        write_atomically(folder / "texts.jsonl", rows)
    tokens = {f"{side}_tokens": len(arrays[side]) for side in ("source", "target")}
    return {"pairs": len(sizes), **tokens, "empty": counts["empty"]}


def _blocks(source: PairSource, counts: Counter) -> Iterator[list[Pair]]:
    """The pairs of which no side is empty, some at a time; `counts["empty"]` is how many are left out."""
    block: list[Pair] = []
    for pair in source.pairs():
        if all(pair):
            block.append(pair)
        else:
            counts["empty"] += 1
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block

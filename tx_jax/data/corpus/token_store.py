"""The token store: a prepared corpus on disk, read through memory maps.

    STORE/meta.json                 what the store is, its counts, and a table of its files with sizes and checksums
    STORE/tokenizer/                the tokenizer that made it (`Tokenizer.save`)
    STORE/train/tokens-00000.npy    token ids, flat; uint16 where the vocabulary fits, else uint32; more shards follow
    STORE/train/sentences.npy       int64 [sentences + 1]: token offset where each sentence begins, over all shards
    STORE/train/documents.npy       int64 [documents + 1]: sentence index where each document begins
    STORE/train/unigram.npy         int64 [vocab_size]: how often each token occurs
    STORE/validation/               the same files
    STORE/index/                    not part of the store: cached data computed from it; see `corpus/index.py`

On an object store it is the same objects; what is read of them is a copy on this host, see `storage.cache`.

Both offset arrays begin with 0 and end with the total. No document spans two shards. Neither writing nor reading
keeps per-sentence data in memory.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from tx_jax import text
from tx_jax.errors import InputError
from tx_jax.files import json_text, path_of, sizes_of, write_atomically
from tx_jax.storage import cache
from tx_jax.storage.cache import File
from tx_jax.storage.store_path import StorePath

FORMAT = 1
SPLITS = ("train", "validation")
META, JOURNAL, TOKENIZER, INDEX = "meta.json", "journal.json", "tokenizer", "index"
DIGESTS = "digests.bin"  # only in a share of a store that several processes prepare: see `corpus/shares.py`
SENTENCES, DOCUMENTS, UNIGRAM = "sentences.npy", "documents.npy", "unigram.npy"


class UnusableStore(InputError):
    """A folder that should hold a token store holds none, a damaged one, or one made with other settings."""


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrower of two candidate types that can hold every id of the vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class TokenStore:
    """A finished token store. Opening it reads meta.json and compares file sizes; data is read on demand.

    Attributes:
      path: the folder, for messages too; it may be on an object store.
      meta: the contents of meta.json.
      vocab_size: vocabulary size of the tokenizer that made it.
    """

    def __init__(self, path: Path, meta: dict):
        self.path = path
        self.meta = meta
        self.vocab_size: int = meta["vocab_size"]

    @classmethod
    def open(cls, path: str | Path) -> "TokenStore":
        """Raises UnusableStore if there is no finished store, or if its files are missing or have the wrong size."""
        path = path_of(path, "store")
        if (path / JOURNAL).is_file() and not (path / META).is_file():
            raise UnusableStore(
                f"the token store at {path} is unfinished: run the same python -m experiments.prepare command again"
            )
        if not (path / META).is_file():
            raise UnusableStore(f"no token store at {path}: make one with python -m experiments.prepare --store={path}")
        store = cls(path, read_json(path / META))
        if store.meta.get("format") != FORMAT:
            raise UnusableStore(
                f"{path / META} has format {store.meta.get('format')}, this version reads {FORMAT}: prepare it again"
            )
        if problems := _size_problems(path, store._files()):
            raise UnusableStore(
                f"the token store at {path} is damaged: {', '.join(problems)}; restore it or prepare it again"
            )
        return store

    def _files(self) -> list[dict]:
        splits = self.meta["splits"].values()
        return [*self.meta["files"], *(entry for split in splits for entry in (*split["shards"], *split["files"]))]

    @cached_property
    def folder(self) -> Path:
        """Where its files are on this host: its own folder, or a copy, which is made now.

        Raises:
          InputError: it is not what meta.json says, or there is no room for the copy.
        """
        if not isinstance(self.path, StorePath):
            return self.path
        files = [File(entry["file"], entry["bytes"], "", entry["sha256"]) for entry in self._files()]
        return cache.copy_of(self.path, files)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the checksums of all files: equal for stores with equal contents."""
        return hashlib.sha256("".join(entry["sha256"] for entry in self._files()).encode()).hexdigest()

    def verify(self) -> None:
        """Read every file and compare checksums. Raises UnusableStore, naming the damaged files."""
        damaged = [entry["file"] for entry in self._files() if sha256(self.folder / entry["file"]) != entry["sha256"]]
        if damaged:
            raise UnusableStore(
                f"the token store at {self.path} has damaged files: {', '.join(damaged)}; prepare it again"
            )

    def tokenizer(self) -> text.Tokenizer:
        """The tokenizer that made the store."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> text.Tokenizer:
        return text.load(self.folder / TOKENIZER)

    def split(self, name: str) -> "Split":
        """One of the two splits, "train" or "validation"."""
        if name not in SPLITS:
            raise InputError(f"unknown split {name!r}: expected one of {SPLITS}")
        return Split(self.folder, name, self.meta["splits"][name], self.vocab_size, self.fingerprint, str(self.path))


class Split:
    """The documents of one split.

    Attributes:
      name: the store and the split, for messages.
      folder: STORE/train or STORE/validation.
      fingerprint: the store's fingerprint; empty if unknown.
      num_documents, num_sentences, num_tokens: totals.
      sentence_offsets: int64 [num_sentences + 1], token offset where each sentence begins; memory-mapped.
      document_offsets: int64 [num_documents + 1], sentence index where each document begins; memory-mapped.
      unigram: int64 [vocab_size], how often each token occurs.
    """

    def __init__(self, store: Path, name: str, meta: dict, vocab_size: int, fingerprint: str = "", title: str = ""):
        self.name = f"{title or store} ({name})"
        self.folder, self.fingerprint = store / name, fingerprint
        self.num_documents: int = meta["documents"]
        self.num_sentences: int = meta["sentences"]
        self.num_tokens: int = meta["tokens"]
        self._vocab_size = vocab_size
        self._paths = [store / shard["file"] for shard in meta["shards"]]
        self._bounds = np.cumsum([0, *(shard["tokens"] for shard in meta["shards"])])
        self._shards: list[np.ndarray | None] = [None] * len(self._paths)

    @cached_property
    def sentence_offsets(self) -> np.ndarray:
        return map_array(self.folder / SENTENCES)

    @cached_property
    def document_offsets(self) -> np.ndarray:
        return map_array(self.folder / DOCUMENTS)

    @cached_property
    def unigram(self) -> np.ndarray:
        return map_array(self.folder / UNIGRAM)

    def read(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Concatenate the token ranges [starts[i], ends[i]) in the order given: int32 [sum(ends - starts)].

        Offsets count from the beginning of the split; each range must lie within one shard, as every document does.
        Raises ValueError for a range that does not, and InputError naming the shard for an id outside the vocabulary.
        """
        starts, ends = np.asarray(starts), np.asarray(ends)
        if len(starts) == 0:
            return np.empty(0, np.int32)
        shards = np.searchsorted(self._bounds, starts, side="right") - 1
        np.minimum(shards, len(self._paths) - 1, out=shards)  # an empty range may begin at the very end
        if starts.min() < 0 or (ends < starts).any() or (ends > self._bounds[shards + 1]).any():
            raise ValueError("a token range is reversed, leaves its shard, or lies outside the split")
        for shard in np.unique(shards):
            if self._shards[shard] is None:
                self._shards[shard] = map_array(self._paths[shard])
        firsts = self._bounds[shards]
        pieces = [
            self._shards[shard][start:end]
            for shard, start, end in zip(
                shards.tolist(), (starts - firsts).tolist(), (ends - firsts).tolist(), strict=True
            )
        ]
        tokens = np.concatenate(pieces, dtype=np.int32, casting="unsafe")
        if tokens.size and tokens.view(np.uint32).max() >= self._vocab_size:
            bad = next(i for i, piece in enumerate(pieces) if piece.size and piece.max() >= self._vocab_size)
            raise InputError(
                f"{self._paths[shards[bad]]} holds token id {pieces[bad].max()}, outside the vocabulary of "
                f"{self._vocab_size}: the file is damaged or from another store; prepare the store again"
            )
        return tokens


def map_array(path: Path) -> np.ndarray:
    """A memory-mapped .npy file as a plain ndarray, whose slices are several times cheaper than a memmap's."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _size_problems(store: Path, entries: list[dict]) -> list[str]:
    sizes = sizes_of(store, [entry["file"] for entry in entries])
    problems = []
    for entry in entries:
        if (size := sizes.get(entry["file"])) is None:
            problems.append(f"{entry['file']} is missing")
        elif size != entry["bytes"]:
            problems.append(f"{entry['file']} has {size} bytes instead of {entry['bytes']}")
    return problems


def sha256(path: Path) -> str:
    """The file's checksum, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(store: Path, path: Path) -> dict:
    """A row of the table of files in meta.json."""
    return {"file": path.relative_to(store).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnusableStore(f"{path} is not valid JSON ({error}): prepare the store again") from None


def write_json(path: Path, value: dict) -> None:
    """Replace a JSON file atomically: a reader, or a restart after a kill, sees the old file or the new one."""
    write_atomically(path, json_text(value, indent=1))

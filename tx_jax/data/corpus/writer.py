"""Writing a token store: append-only files that a restart can truncate to a recorded state. Layout: see `corpus`."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from tx_jax.data.corpus.token_store import DOCUMENTS, SENTENCES, UNIGRAM, UnusableStore, file_entry, token_dtype


@dataclass(frozen=True)
class TokenBlock:
    """Whole documents as tokens.

    Attributes:
      tokens: [T], the token ids of all sentences, concatenated.
      sentence_lengths: int64 [S], tokens of each sentence, none 0; they sum to T.
      document_lengths: int64 [D], sentences of each document, none 0; they sum to S.
    """

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    document_lengths: np.ndarray


class GrowingArray:
    """A one-dimensional .npy file written by appending. Its header says 0 items until `finish` corrects it.

    Opening truncates the file to its first `length` items, which must exist, so that a writer can return to a
    recorded state.
    """

    def __init__(self, path: Path, dtype: np.dtype, length: int = 0):
        self.path = path
        self.dtype = np.dtype(dtype)
        self.length = length
        path.parent.mkdir(parents=True, exist_ok=True)
        header = self._header(0)
        size = len(header) + length * self.dtype.itemsize
        if length and not (path.is_file() and path.stat().st_size >= size):
            raise UnusableStore(f"{path} is shorter than its journal says: prepare the store again")
        self._file = path.open("r+b" if length else "w+b")
        self._file.write(header)
        self._file.truncate(size)
        self._file.seek(size)

    def _header(self, length: int) -> bytes:
        # numpy leaves room for the length to grow, so every header for a given type has the same size.
        header = BytesIO()
        layout = {"descr": self.dtype.str, "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(header, layout)
        return header.getvalue()

    def append(self, items: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(items, self.dtype).data)
        self.length += len(items)

    def sync(self) -> None:
        """Block until everything appended so far is on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the header, and close."""
        self._file.seek(0)
        self._file.write(self._header(self.length))
        self.sync()
        self.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()


class SplitWriter:
    """Appends blocks of documents to one split, and can be rebuilt from the `state` it had at some point.

    Args:
      store: the folder of the store.
      name: the name of the split.
      vocab_size: ids appended must be below it.
      shard_tokens: start a new shard rather than exceed this; a longer document gets its own shard.
      state: what `state()` returned; everything appended after that is dropped.

    Attributes:
      num_documents, num_sentences, num_tokens: totals appended so far.
      unigram: int64 [vocab_size], how often each token occurs in them.
    """

    def __init__(self, store: Path, name: str, *, vocab_size: int, shard_tokens: int, state: dict | None = None):
        state = state or {"shards": [], "open_shard": 0, "sentences": 0, "documents": 0, "single_sentence": 0}
        self._store, self._name = store, name
        self._dtype = token_dtype(vocab_size)
        self._shard_tokens = shard_tokens
        self._shards: list[dict] = list(state["shards"])
        self.unigram = np.array(state.get("unigram", np.zeros(vocab_size)), np.int64)
        self._single_sentence: int = state["single_sentence"]
        self.num_tokens = int(self.unigram.sum())
        # Both offset files begin with a 0, hence one item more than there are sentences or documents.
        self._sentences = self._offsets(SENTENCES, state["sentences"])
        self._documents = self._offsets(DOCUMENTS, state["documents"])
        for path in (store / name).glob("tokens-*.npy"):
            if path.name > _shard_name(len(self._shards)):
                path.unlink()
        self._shard = self._open_shard(state["open_shard"])

    def _offsets(self, file: str, count: int) -> GrowingArray:
        array = GrowingArray(self._store / self._name / file, np.int64, count + 1 if count else 0)
        if not count:
            array.append(np.zeros(1, np.int64))
        return array

    def _open_shard(self, length: int = 0) -> GrowingArray:
        return GrowingArray(self._store / self._name / _shard_name(len(self._shards)), self._dtype, length)

    @property
    def num_sentences(self) -> int:
        return self._sentences.length - 1

    @property
    def num_documents(self) -> int:
        return self._documents.length - 1

    def append(self, block: TokenBlock) -> None:
        """Append the documents of a block."""
        if len(block.document_lengths) == 0:
            return
        sentence_ends = np.cumsum(block.sentence_lengths)
        document_ends = np.cumsum(block.document_lengths)
        self._append_tokens(block.tokens, sentence_ends[document_ends - 1])
        self._documents.append(self.num_sentences + document_ends)
        self._sentences.append(self.num_tokens + sentence_ends)
        self._single_sentence += int((block.document_lengths == 1).sum())
        self.unigram += np.bincount(block.tokens, minlength=len(self.unigram))
        self.num_tokens += len(block.tokens)

    def _append_tokens(self, tokens: np.ndarray, document_ends: np.ndarray) -> None:
        """Append tokens to the open shard, and to new shards if a document does not fit."""
        done = 0
        while done < len(tokens):
            room = self._shard_tokens - self._shard.length
            fitting = np.searchsorted(document_ends, done + room, side="right")
            end = int(document_ends[fitting - 1]) if fitting else 0
            if end <= done:  # not even the next document fits
                if self._shard.length:
                    self._finish_shard()
                    self._shard = self._open_shard()
                    continue
                end = int(document_ends[np.searchsorted(document_ends, done, side="right")])
            self._shard.append(tokens[done:end])
            done = end

    def _finish_shard(self) -> None:
        self._shard.finish()
        self._shards.append(file_entry(self._store, self._shard.path) | {"tokens": self._shard.length})

    def state(self) -> dict:
        """The current state, JSON-compatible. Everything appended so far is on disk when this returns."""
        for array in (self._shard, self._sentences, self._documents):
            array.sync()
        return {
            "shards": self._shards,
            "open_shard": self._shard.length,
            "sentences": self.num_sentences,
            "documents": self.num_documents,
            "single_sentence": self._single_sentence,
            "unigram": self.unigram.tolist(),
        }

    def finish(self) -> dict:
        """Complete and close all files; returns the split's part of meta.json."""
        if self._shard.length:
            self._finish_shard()
        else:
            self._shard.close()
            self._shard.path.unlink()
        self._sentences.finish()
        self._documents.finish()
        folder = self._store / self._name
        np.save(folder / UNIGRAM, self.unigram)
        return {
            "documents": self.num_documents,
            "sentences": self.num_sentences,
            "tokens": self.num_tokens,
            "single_sentence_documents": self._single_sentence,
            "shards": self._shards,
            "files": [file_entry(self._store, folder / file) for file in (SENTENCES, DOCUMENTS, UNIGRAM)],
        }

    def close(self) -> None:
        """Close all files as they are. If left open, they could write buffered data into the files of a successor."""
        for array in (self._shard, self._sentences, self._documents):
            array.close()


def _shard_name(index: int) -> str:
    return f"tokens-{index:05d}.npy"

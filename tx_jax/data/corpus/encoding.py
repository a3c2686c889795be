"""Encodes documents as token blocks in parallel: cuts the stream into text blocks, which workers encode, in order."""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from tx_jax.data.corpus.token_store import SPLITS, token_dtype
from tx_jax.data.corpus.writer import TokenBlock
from tx_jax.errors import InputError
from tx_jax.text import Tokenizer, sentences

# Sentences passed to the tokenizer at once: its results take many times the memory of the text.
_BATCH = 256
DIGEST_BYTES = 16  # of a document
# Sentence endings in scripts that do not put a space after a sentence.
_SPACELESS_ENDS = tuple("。！？｡」』】）")


@dataclass(frozen=True)
class TextBlock:
    """A piece of work for one worker: several whole documents, or one part of a long one.

    Attributes:
      texts: the documents, or the one part.
      is_validation: whether each text is in the validation split.
      is_part, is_last_part: whether this is a part of a long document, and whether it is the last part.
      documents: number of documents consumed from the source by the end of this block.
      digest: digest of all of those documents (hex), which identifies the source after a restart.
    """

    texts: list[str]
    is_validation: list[bool]
    documents: int
    digest: str
    is_part: bool = False
    is_last_part: bool = False


@dataclass(frozen=True)
class EncodedBlock:
    """An encoded `TextBlock`: the documents of each split, except those without tokens, and counts of
    "characters", "documents_empty" and "sentences_cut"."""

    splits: dict[str, TokenBlock]
    counts: Counter


class Digest:
    """A running digest of a sequence of documents.

    Args:
      record: gets the digest of each, so that `extend` can put those of several sequences together.
    """

    def __init__(self, record: BinaryIO | None = None):
        self._state, self._record = hashlib.blake2b(digest_size=DIGEST_BYTES), record

    def update(self, document: str) -> float:
        """Add a document. Returns its content's hash in [0, 1), which is equal for equal documents."""
        content = hashlib.blake2b(document.strip().encode(), digest_size=DIGEST_BYTES).digest()
        self._state.update(content)
        if self._record is not None:
            self._record.write(content)
        return int.from_bytes(content[:6], "big") / 2**48

    def extend(self, record: bytes) -> None:
        """Adds the documents whose digests another one recorded."""
        self._state.update(record)

    def hexdigest(self) -> str:
        return self._state.hexdigest()


def text_blocks(
    documents: Iterable[str],
    *,
    block_characters: int,
    validation_fraction: float,
    consumed: int = 0,
    digest: Digest | None = None,
) -> Iterator[TextBlock]:
    """Cut a stream of documents into blocks of about `block_characters`; reads no further than the current block.

    A document is in the validation split if its content's hash in [0, 1) is below `validation_fraction`, so equal
    documents share a split. `consumed` and `digest` describe the documents already taken from the source.
    """
    digest = digest or Digest()
    texts: list[str] = []
    is_validation: list[bool] = []
    size = 0
    for document in documents:
        if texts and size + len(document) > block_characters:
            yield TextBlock(texts, is_validation, consumed, digest.hexdigest())
            texts, is_validation, size = [], [], 0
        held_out = digest.update(document) < validation_fraction
        consumed += 1
        if len(document) > block_characters:
            for part, is_last in _parts(document, block_characters):
                yield TextBlock([part], [held_out], consumed, digest.hexdigest(), is_part=True, is_last_part=is_last)
        else:
            texts.append(document)
            is_validation.append(held_out)
            size += len(document)
    if texts:
        yield TextBlock(texts, is_validation, consumed, digest.hexdigest())


def _parts(document: str, limit: int) -> Iterator[tuple[str, bool]]:
    """Cut a long document at blank lines, else line ends, else spaces, else anywhere. Yields (part, is last)."""
    start = 0
    while start < len(document):
        end = min(start + limit, len(document))
        if end < len(document):
            # No boundary in the second half means that boundaries are rare: cut anywhere rather than keep searching.
            found = (document.rfind(mark, start + limit // 2, end) + len(mark) for mark in ("\n\n", "\n", " "))
            end = next((place for place in found if place > start + limit // 2), end)
        yield document[start:end], end == len(document)
        start = end


@dataclass(frozen=True)
class Encoder:
    """Splits blocks into sentences and encodes them; sent to the worker processes.

    Attributes:
      tokenizer: encodes the sentences.
      sentence_mode: see `sentences.split`.
      max_characters: longer sentences are cut, and counted.
    """

    tokenizer: Tokenizer
    sentence_mode: str
    max_characters: int

    def __call__(self, block: TextBlock) -> EncodedBlock:
        counts = Counter(characters=sum(map(len, block.texts)))
        parts: list[str] = []
        parts_of: list[int] = []
        for document in block.texts:
            before = len(parts)
            for sentence in sentences.split(document, self.sentence_mode):
                verbatim = self.sentence_mode == "verbatim"
                pieces = sentences.cut(sentence, self.max_characters, drops_space=not verbatim)
                counts["sentences_cut"] += len(pieces) > 1
                if (
                    self._joins_by_space
                    and not verbatim
                    and len(parts) > before
                    and not parts[-1].endswith(_SPACELESS_ENDS)
                ):
                    pieces[0] = f" {pieces[0]}"
                parts += pieces
            parts_of.append(len(parts) - before)
        tokens, lengths = self._encode(parts)
        # A sentence with only control characters has no tokens and is dropped.
        document_of = np.repeat(np.arange(len(parts_of)), parts_of)[lengths > 0]
        lengths = lengths[lengths > 0]
        document_lengths = np.bincount(document_of, minlength=len(parts_of))
        counts["documents_empty"] += 0 if block.is_part else int((document_lengths == 0).sum())
        splits = {}
        for name, chosen in zip(SPLITS, (~np.array(block.is_validation), np.array(block.is_validation)), strict=True):
            in_split = chosen[document_of]
            splits[name] = TokenBlock(
                tokens[np.repeat(in_split, lengths)],
                lengths[in_split],
                document_lengths[chosen & (document_lengths > 0)],
            )
        return EncodedBlock(splits, counts)

    @property
    def _joins_by_space(self) -> bool:
        """Whether sentences, except the first of a document (or of a part of a long one), get a leading space.

        A byte-level tokenizer that adds no prefix space itself, like the published ones, has a different token for a
        word without a leading space, and that token would end up in the middle of a text.
        """
        return getattr(self.tokenizer, "add_prefix_space", None) is False

    def _encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(token ids of all texts, concatenated; number of tokens of each)."""
        dtype = token_dtype(self.tokenizer.vocab_size)
        tokens, lengths = [np.empty(0, dtype)], [np.empty(0, np.int64)]
        for first in range(0, len(texts), _BATCH):
            ids, counts = self.tokenizer.encode_flat(texts[first : first + _BATCH])
            tokens.append(ids.astype(dtype))
            lengths.append(counts)
        return np.concatenate(tokens), np.concatenate(lengths)


def join_long_documents(
    results: Iterable[tuple[TextBlock, EncodedBlock]],
) -> Iterator[tuple[TextBlock, EncodedBlock]]:
    """Replace the parts of each long document with one block that holds the whole document."""
    parts: list[EncodedBlock] = []
    for block, encoded in results:
        if not block.is_part:
            yield block, encoded
            continue
        parts.append(encoded)
        if block.is_last_part:
            yield block, _join(parts)
            parts = []


def _join(parts: list[EncodedBlock]) -> EncodedBlock:
    """Joins the encoded parts of one document."""
    counts = sum((part.counts for part in parts), Counter())
    splits = {}
    for name in SPLITS:
        lengths = np.concatenate([part.splits[name].sentence_lengths for part in parts])
        tokens = np.concatenate([part.splits[name].tokens for part in parts])
        splits[name] = TokenBlock(tokens, lengths, np.array([len(lengths)] if len(lengths) else [], np.int64))
    counts["documents_empty"] += not any(len(block.document_lengths) for block in splits.values())
    return EncodedBlock(splits, counts)


def encode_in_order(
    encoder: Encoder, blocks: Iterable[TextBlock], workers: int
) -> Iterator[tuple[TextBlock, EncodedBlock]]:
    """Encode blocks with `workers` processes (1: in this process), and yield each with its result in input order.

    At most two blocks per worker are in flight; the stream is read no further ahead than that.
    Raises InputError if a worker was killed.
    """
    if workers == 1:
        yield from ((block, encoder(block)) for block in blocks)
        return
    # Not fork: the caller may have threads (from JAX or the tokenizers library), and fork copies their locks.
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pool = ProcessPoolExecutor(workers, context, _start_worker, (encoder,))
        stack.callback(pool.shutdown, cancel_futures=True)
        pending: deque = deque()
        try:
            for block in blocks:
                pending.append((block, pool.submit(_encode_in_worker, block)))
                if len(pending) >= 2 * workers:
                    block, future = pending.popleft()
                    yield block, future.result()
            for block, future in pending:
                yield block, future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, most likely for lack of memory: run again with fewer workers; the work "
                "done so far is kept"
            ) from None


_encoder: Encoder  # in a worker process, set once


def _start_worker(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the main process, which stops the workers
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A killed parent cannot stop its workers, which would wait for work forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _encode_in_worker(block: TextBlock) -> EncodedBlock:
    return _encoder(block)

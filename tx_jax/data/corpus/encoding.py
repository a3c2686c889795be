"""Documents to token blocks, in parallel: cut the stream into blocks of text, encode each in a worker, in order."""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from tx_jax.data.corpus.token_store import SPLITS, token_dtype
from tx_jax.data.corpus.writer import TokenBlock
from tx_jax.errors import InputError
from tx_jax.text import Tokenizer, sentences

# Sentences handed to the tokenizer at once: while they live, its results are many times the size of the text.
_BATCH = 256
# What ends a sentence in scripts that write no space after it.
_SPACELESS_ENDS = tuple("。！？｡」』】）")


@dataclass(frozen=True)
class TextBlock:
    """A piece of work for one worker: several whole documents, or one part of a long one.

    Attributes:
      texts: the documents, or the one part.
      is_validation: of each text.
      is_part, is_last_part: whether this is a part of a long document, and the last one of it.
      documents: number of documents consumed from the source by the end of this block.
      digest: of all of those (hex), by which the source is recognized after a restart.
    """

    texts: list[str]
    is_validation: list[bool]
    documents: int
    digest: str
    is_part: bool = False
    is_last_part: bool = False


@dataclass(frozen=True)
class EncodedBlock:
    """What a `TextBlock` becomes: the documents of each split, without those that have no token, and counts of
    "characters", "documents_empty" and "sentences_cut"."""

    splits: dict[str, TokenBlock]
    counts: Counter


class Digest:
    """A running digest of a sequence of documents."""

    def __init__(self):
        self._state = hashlib.blake2b(digest_size=16)

    def update(self, document: str) -> float:
        """Add a document. Returns its content's place in [0, 1): equal documents, equal places."""
        content = hashlib.blake2b(document.strip().encode(), digest_size=16).digest()
        self._state.update(content)
        return int.from_bytes(content[:6], "big") / 2**48

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
    """Cut a stream of documents into blocks of about `block_characters`; reads no further than the block it yields.

    A document is in the validation split if its content's place in [0, 1) is below `validation_fraction`, so equal
    documents share a split. `consumed` and `digest` stand for documents taken from the source before.
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
    """Cut a long document at blank lines, else line ends, else spaces, else anywhere; (part, is last)."""
    start = 0
    while start < len(document):
        end = min(start + limit, len(document))
        if end < len(document):
            # No boundary in the second half means that there are few: cut anywhere rather than search on.
            found = (document.rfind(mark, start + limit // 2, end) + len(mark) for mark in ("\n\n", "\n", " "))
            end = next((place for place in found if place > start + limit // 2), end)
        yield document[start:end], end == len(document)
        start = end


@dataclass(frozen=True)
class Encoder:
    """Splits blocks into sentences and encodes them; travels to the worker processes.

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
                pieces = sentences.cut(sentence, self.max_characters)
                counts["sentences_cut"] += len(pieces) > 1
                if self._joins_by_space and len(parts) > before and not parts[-1].endswith(_SPACELESS_ENDS):
                    pieces[0] = f" {pieces[0]}"
                parts += pieces
            parts_of.append(len(parts) - before)
        tokens, lengths = self._encode(parts)
        # A sentence of control characters alone has no token, and is none.
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
        """Whether sentences but the first of a document (or of a part of a long one) are encoded with the space before.

        A byte-level tokenizer without a prefix space of its own, as the published ones are, has another token for a
        word without a space, which here would end up in the middle of a text.
        """
        return getattr(self.tokenizer, "add_prefix_space", None) is False

    def _encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(token ids of all texts, concatenated; number of tokens of each)."""
        dtype = token_dtype(self.tokenizer.vocab_size)
        tokens, lengths = [np.empty(0, dtype)], []
        for first in range(0, len(texts), _BATCH):
            batch = self.tokenizer.encode_batch(texts[first : first + _BATCH])
            lengths += map(len, batch)
            tokens.append(np.fromiter(itertools.chain.from_iterable(batch), dtype))
        return np.concatenate(tokens), np.array(lengths, np.int64)


def join_long_documents(
    results: Iterable[tuple[TextBlock, EncodedBlock]],
) -> Iterator[tuple[TextBlock, EncodedBlock]]:
    """Replace the parts of each long document by one block with the whole of it."""
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
    """One document from the encoded parts of it."""
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
    """Encode blocks with `workers` processes (1: in this one), and yield each with its result in the order given.

    At most two blocks per worker are under way: the stream is read no further ahead than that.
    Raises InputError where a worker was killed.
    """
    if workers == 1:
        yield from ((block, encoder(block)) for block in blocks)
        return
    # Not fork: the caller may have threads, of JAX or of the tokenizers library, and fork copies their locks.
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

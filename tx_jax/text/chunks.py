"""Splits text into pieces that tokenizer trainers can handle."""

from collections.abc import Callable, Iterable, Iterator

# Texts are passed to a trainer in pieces of at most this many characters: one long string takes it 200 times its size.
CHUNK_CHARACTERS = 10_000
# Trainers keep the distinct words of the text in memory, about 100 bytes for each byte of a word: 2 GB at this limit.
DISTINCT_BYTES = 20_000_000


def chunks(document: str) -> Iterator[str]:
    """Lines of a document. Lines over `CHUNK_CHARACTERS` are cut at white space, or anywhere if there is none."""
    for line in document.splitlines():
        start = 0
        while len(line) - start > CHUNK_CHARACTERS:
            space = line.rfind(" ", start, start + CHUNK_CHARACTERS)
            end = space if space > start else start + CHUNK_CHARACTERS
            yield line[start:end]
            start = end
        if start < len(line):
            yield line[start:]


def counted(documents: Iterable[str], progress: Callable[[int], None] | None) -> Iterator[str]:
    """Yield the documents; after each one, call `progress` with the number of characters so far."""
    characters = 0
    for document in documents:
        yield document
        characters += len(document)
        if progress:
            progress(characters)


def until_many_words(documents: Iterable[str], max_bytes: int = DISTINCT_BYTES) -> Iterator[str]:
    """Yield documents until their distinct words, split at white space, exceed `max_bytes` bytes in total.

    A text in a script without spaces reaches this limit after some million characters, which is a large sample. In
    languages with spaces new words become rare, and a text that reaches the limit is many times as long.
    """
    known: set[str] = set()
    size = 0
    for document in documents:
        yield document
        words = set(document.split()) - known
        known |= words
        size += sum(len(word.encode("utf-8", errors="replace")) for word in words)
        if size > max_bytes:
            return

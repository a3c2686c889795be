"""Splits text into pieces that tokenizer trainers can handle."""

from collections.abc import Callable, Iterable, Iterator

# Texts reach a trainer in pieces of at most this many characters: one long string costs it 200 times its size.
CHUNK_CHARACTERS = 10_000
# Trainers keep the distinct words of the text in memory, about 100 bytes for each of their bytes: at this limit, 2 GB.
DISTINCT_BYTES = 20_000_000


def chunks(document: str) -> Iterator[str]:
    """Lines of a document, none longer than `CHUNK_CHARACTERS`: cut at white space, or anywhere if there is none."""
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
    """The documents; after each one, `progress` is called with the number of characters so far."""
    characters = 0
    for document in documents:
        yield document
        characters += len(document)
        if progress:
            progress(characters)


def until_many_words(documents: Iterable[str], max_bytes: int = DISTINCT_BYTES) -> Iterator[str]:
    """The documents, until their distinct words, cut at white space, have `max_bytes` bytes.

    A text in a script without spaces reaches this after some million characters, a large sample of it. In languages
    with spaces new words become rare, and a text that reaches it is many times as long.
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

"""Text in pieces that the trainers of tokenizers can digest."""

from collections.abc import Callable, Iterable, Iterator

# Texts reach a trainer in pieces of at most this many characters: one long string costs it 200 times its size.
CHUNK_CHARACTERS = 10_000


def chunks(document: str) -> Iterator[str]:
    """Lines of a document, none longer than `CHUNK_CHARACTERS`: cut at white space, or anywhere where there is none."""
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
    """The documents; after each was used, `progress` is called with the number of characters so far."""
    characters = 0
    for document in documents:
        yield document
        characters += len(document)
        if progress:
            progress(characters)

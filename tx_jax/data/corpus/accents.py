"""Counts how many letters of a text lose their accents in a tokenizer that drops them, like BERT's uncased ones."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

# Counting takes longer than reading, and the first documents are enough to estimate a text's share of accents.
_CHARACTERS = 10_000_000
_EXAMPLES = 6


class AccentCount:
    """Counts the letters of documents that pass through, up to some millions of characters."""

    def __init__(self):
        self._characters: Counter[str] = Counter()
        self._left = _CHARACTERS

    def counted(self, documents: Iterable[str]) -> Iterator[str]:
        """Counts the documents as they pass through, and yields them unchanged."""
        for document in documents:
            if self._left > 0:
                self._characters.update(document[: self._left])
                self._left -= len(document)
            yield document

    def lost(self) -> str:
        """A sentence with the share of the letters that lose an accent, or "" if it rounds to 0.00%."""
        letters = sum(count for character, count in self._characters.items() if character.isalpha())
        changed = Counter({character: count for character, count in self._characters.items() if _changes(character)})
        share = f"{changed.total() / max(1, letters):.2%}"
        if share == "0.00%":
            return ""
        # Most common first; a combining mark is shown on a dotted circle.
        shown = [f"◌{c}" if unicodedata.combining(c) else c for c, _ in changed.most_common(_EXAMPLES)]
        return f"{share} of the letters lose their accents ({', '.join(shown)})"


def _changes(character: str) -> bool:
    return any(unicodedata.category(part) == "Mn" for part in unicodedata.normalize("NFD", character))

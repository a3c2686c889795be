"""Generated ids as text: whole characters only, and what ends a sequence."""

from collections.abc import Iterator, Sequence

from tx_jax.text.tokenizer import Tokenizer

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what the bytes of a part of a character are decoded to


def continuation(tokenizer: Tokenizer, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """The text that these ids add to a prompt, with the space between the two; special tokens have none."""
    special = set(tokenizer.special_ids)
    before, added = ([i for i in part if i not in special] for part in (prompt, ids))
    start, whole = tokenizer.decode(before), tokenizer.decode([*before, *added])
    return whole[len(start) :] if before and whole.startswith(start) else tokenizer.decode(added)


def without_part(text: str) -> str:
    """The text without a character at its end of which only some bytes are there yet."""
    return text.rstrip(_INCOMPLETE)


class Stops:
    """What ends a sequence: tokens, which a program sees itself, and texts, which are looked for after it."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]):
        """
        Args:
          stop: texts; one that is the name of a special token is that token.
        """
        self._tokenizer = tokenizer
        names = {tokenizer.token(i): i for i in tokenizer.special_ids}
        self.ids = sorted({tokenizer.eos_id, *(names[text] for text in stop if text in names)})
        self.texts = tuple(text for text in stop if text not in names)

    def place(self, prompt: Sequence[int], ids: Sequence[int]) -> tuple[int, str] | None:
        """How many of the ids there are when the first text is complete, and what precedes it; None without any."""
        whole = continuation(self._tokenizer, prompt, ids)
        if not any(text in whole for text in self.texts):
            return None
        for count in range(1, len(ids) + 1):
            text = continuation(self._tokenizer, prompt, ids[:count])
            if found := [place for stop in self.texts if (place := text.find(stop)) >= 0]:
                return count, text[: min(found)]
        return None

    def safe(self, text: str) -> str:
        """The text without what may be the beginning of a stop text."""
        longest = max((len(stop) for stop in self.texts), default=0)
        for size in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self.texts):
                return text[:-size]
        return text


def pieces(texts: Iterator[str]) -> Iterator[str]:
    """What each text adds to the one before it. A text that changes what came before adds nothing until it no longer
    does."""
    shown = ""
    for text in texts:
        if len(text) > len(shown) and text.startswith(shown):
            yield text[len(shown) :]
            shown = text

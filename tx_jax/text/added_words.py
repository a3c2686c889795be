"""Words added to a tokenizer.json after training. Each is one token wherever it occurs as a whole word.

A whole word has no letter, digit or "_" next to it. Its token includes the white space before it, so it is the same
token after a space, after a bracket and at the beginning of a text. It always begins a word; all other words keep their
tokens. Decoding restores one space, except where none is usual: at the beginning, after an opening bracket, or after a
hyphen as in "anti-covid". In scripts written without spaces, a word is matched anywhere and has no space.

All of this is stored in the tokenizer.json. A transformers class that rebuilds its engine from the vocabulary alone
would lose it, so the file must be loaded with the general class, as AutoTokenizer does.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Regex, decoders
from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError

# Contexts in which no space comes before a word: the beginning of the text; opening brackets, joiners, and Chinese and
# Japanese punctuation; a hyphen inside a word; opening quotation marks of the kind that look the same on both sides.
_NO_SPACE_AFTER = (
    r"(?:\A|(?<=[(\[{<«“‘„‚¿¡/#@'’\u3000-\u303f\uff01-\uff1f])|(?<=\w[-\u2010\u2011])|"
    r"""(?<=[\s(\[]")|(?<=\A"))"""
)


def add_words(
    definition: Mapping[str, Any], words: Mapping[str, int], spaceless: Iterable[str], *, has_words: bool
) -> dict[str, Any]:
    """The tokenizer.json with these words added; `words` maps each word to its id.

    Args:
      spaceless: the words that are also matched inside other words.
      has_words: whether there are already added words, from tx_jax or elsewhere. The text around them then keeps its
        tokens: a comma after a word added elsewhere is encoded with a space before it, so it is after all added words.
    """
    spaceless = set(spaceless)
    added = [
        {
            "id": index,
            "content": word,
            "single_word": word not in spaceless,
            "lstrip": word not in spaceless,
            "rstrip": False,
            "normalized": True,
            "special": False,
        }
        for word, index in words.items()
    ]
    spaced_once = _with_a_space_at_the_start_only(definition)
    engine = Engine.from_str(json.dumps({**(definition if has_words else spaced_once), "added_tokens": []}))
    if spaced := [word for word in words if word not in spaceless]:
        either = "|".join(map(re.escape, spaced))
        # The model's own decoder does not change a text that already begins with a space.
        put = decoders.Replace(Regex(rf"\A(?=(?:{either})\z)"), " ")
        drop = decoders.Replace(Regex(superfluous_spaces(spaced)), "")
        own = [engine.decoder] if engine.decoder else []
        engine.decoder = decoders.Sequence([put, *own, decoders.Fuse(), drop])
    return {**json.loads(engine.to_str()), "added_tokens": [*definition["added_tokens"], *added]}


def superfluous_spaces(words: Iterable[str]) -> str:
    """A pattern that matches the spaces that decoding put before these words where none is usual."""
    return rf"{_NO_SPACE_AFTER} (?=(?:{'|'.join(map(re.escape, words))})(?!\w))"


def _with_a_space_at_the_start_only(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Change the definition so that its engine adds a space at the beginning of a text, but not after an added word.

    Otherwise "covid," would become "covid ,". Texts without added words keep their tokens. If the tokenizer splits
    words at punctuation, every part has such a space and keeps it. Raises InputError if the definition has neither a
    ByteLevel nor a Metaspace.
    """
    steps = _steps(definition["normalizer"], "normalizers")
    parts = _steps(definition["pre_tokenizer"], "pretokenizers")
    kinds = [part["type"] for part in parts]
    if "ByteLevel" not in kinds and "Metaspace" not in kinds:
        raise InputError(
            "words cannot be added to this tokenizer: its tokenizer.json has no ByteLevel and no Metaspace"
        )
    if kinds == ["ByteLevel"] and parts[0]["add_prefix_space"]:
        at_start = {"type": "Metaspace", "replacement": " ", "prepend_scheme": "first", "split": False}
        parts = [at_start, {**parts[0], "add_prefix_space": False}]
    elif kinds in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]) and parts[-1]["prepend_scheme"] == "always":
        # "first" detects the beginning by position in the text: white space there must become one space, not vanish.
        if any(step["type"] == "Strip" for step in steps):
            steps = [{**step, "strip_left": False} if step["type"] == "Strip" else step for step in steps]
            steps.append(_replace(r"\A\s+", " "))
        if "WhitespaceSplit" in kinds:
            steps += [_replace(rf"\s+(?={parts[-1]['replacement']}|\z)", ""), _replace(r"\s+", " ")]
        parts = [{**parts[-1], "prepend_scheme": "first"}]
    return {
        **definition,
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
    }


def _steps(part: Mapping[str, Any] | None, key: str) -> list[dict[str, Any]]:
    return [] if part is None else list(part[key]) if part["type"] == "Sequence" else [dict(part)]


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

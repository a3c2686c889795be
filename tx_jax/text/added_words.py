"""Words added to a tokenizer.json after training. Each is one token wherever it is a whole word.

A whole word has no letter, digit or "_" next to it. The white space before it belongs to it, so that it is the same
token after a space, after a bracket and at the beginning of a text. It always begins a word; all other words keep their
tokens. Decoding puts one space back, unless the word is where none is usual: at the beginning, after an
opening bracket, or after the hyphen of "anti-covid". In scripts written without spaces a word is found anywhere, and
has no space.

All of this is in the tokenizer.json. A transformers class that rebuilds its engine from the vocabulary alone would lose
it, so it must be loaded by the general class, as AutoTokenizer does.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Regex, decoders
from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError

# What a word follows without a space: nothing; opening brackets, joiners and the punctuation of Chinese and Japanese;
# a hyphen inside a word; quotation marks that look alike on both sides, where they open.
_NO_SPACE_AFTER = (
    r"(?:\A|(?<=[(\[{<«“‘„‚¿¡/#@'’\u3000-\u303f\uff01-\uff1f])|(?<=\w[-\u2010\u2011])|"
    r"""(?<=[\s(\[]")|(?<=\A"))"""
)


def add_words(
    definition: Mapping[str, Any], words: Mapping[str, int], spaceless: Iterable[str], *, has_words: bool
) -> dict[str, Any]:
    """The tokenizer.json with these words (and their ids), of which the `spaceless` are found inside of others too.

    Args:
      has_words: there are added words already, ours or others'. What surrounds them keeps its tokens: where others'
        stand before a comma, the comma has a space before it, and so it is then behind all words.
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
        # The model's own decoder leaves a text with a space as it is.
        put = decoders.Replace(Regex(rf"\A(?=(?:{either})\z)"), " ")
        drop = decoders.Replace(Regex(superfluous_spaces(spaced)), "")
        own = [engine.decoder] if engine.decoder else []
        engine.decoder = decoders.Sequence([put, *own, decoders.Fuse(), drop])
    return {**json.loads(engine.to_str()), "added_tokens": [*definition["added_tokens"], *added]}


def superfluous_spaces(words: Iterable[str]) -> str:
    """A pattern of the spaces that decoding put before these words where none is usual."""
    return rf"{_NO_SPACE_AFTER} (?=(?:{'|'.join(map(re.escape, words))})(?!\w))"


def _with_a_space_at_the_start_only(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The definition, whose engine puts a space before the beginning of a text, but not before what follows a word.

    "covid," would else become "covid ,". Texts without added words have the same tokens as before. Where words are cut
    at punctuation everything has such a space, and keeps it. Raises InputError for a way of writing spaces that
    neither of our kinds of tokenizer has.
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
        # It tells the beginning by the position in the text: white space there must become one space, not vanish.
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

"""The special tokens of an encoder-decoder: around the source, and what the decoder begins with and must not write.

They are a convention of the model's family, which no vocabulary tells, and for some, of the languages of the pair.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tx_jax.errors import InputError, did_you_mean
from tx_jax.text.definition import write_json

if TYPE_CHECKING:
    from tx_jax.text.tokenizer import Tokenizer

FILE = "pairs.json"
# plain: source </s>; the decoder begins with <s>.
# bart: <s> source </s>; the decoder begins with </s> and must write <s> first.
# marian: source </s>, or >>code<< source </s>; the decoder begins with <pad>, which it must not write.
# mbart: source </s> code; the decoder begins with the target's code.
# mbart50: code source </s>; the decoder begins with </s> and must write the target's code first.
# unknown: a model of mBART's whose files do not say which of the two.
FORMS = ("plain", "bart", "marian", "mbart", "mbart50", "unknown")
SPEAKING = ("mbart", "mbart50")  # forms that need both languages
_CODES = {"marian": re.compile(r">>(.+)<<"), "mbart": re.compile(r"([a-z]{2,3}_[A-Z]{2})")}
_CODES["mbart50"] = _CODES["mbart"]


class PairForm(NamedTuple):
    """A form, and the codes of the languages; "" where there is none, or none is chosen yet."""

    name: str = "plain"
    source_language: str = ""
    target_language: str = ""


PLAIN = PairForm()


class PairTokens(NamedTuple):
    """The special tokens, as ids.

    Attributes:
      before, after: around a source.
      start: what the decoder reads first.
      first: what it must write first; () if nothing.
      never: what it must not write.
      end: what ends a target.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    start: int
    first: tuple[int, ...]
    never: tuple[int, ...]
    end: int


def tokens_of(tokenizer: "Tokenizer") -> PairTokens:
    """Raises InputError if the tokenizer lacks a token that its form needs, or a language is not chosen."""
    form = tokenizer.pair_form
    if form.name == "unknown":
        raise InputError(
            "the tokenizer has mBART's language codes, but nothing says where they stand: write MBartTokenizer or "
            'MBart50Tokenizer into its tokenizer_config.json, as "tokenizer_class"'
        )
    roles = {"plain": ("bos",), "bart": ("bos",), "marian": ("pad",)}.get(form.name, ())
    tokenizer.require("eos", *roles)
    if form.name in SPEAKING and not (form.source_language and form.target_language):
        missing = [side for side in ("source", "target") if not getattr(form, f"{side}_language")]
        raise InputError(
            f"the model translates between several languages, and no {' and no '.join(missing)} language is chosen: "
            f"give {' and '.join(f'--{side}_language' for side in missing)}, such as {_examples(tokenizer)}"
        )
    eos = tokenizer.eos_id
    source, target = ((_code(tokenizer, code),) if code else () for code in form[1:])
    return {
        "plain": lambda: PairTokens((), (eos,), tokenizer.bos_id, (), (), eos),
        "bart": lambda: PairTokens((tokenizer.bos_id,), (eos,), eos, (tokenizer.bos_id,), (), eos),
        "marian": lambda: PairTokens(target, (eos,), tokenizer.pad_id, (), (tokenizer.pad_id,), eos),
        "mbart": lambda: PairTokens((), (eos, *source), target[0], (), (), eos),
        "mbart50": lambda: PairTokens(source, (eos,), eos, target, (), eos),
    }[form.name]()


def codes_of(tokenizer: "Tokenizer", form: str) -> dict[str, int]:
    """The languages that a tokenizer has codes for, with the ids of their tokens; {} if its form has none."""
    if form not in _CODES:
        return {}
    indices = range(tokenizer.vocab_size) if form == "marian" else tokenizer.special_ids
    found = ((_CODES[form].fullmatch(tokenizer.token(index)), index) for index in indices)
    return {match[1]: index for match, index in found if match}


def speaking(tokenizer: "Tokenizer", *, source: str = "", target: str = "") -> "Tokenizer":
    """The tokenizer for these languages; "" leaves the one that it has. Raises InputError for an unknown language."""
    if not (source or target):
        return tokenizer
    form = tokenizer.pair_form
    codes = codes_of(tokenizer, form.name)
    if source and form.name not in SPEAKING:
        raise InputError(f"--source_language={source}: the tokenizer has no codes for the languages of its sources")
    for side, given in (("source", source), ("target", target)):
        code = given.removeprefix(">>").removesuffix("<<")
        if given and code not in codes:
            known = ", ".join(sorted(codes)[:8]) or "none"
            raise InputError(
                f"--{side}_language={given} is not among the languages that the tokenizer has codes for: {known}"
                f"{' and others' if len(codes) > 8 else ''}.{did_you_mean(code, codes)}"
            )
        if given:
            form = form._replace(**{f"{side}_language": code})
    return tokenizer.with_pair_form(form)


def _examples(tokenizer: "Tokenizer") -> str:
    return ", ".join(sorted(codes_of(tokenizer, tokenizer.pair_form.name))[:4])


def _code(tokenizer: "Tokenizer", code: str) -> int:
    return codes_of(tokenizer, tokenizer.pair_form.name)[code]


def save(form: PairForm, directory: Path) -> None:
    """Writes `FILE`, unless the form is plain."""
    if form != PLAIN:
        write_json(directory / FILE, form._asdict())

"""Rule-based sentence splitting for any language with sentence-final punctuation.

A period ends a sentence if it is followed by white space and something other than a lowercase letter, unless the word
before it is an abbreviation, an initial ("J. K. Rowling") or the number of a list item ("2. Results"). Question and
exclamation marks have no such exceptions, and the full stops of Chinese, Japanese and others need no space after them.
Closing quotes and brackets stay with the sentence they close; ¿ ¡ « “ open the next one. The running time is linear in
the length of the text, with or without spaces.
"""

import re
from collections.abc import Iterator

from tx_jax.errors import InputError, did_you_mean

MODES = ("line", "punctuation", "wrapped", "verbatim")

_LINE_END = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
# This always matches a whole run of marks and closers. A pattern that could fail after the run would retry from each of
# its characters, which takes quadratic time on a line of dots.
_MARKS = re.compile(r"[.!?…؟۔।॥։።]+[\"'”’»)\]}]*|[。！？｡]+[\"'”’»)\]}」』】）]*")
_WIDE = "。！？｡"
_OPENERS = "\"'“‘«‹([{¿¡—–-*_"
_CLOSERS = "\"'”’»)]}"
_LONGEST_ABBREVIATION = 10
_ABBREVIATIONS = """
mr mrs ms dr prof rev hon st sr jr gen capt lt sgt messrs inc ltd corp dept approx viz vs ie eg etc cf al resp ed eds
repr trans sra srta srs sres dña ud uds vd vds excmo ilmo lic ing avda aprox ee.uu
mme mlle bd env hr fr nr str bzw ca usw vgl abb bspw ggf evtl sog
"""
# These are also ordinary words, so they count as abbreviations only if a number follows ("no. 5", "Dec. 24").
_NUMBERED = """
no nos fig figs eq eqs sec ch vol vols p pp art cap núm núms pág págs tel
jan feb mar apr jun jul aug sep sept oct nov dec ene abr ago dic
"""
_ABBREVIATIONS, _NUMBERED = frozenset(_ABBREVIATIONS.split()), frozenset(_NUMBERED.split())


def split(text: str, mode: str) -> Iterator[str]:
    """Yield the non-empty sentences of a document, in all modes but "verbatim" stripped of white space at both ends.

    Modes:
      line: every line is one sentence.
      punctuation: line ends and sentence-final punctuation end a sentence.
      wrapped: for hard-wrapped text; lines are joined, and only punctuation and blank lines end a sentence.
      verbatim: the document is one sentence, with its line ends and all white space.

    Raises InputError for any other mode.
    """
    check_mode(mode)
    text = _LINE_END.sub("\n", text)
    if mode == "verbatim":
        if text.strip():
            yield text
        return
    if mode == "line":
        yield from filter(None, map(str.strip, text.split("\n")))
        return
    for segment in text.split("\n") if mode == "punctuation" else _BLANK_LINES.split(text):
        if segment := " ".join(segment.split()):
            yield from _by_punctuation(segment)


def check_mode(mode: str) -> None:
    """Raise InputError unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise InputError(f"unknown sentence mode {mode!r}: expected one of {MODES}.{did_you_mean(mode, MODES)}")


def cut(sentence: str, max_characters: int, *, drops_space: bool = True) -> list[str]:
    """Cut a sentence into parts of at most `max_characters`: at white space if there is any, else inside a word.

    Args:
      drops_space: leave out the space where it was cut; otherwise a part begins with it.
    """
    parts = []
    start = 0
    while len(sentence) - start > max_characters:
        space = sentence.rfind(" ", start + 1, start + max_characters + 1)
        end = space if space > 0 else start + max_characters
        parts.append(sentence[start:end])
        start = end + (drops_space and space > 0)
    return [*parts, sentence[start:]]


def _by_punctuation(segment: str) -> Iterator[str]:
    """Split one line whose words are separated by single spaces."""
    start = 0
    for match in _MARKS.finditer(segment):
        end = match.end()
        if _ends_sentence(segment, start, match.start(), end):
            yield segment[start:end].strip()
            start = end
    if rest := segment[start:].strip():
        yield rest


def _ends_sentence(segment: str, start: int, mark: int, end: int) -> bool:
    """Whether the marks at segment[mark:end] end the sentence that begins at `start`."""
    if end == len(segment):
        return False  # the rest of the segment is a sentence anyway
    if segment[mark] in _WIDE:
        return True
    if segment[end] != " ":
        return False
    following = end + 1
    while following < len(segment) - 1 and segment[following] in _OPENERS:
        following += 1
    if segment[following].islower():
        return False
    if segment[mark:end].rstrip(_CLOSERS) != ".":
        return True
    word = segment[max(start, mark - _LONGEST_ABBREVIATION - 1) : mark].rpartition(" ")[2].lstrip(_OPENERS).lower()
    letter = word.rpartition(".")[2]
    is_initial = len(letter) == 1 and letter.upper() != letter
    is_numbered = word in _NUMBERED and segment[following].isdigit()
    is_list_number = segment[max(start, mark - 4) : mark].strip().isdigit() and mark - start <= 4
    return not (is_initial or is_numbered or is_list_number or word in _ABBREVIATIONS)

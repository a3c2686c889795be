"""Reads questions from the JSON of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018), which XQuAD and others share.

Each record is a question:

    {"id": "57…", "title": "Warsaw", "question": "…", "context": "…",
     "answers": {"text": ["…"], "answer_start": [34]}, "is_impossible": False}

The lists are empty for a question without an answer. If the file has no answers at all, like a test set, the records
have neither "answers" nor "is_impossible".
"""

from collections.abc import Iterator
from typing import Any

from tx_jax.data.json_values import parse_json
from tx_jax.data.labeled.labels import label_key
from tx_jax.data.labeled.lines import lines
from tx_jax.data.reading import InputFile
from tx_jax.errors import InputError


def squad(file: InputFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The questions of a file, numbered from 1.

    Raises:
      InputError: the file does not have this format; the message says where.
    """
    content = parse_json("\n".join(text for _, text in lines(file)) or "null", str(file))
    if content is None:
        return
    number = 0
    for i, article in enumerate(_get(content, "data", list, str(file))):
        in_article = f"{file}, data[{i}]"
        for j, paragraph in enumerate(_get(article, "paragraphs", list, in_article)):
            place = f"{in_article}.paragraphs[{j}]"
            context = _get(paragraph, "context", str, place)
            for k, question in enumerate(_get(paragraph, "qas", list, place)):
                number += 1
                record = _question(question, f"{place}.qas[{k}]", number)
                yield number, {**record, "title": str(article.get("title", "")), "context": context}


def _question(value: Any, place: str, number: int) -> dict[str, Any]:
    record = {"question": _get(value, "question", str, place), "id": str(value.get("id", number))}
    if "answers" not in value:
        return record
    answers = _get(value, "answers", list, place)
    texts = [_get(answer, "text", str, f"{place}.answers[{n}]") for n, answer in enumerate(answers)]
    starts = [_get(answer, "answer_start", int, f"{place}.answers[{n}]") for n, answer in enumerate(answers)]
    given = value.get("is_impossible")
    impossible = not answers if given is None else _truth(given, f"{place}.is_impossible")
    return record | {
        "answers": {"text": [] if impossible else texts, "answer_start": [] if impossible else starts},
        "is_impossible": impossible,
    }


def _truth(value: Any, place: str) -> bool:
    """A Boolean, which may also be written as a string."""
    if (text := label_key(value)) not in ("true", "false"):
        raise InputError(f"{place} is {value!r:.40}, not true or false")
    return text == "true"


def _get(value: Any, key: str, kind: type, place: str) -> Any:
    """The value at a key of a JSON object, checked to be of this type."""
    if not isinstance(value, dict) or key not in value:
        found = ", ".join(map(repr, list(value)[:8])) if isinstance(value, dict) else f"a {type(value).__name__}"
        advice = "; of other examples give the list alone, [{...}, {...}]" if key == "paragraphs" else ""
        raise InputError(f"{place}: no {key!r} among {found}: this is not the JSON of SQuAD{advice}")
    if not isinstance(value[key], kind) or (kind is int and isinstance(value[key], bool)):
        raise InputError(f"{place}: {key!r} is a {type(value[key]).__name__}, not a {kind.__name__}")
    return value[key]

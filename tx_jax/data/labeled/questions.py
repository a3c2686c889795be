"""Extractive question answering: rows [CLS] question [SEP] part of the context [SEP] (Devlin et al. 2018, section 4.2).

A context that is too long for a row becomes several overlapping windows. The answer is a span of a window's tokens; for
a window without the answer, and for a question without one (section 4.3), it is the row's first token.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.labeled.readers import Record
from tx_jax.data.labeled.sequences import Layout, texts
from tx_jax.data.labeled.table import Ragged, Table
from tx_jax.data.rows import require_room
from tx_jax.errors import InputError
from tx_jax.text.alignment import Aligned
from tx_jax.text.tokenizer import Tokenizer

NO_ANSWER = 0
UNKNOWN = -1
_NOWHERE = (-1, -1)
_BLOCK = 1_000  # contexts encoded at a time


class Answer(NamedTuple):
    """A gold answer, and the character offset in the context where it begins."""

    text: str
    start: int


class _Row(NamedTuple):
    """The content of a row of the table; see `table`."""

    record: int
    tokens: np.ndarray
    segments: np.ndarray
    answer_start: int
    answer_end: int
    starts: np.ndarray
    ends: np.ndarray


def table(
    records: Sequence[Record], data: LabeledDataConfig, tokenizer: Tokenizer, *, segments: bool, labeled: bool
) -> Table:
    """One row per window of each question: "tokens", "segments", and the first and last token of the answer,
    "answer_start" and "answer_end", int32 [N]: `NO_ANSWER`, or `UNKNOWN` if nothing can be learned from the row.

    Its `alignment`: "record", int64 [N], the record that each row comes from, ascending; "starts" and "ends", the start
    and the (exclusive) end of each context token as character offsets in the context, -1 for other tokens.

    Args:
      segments: whether the model distinguishes question and context by segments.
      labeled: whether the records have answers.

    Raises:
      InputError: `data.stride` leaves no room for progress; or a question has no answer, and `data.unanswerable` is
        False.
    """
    questions = tokenizer.encode_batch([text.strip() for text in texts(records, data.text[0])])
    contexts = texts(records, data.text[1])
    aligned = _align(contexts, tokenizer)
    answers = [_first_answer(record, number, data) for number, record in enumerate(records, 1)] if labeled else []
    counts = {"question cut": sum(len(question) > data.max_question_length for question in questions)}
    rows: list[_Row] = []
    for number, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        answer = None
        if labeled:
            answer, problem = _token_span(answers[number], context, aligned[context].spans)
            counts[problem] = counts.get(problem, 0) + 1
        rows += _rows(
            number, question[: data.max_question_length], aligned[context], answer, data, Layout.of(tokenizer)
        )
    record = np.array([row.record for row in rows], np.int64)
    counts["in several windows"] = int((np.bincount(record, minlength=1) > 1).sum())
    columns = {
        "tokens": Ragged.of((row.tokens for row in rows), fill=tokenizer.pad_id or 0),
        "answer_start": np.array([row.answer_start for row in rows], np.int32),
        "answer_end": np.array([row.answer_end for row in rows], np.int32),
    }
    if segments:
        columns["segments"] = Ragged.of(row.segments for row in rows)
    alignment = {
        "record": record,
        "starts": Ragged.of((row.starts for row in rows), fill=-1),
        "ends": Ragged.of((row.ends for row in rows), fill=-1),
    }
    counts = {name: count for name, count in counts.items() if name and count}
    return Table(columns, data.sequence_length, counts, alignment)


def gold_answers(record: Record, number: int, data: LabeledDataConfig) -> list[Answer]:
    """The answers of a record; an empty list if the question has no answer.

    Raises:
      InputError: the answers are not in SQuAD's format.
    """
    value = record[data.label]
    try:
        if isinstance(value, dict):
            value = [dict(zip(value, pair, strict=True)) for pair in zip(*value.values(), strict=True)]
        answers = [Answer(str(answer["text"]), _whole(answer["answer_start"])) for answer in value]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"example {number}: column {data.label!r} holds no answers as SQuAD has them, "
            f'{{"text": ["..."], "answer_start": [0]}}, but {record[data.label]!r:.80}'
        ) from None
    return [answer for answer in answers if answer.text.strip()]


def _whole(value: Any) -> int:
    """An integer, which may be given as a string or as 31.0. Raises ValueError for anything else."""
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError(value)
    return int(value)


def _first_answer(record: Record, number: int, data: LabeledDataConfig) -> Answer | None:
    """The answer to train on, which is the first; None if there is none."""
    answers = gold_answers(record, number, data)
    if not answers and not data.unanswerable:
        raise InputError(
            f"example {number} is a question without an answer: if that is intended, as in SQuAD 2.0, give "
            "--config.data.unanswerable=True"
        )
    return answers[0] if answers else None


def _token_span(answer: Answer | None, context: str, spans: np.ndarray) -> tuple[tuple[int, int] | None, str]:
    """The first and last token of an answer in its context; None, and the reason, if it has no tokens there."""
    if answer is None:
        return _NOWHERE, ""
    end = answer.start + len(answer.text)
    if answer.start < 0 or context[answer.start : end] != answer.text:
        return None, "answer is not in the context where it should begin, not trained on"
    touched = np.flatnonzero((spans[:, 1] > answer.start) & (spans[:, 0] < end) & (spans[:, 1] > spans[:, 0]))
    if not len(touched):
        return None, "answer has no tokens, not trained on"
    return (int(touched[0]), int(touched[-1])), ""


def _align(contexts: Sequence[str], tokenizer: Tokenizer) -> dict[str, Aligned]:
    """Encodes each context only once, since several questions may share it."""
    distinct = list(dict.fromkeys(contexts))
    blocks = (distinct[i : i + _BLOCK] for i in range(0, len(distinct), _BLOCK))
    aligned = (one for block in blocks for one in tokenizer.encode_aligned(block))
    return dict(zip(distinct, aligned, strict=True))


def _rows(
    record: int,
    question: list[int],
    context: Aligned,
    answer: tuple[int, int] | None,
    data: LabeledDataConfig,
    layout: Layout,
) -> Iterator[_Row]:
    """The windows of one question. `answer`: its first and last context token, `_NOWHERE`, or None if unknown."""
    before, after = [*layout.before, *question, *layout.between], list(layout.after)
    taken = len(before) + len(after)
    room = require_room(data.sequence_length, taken, f"with a question of {len(question)} tokens the row")
    if len(context.ids) > room <= data.stride:
        raise InputError(
            f"data.stride={data.stride} must be below the {room} tokens of the context that data.sequence_length="
            f"{data.sequence_length} leaves room for: lower it, or data.max_question_length={data.max_question_length}"
        )
    for begin in range(0, max(1, len(context.ids) - data.stride), max(1, room - data.stride)):
        ids, spans = context.ids[begin : begin + room], context.spans[begin : begin + room]
        start, end = UNKNOWN, UNKNOWN
        if answer is not None:
            is_inside = begin <= answer[0] and answer[1] < begin + len(ids)
            start, end = (at - begin + len(before) if is_inside else NO_ANSWER for at in answer)
        around = [len(before), len(after)]
        yield _Row(
            record,
            tokens=np.array([*before, *ids, *after], np.int32),
            segments=np.repeat(np.int32([0, 1]), [len(before), len(ids) + len(after)]),
            answer_start=start,
            answer_end=end,
            starts=np.pad(spans[:, 0], around, constant_values=-1),
            ends=np.pad(spans[:, 1], around, constant_values=-1),
        )

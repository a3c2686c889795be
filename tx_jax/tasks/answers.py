"""Answers from the scores of a context's tokens: a question's best spans over all its windows.

The score of a span is the sum of the logits of its first and of its last token (Devlin et al. 2018, section 4.2). If
a question may have no answer, "no answer" has the score of the span of the row's first token (section 4.3).

Shapes: T sequence length, A longest answer in tokens.
"""

import dataclasses
import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.labeled.table import Table


@dataclasses.dataclass(frozen=True)
class Span:
    """A possible answer. `start`: its first character in the context."""

    text: str
    start: int
    score: float


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the model makes of a question.

    Attributes:
      spans: the best `n_best` spans, best first; none for an empty context.
      null_score: the score of "no answer".
    """

    spans: tuple[Span, ...]
    null_score: float

    @property
    def null_margin(self) -> float:
        """How much better than the best span "no answer" scores."""
        return self.null_score - self.spans[0].score if self.spans else np.inf

    def best(self, data: LabeledDataConfig) -> str:
        """The answer; "" for none."""
        if not self.spans or (data.unanswerable and self.null_margin > data.null_threshold):
            return ""
        return self.spans[0].text

    def probabilities(self, data: LabeledDataConfig) -> list[tuple[Span, float]]:
        """A softmax over the spans and, if there may be none, "no answer"; the most probable first."""
        candidates = [*self.spans, *([Span("", -1, self.null_score)] if data.unanswerable or not self.spans else [])]
        candidates.sort(key=lambda span: -span.score)
        odds = np.exp([span.score - candidates[0].score for span in candidates])
        return list(zip(candidates, (odds / odds.sum()).tolist(), strict=True))


def answers(
    outputs: Mapping[str, np.ndarray], table: Table, contexts: Sequence[str], data: LabeledDataConfig
) -> Iterator[tuple[int, Answers]]:
    """Index and answers of each record whose rows are all among the outputs.

    Args:
      outputs: "start_logits" and "end_logits" [rows, T], and "example", the indices of these rows in the table,
        ascending.
      contexts: the contexts of all records.
    """
    for record, first, last in whole_records(table, outputs["example"]):
        part = {name: values[first:last] for name, values in outputs.items()}
        yield record, _answers(part, table, contexts[record], data)


def whole_records(table: Table, rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """The number of each record all of whose rows are among these, which ascend, and where they begin and end there."""
    record_of = table.alignment["record"]
    num_rows = np.bincount(record_of)
    records = record_of[rows]
    bounds = np.flatnonzero(np.diff(records, prepend=-1, append=-1))
    for first, last in itertools.pairwise(bounds.tolist()):
        record = int(records[first])
        if last - first == num_rows[record]:
            yield record, first, last


def _answers(outputs: Mapping[str, np.ndarray], table: Table, context: str, data: LabeledDataConfig) -> Answers:
    """The answers to one question. A span that is in several windows has its best score."""
    found: dict[tuple[int, int], float] = {}
    length = outputs["start_logits"].shape[1]
    characters = [table.alignment[name].rows(outputs["example"], length) for name in ("starts", "ends")]
    for start, end, starts, ends in zip(outputs["start_logits"], outputs["end_logits"], *characters, strict=True):
        for first, last, score in best_spans(start, end, starts >= 0, data.max_answer_length, data.n_best):
            key = (int(starts[first]), int(ends[last]))
            if key[0] < key[1] and score > found.get(key, -np.inf):
                found[key] = score
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))[: data.n_best]
    spans = tuple(Span(cut(context, *key), key[0], score) for key, score in ranked)
    return Answers(spans, float((outputs["start_logits"][:, 0] + outputs["end_logits"][:, 0]).min()))


def best_spans(
    start_logits_T: np.ndarray, end_logits_T: np.ndarray, is_context_T: np.ndarray, longest: int, count: int
) -> list[tuple[int, int, float]]:
    """The `count` best (first token, last token, score) of all spans of the context that have at most `longest` tokens,
    the best one first."""
    start = np.where(is_context_T, start_logits_T, -np.inf)
    end = np.pad(np.where(is_context_T, end_logits_T, -np.inf), (0, longest - 1), constant_values=-np.inf)
    scores_TA = start[:, None] + np.lib.stride_tricks.sliding_window_view(end, longest)
    flat = scores_TA.ravel()
    best = np.argpartition(-flat, count)[:count] if count < len(flat) else np.arange(len(flat))
    best = best[np.argsort(-flat[best], kind="stable")]
    found = ((int(at) // longest, int(at) % longest, float(flat[at])) for at in best if flat[at] > -np.inf)
    return [(first, first + more, score) for first, more, score in found]


def cut(context: str, start: int, end: int) -> str:
    """The characters of a span, and the combining marks that follow it: for an "é" of two code points the tokenizers
    library may give the span of the first."""
    while end < len(context) and unicodedata.combining(context[end]):
        end += 1
    return context[start:end]

"""Rows of question answering and of tagging against those that transformers makes of the same texts.

    python -m tests.parity.windows          # exit code 1 where a row differs

Windows with a stride, the characters of each token, and the answer's first and last token; words as pieces, with their
labels at the first. For the tokenizers of tests/golden; needs transformers.
"""

import json
import sys
import tempfile

import numpy as np
import transformers

from tests.data.labeled.configs import labeled
from tests.golden import multilingual, tokenizers
from tests.golden.make_tokenizers import stripped
from tx_jax.data.labeled import questions, tagging
from tx_jax.text import bpe

LENGTH, STRIDE = 64, 16
NAMES = ("wordpiece", "byte_bpe", "unigram", "deberta_v2")


def records() -> list[dict]:
    """Questions whose answers are two words of the context, and sentences whose words have numbers for labels."""
    rng = np.random.default_rng(0)
    contexts = [*multilingual.DOCUMENTS[:5], " ".join(multilingual.DOCUMENTS)]
    found = []
    for context in contexts:
        words = context.split()
        for i in rng.integers(0, len(words) - 1, 8):
            answer = " ".join(words[i : i + 2])
            if answer in context:
                answers = {"text": [answer], "answer_start": [context.index(answer)]}
                found.append({"question": "What is lost, and where?", "context": context, "answers": answers})
    return found


def target(theirs, record: dict, begin: int, size: int) -> tuple[int, int]:
    """First and last token of the answer in the window of `size` tokens that begins at this one of the context; (0, 0)
    where they are not in it."""
    (answer,), (start,) = record["answers"].values()
    whole = theirs(record["question"], record["context"], return_offsets_mapping=True)
    context = whole.sequence_ids(0).index(1)
    spans = [
        stripped(record["context"], *span)
        for span, sequence in zip(whole["offset_mapping"], whole.sequence_ids(0), strict=True)
        if sequence == 1
    ]
    tokens = [i for i, (a, b) in enumerate(spans) if max(a, start) < min(b, start + len(answer))]
    is_inside = tokens[0] >= begin and tokens[-1] < begin + size
    return (tokens[0] - begin + context, tokens[-1] - begin + context) if is_inside else (0, 0)


def windows_differ(name: str, ours, theirs) -> int:
    """How many windows differ."""
    data = labeled(text=("question", "context"), label="answers", sequence_length=LENGTH, stride=STRIDE)
    table = questions.table(records(), data, ours, segments=True, labeled=True)
    batch = table.rows(np.arange(len(table)))
    characters = [table.alignment[key].rows(np.arange(len(table)), LENGTH) for key in ("starts", "ends")]
    pairs = [[record[key] for record in records()] for key in ("question", "context")]
    options = {"truncation": "only_second", "max_length": LENGTH, "stride": STRIDE}
    encoding = theirs(*pairs, **options, return_overflowing_tokens=True, return_offsets_mapping=True)
    differ, begins = abs(len(table) - len(encoding["input_ids"])), {}
    for row, ids in enumerate(encoding["input_ids"][: len(table)]):
        size = encoding.sequence_ids(row).count(1)
        number = encoding["overflow_to_sample_mapping"][row]
        record, begin = records()[number], begins.get(number, 0)
        begins[number] = begin + size - STRIDE
        spans = [
            stripped(record["context"], *span) if sequence == 1 else (-1, -1)
            for span, sequence in zip(encoding["offset_mapping"][row], encoding.sequence_ids(row), strict=True)
        ]
        found = [tuple(map(int, span)) for span in zip(*(part[row, : len(ids)] for part in characters), strict=True)]
        expected = target(theirs, record, begin, size)
        differ += (
            batch["tokens"][row, : table.lengths[row]].tolist() != ids
            or [span for span in found if span[0] < span[1]] != [span for span in spans if span[0] < span[1]]
            or (batch["answer_start"][row], batch["answer_end"][row]) != expected
        )
    print(f"{name:12s} {len(table)} windows, {differ} differ")
    return differ


def words_differ(name: str, ours, theirs) -> int:
    """How many sentences differ."""
    data = labeled(text=("words",), label="tags", sequence_length=512)
    sentences = [line.split() for line in multilingual.DOCUMENTS]
    tags = [[str(i % 7) for i in range(len(words))] for words in sentences]
    table = tagging.table(
        [{"words": a, "tags": b} for a, b in zip(sentences, tags, strict=True)], data, ours, labels=tuple("0123456")
    )
    batch, differ = table.rows(np.arange(len(table))), 0
    for row, words in enumerate(sentences):
        encoding = theirs(words, is_split_into_words=True)
        numbers = encoding.word_ids()
        begins = [word is not None and word != before for before, word in zip([None, *numbers], numbers, strict=False)]
        labels = [word % 7 if first else -1 for word, first in zip(numbers, begins, strict=True)]
        length = table.lengths[row]
        differ += batch["tokens"][row, :length].tolist() != encoding["input_ids"]
        differ += batch["token_labels"][row, :length].tolist() != labels
    print(f"{name:12s} {len(table)} sentences of words, {differ} differ")
    return differ


def main() -> None:
    transformers.logging.set_verbosity_error()
    stored, differ = json.loads(tokenizers.PATH.read_text(encoding="utf-8")), 0
    for name in NAMES:
        ours = tokenizers.rebuild(name, stored[name])
        with tempfile.TemporaryDirectory() as folder:
            ours.save(folder)
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
            differ += windows_differ(name, ours, theirs)
            prefix = {"add_prefix_space": True} if isinstance(ours, bpe.ByteLevelBPE) else {}
            differ += words_differ(name, ours, transformers.AutoTokenizer.from_pretrained(folder, **prefix))
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

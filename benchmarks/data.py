"""Measures the way from text to batches on single cores: encoding, packing, masking.

    python -m benchmarks.data                                            # on the text that comes with Python
    python -m benchmarks.data --source='corpus/*.txt' --json=data.json   # on yours: tens of megabytes tell more

Three tables:

- encoding sentences into ids, ours beside `tokenizers`' own encode_batch: the first time over all of the text, with
  nothing remembered, and once more. The library encodes every --every-th sentence, which is long enough for its rate.
- what encoding makes on several cores at once, each with a part of the text and a memory of its own; what `prepare`
  does with a block (splitting into sentences and encoding).
- batches of every packing and corruption; `rows` packs, the batch packs and masks. Rates count positions, padding
  included, and predictions are as many as the rate asks for.

Times are processor times of one thread, so other work on the machine disturbs them less; several cores are measured by
the clock on the wall as well. The share of a training step that waits for data is in benchmarks.throughput.
"""

import multiprocessing
import os
import pickle
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import measure
from experiments import command_line

SOURCE = flags.DEFINE_string("source", "embedded", "The text, as experiments.prepare takes it.")
TOKENIZER = flags.DEFINE_string("tokenizer", None, "Folder of a tokenizer; by default one is trained on the text.")
KIND = flags.DEFINE_string("kind", "wordpiece", "The kind of tokenizer to train.")
VOCABULARY = flags.DEFINE_integer("vocab_size", 30_000, "Its size.", lower_bound=300)
STORE = flags.DEFINE_string("store", None, "A token store for the batches; by default one is made of the text.")
EVERY = flags.DEFINE_integer("every", 10, "The library encodes every so many sentences.", lower_bound=1)
CORES = flags.DEFINE_list("cores", ["1", "2"], "Processes that encode at once.")
LENGTH = flags.DEFINE_integer("sequence_length", 512, "Tokens a row.", lower_bound=8)
BATCH = flags.DEFINE_integer("batch_size", 64, "Rows a batch.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 10, "Batches of each round.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "A file to write the results to.")
NUM_LISTED = 20  # words for selective masking: the commonest that are whole tokens
CALL = 256  # sentences that are encoded together, as `prepare` does

MASKED = {
    "pairs": {"packing": "pairs"},
    "sentence pairs": {"packing": "sentence_pairs"},
    "full sentences": {"packing": "full_sentences"},
    "document sentences": {"packing": "doc_sentences"},
    "packed documents": {"packing": "packed_documents"},
    "whole words": {"mask_unit": "whole_word"},
    "spans": {"mask_unit": "span"},
    "spans, 40%": {"mask_unit": "span", "mask_rate": 0.4},
    "selective": {"selective_words": True},
}
CAUSAL = {"chunks": {"packing": "chunks"}, "packed documents": {"packing": "packed_documents"}}


def main(argv: list[str]) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    from tx_jax import text
    from tx_jax.data.corpus.config import SourceConfig
    from tx_jax.data.corpus.sources import Source
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()  # as experiments.train does
    documents = list(Source(SourceConfig(tuple(SOURCE.value.split(",")))))
    with tempfile.TemporaryDirectory() as folder:
        if TOKENIZER.value is None:
            tokenizer = text.train(KIND.value, documents, vocab_size=VOCABULARY.value)
            tokenizer.save(Path(folder) / "tokenizer")
        else:
            tokenizer = text.load(TOKENIZER.value)
        header = measure.print_header(measure.calibration())
        size = sum(len(document.encode()) for document in documents) / 1e6
        print(f"text: {size:.1f} MB, {len(documents):,} documents; vocabulary: {tokenizer.vocab_size:,} tokens")
        found = {"megabytes": size, "encoding": _encoding(tokenizer, documents)}
        found["cores"] = _on_cores(tokenizer, documents)
        found["batches"] = _batches(STORE.value or _prepared(Path(folder)), Path(folder))
    measure.write_json(JSON.value, header | found)


def _sentences(documents: list[str]) -> list[str]:
    from tx_jax.text import sentences

    return [sentence for document in documents for sentence in sentences.split(document, "punctuation")]


def _count(tokenizer, texts: list[str]) -> int:
    """Encodes the texts; returns the number of tokens."""
    return sum(len(tokenizer.encode_flat(texts[first : first + CALL])[0]) for first in range(0, len(texts), CALL))


def _encoding(tokenizer, documents: list[str]) -> list[dict]:
    from tokenizers import Tokenizer as Engine

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        engine = Engine.from_file(str(Path(folder) / "tokenizer.json"))
    texts = _sentences(documents)
    some = texts[:: EVERY.value]
    kept = pickle.loads(pickle.dumps(tokenizer))
    total, of_some = _count(kept, texts), _count(tokenizer, some)
    fresh = iter([pickle.loads(pickle.dumps(tokenizer)) for _ in range(ROUNDS.value)])

    def library(encode) -> None:
        for first in range(0, len(some), CALL):
            for found in encode(some[first : first + CALL], add_special_tokens=False):
                found.ids  # noqa: B018, the list is made here

    parts = {
        "ours, nothing seen before": lambda: _count(next(fresh), texts),
        "ours, the second time": lambda: _count(kept, texts),
        "tokenizers, encode_batch_fast": lambda: library(engine.encode_batch_fast),
        "tokenizers, encode_batch": lambda: library(engine.encode_batch),
    }
    rows = _timed(parts, {name: of_some if "tokenizers" in name else total for name in parts})
    print(f"\nencoding on one core: {total:,} tokens in {len(texts):,} sentences")
    measure.print_table(rows)
    return rows


def _timed(parts: dict, work: dict[str, float], **options: int) -> list[dict]:
    """A row a part: units a second by the minimum and by the median, and how many times the last part's that is."""
    timings = measure.interleaved(parts, ROUNDS.value, clock=time.thread_time, warmup=0, **options)
    rows = [
        {
            "part": row["part"],
            "min_s": row["min_ms"] / 1e3,
            "median_s": row["median_ms"] / 1e3,
            "per_second": row["per_second"],
            "per_second_median": work[row["part"]] / row["median_ms"] * 1e3,
        }
        for row in timings.rows(work)
    ]
    for row in rows:
        row["times_the_last"] = row["per_second"] / rows[-1]["per_second"]
        row["times_the_last_median"] = row["per_second_median"] / rows[-1]["per_second_median"]
    return rows


def _on_cores(tokenizer, documents: list[str]) -> list[dict]:
    rows = []
    for cores in map(int, CORES.value):
        parts = [documents[number::cores] for number in range(cores)]
        with multiprocessing.get_context("spawn").Pool(cores) as pool:
            pool.map(_warm_up, [None] * cores, chunksize=1)
            began = time.perf_counter()
            found = pool.starmap(_encode_part, [(tokenizer, part) for part in parts], chunksize=1)
            wall = time.perf_counter() - began
        tokens = sum(row["tokens"] for row in found)
        rows.append({"processes": cores, "tokens_per_s_by_the_clock": tokens / wall})
        for part in ("encode", "block"):
            rows[-1][f"{part}_tokens_per_s_and_core"] = tokens / sum(row[part] for row in found)
    print("\nencoding on several cores, and what prepare does with a block; rates by processor time")
    measure.print_table(rows)
    return rows


def _warm_up(_: None) -> None:
    from tx_jax.data.corpus import encoding  # noqa: F401

    time.sleep(1)  # so that each process takes one


def _encode_part(tokenizer, documents: list[str]) -> dict[str, float]:
    """Processor times of encoding sentences, and of splitting and encoding blocks; each with nothing remembered."""
    from tx_jax.data.corpus.encoding import Encoder, text_blocks

    texts, again = _sentences(documents), pickle.loads(pickle.dumps(tokenizer))
    began = time.process_time()
    tokens = _count(tokenizer, texts)
    encode = time.process_time() - began
    encoder = Encoder(again, "punctuation", 10_000)
    blocks = list(text_blocks(documents, block_characters=1 << 20, validation_fraction=0.01))
    began = time.process_time()
    for block in blocks:
        encoder(block)
    return {"tokens": tokens, "encode": encode, "block": time.process_time() - began}


def _prepared(folder: Path) -> Path:
    from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
    from tx_jax.data.corpus.prepare import prepare

    tokenizer = TOKENIZER.value or str(folder / "tokenizer")
    source = SourceConfig(tuple(SOURCE.value.split(",")))
    prepare(PrepareConfig(folder / "store", source, tokenizer=tokenizer))
    return folder / "store"


def _batches(store: str | Path, folder: Path) -> list[dict]:
    from tx_jax.data.corpus.stores import Stores
    from tx_jax.data.pretraining.batches import causal_lm_batches, masked_lm_batches

    stores, words, rows = Stores.open(store), folder / "words.txt", []
    print(f"\nbatches of {BATCH.value} x {LENGTH.value}, on one core; positions a second, padding included")
    formats = [("causal", causal_lm_batches, name, CAUSAL[name]) for name in CAUSAL]
    if stores.tokenizer().mask_id is not None:
        words.write_text("\n".join(_commonest_words(stores)), encoding="utf-8")
        formats = [*(("masked", masked_lm_batches, name, MASKED[name]) for name in MASKED), *formats]
    for objective, make, name, changes in formats:
        rows.append({"format": f"{objective}, {name}", **_format(stores, make, objective, changes, words)})
    measure.print_table(rows)
    return rows


def _format(stores, make, objective: str, changes: dict, words: Path) -> dict[str, float]:
    """One row of the table of batches."""
    import numpy as np

    from tx_jax.config import DataConfig
    from tx_jax.data.rng import RowRandom, keys
    from tx_jax.errors import InputError

    length, size = LENGTH.value, BATCH.value
    rate = changes.get("mask_rate", 0.15 if objective == "masked" else 0.0)
    changes = changes | ({"selective_words": str(words)} if "selective_words" in changes else {})
    common = {
        "store": "given",
        "sequence_length": length,
        "packing": "full_sentences",
        "short_sequence_probability": 0.1,
        "mask_rate": rate,
        "max_predictions": max(1, -(-int(rate * 100 * length) // 100)),
        "replace_with_mask": 0.8,
        "replace_with_random": 0.1,
        "masking": "dynamic",
        "dupe_factor": 1,
        "read_ahead": 1,
    }
    try:
        loader = make(stores, "train", DataConfig(**common | changes), batch_size=size, seed=0, repeat=True)
    except InputError as error:  # such as pairs of documents of one sentence
        return {"not possible": str(error).partition(";")[0]}
    padding = 1 - np.mean([loader.batch_at(step)["valid"].mean() for step in range(BATCHES.value)])
    (examples,), numbers, steps = loader.corpora, iter(range(1 << 40)), iter(range(1 << 40))

    def pack() -> None:
        index = (next(numbers) * 7919 + np.arange(size) * 104_729) % len(examples)
        examples.rows(index, RowRandom(keys(0, index)))

    parts = {"rows": pack, "batch": lambda: loader.batch_at(next(steps))}
    row, batch = _timed(parts, dict.fromkeys(parts, float(size * length)), repeats=BATCHES.value)
    return {
        "rows_ms": row["min_s"] * 1e3,
        "batch_ms": batch["min_s"] * 1e3,
        "batch_median_ms": batch["median_s"] * 1e3,
        "million_per_s": batch["per_second"] / 1e6,
        "million_per_s_median": batch["per_second_median"] / 1e6,
        "padding": padding,
    }


def _commonest_words(stores) -> list[str]:
    import numpy as np

    tokenizer = stores.tokenizer()
    order = np.argsort(-stores.stores[0].split("train").unigram, kind="stable")
    words = (tokenizer.decode([token]).strip() for token in order if not tokenizer.is_continuation[token])
    return [word for word in words if word.isalpha()][:NUM_LISTED]


if __name__ == "__main__":
    command_line.run(main)

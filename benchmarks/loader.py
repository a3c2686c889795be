"""Measures the loader alone, on one core, for every packing and corruption that a token store allows.

    python -m benchmarks.loader --store=data/quickstart

Prints, for each format, the time to set up (spans), milliseconds a batch, positions a second (padding included), and
the share of them that is padding. Times are processor times of one thread, medians over batches, so that other work on
the machine disturbs them little.
"""

import dataclasses
import tempfile
import time

from absl import flags

from experiments import command_line

STORE = flags.DEFINE_string("store", "data/quickstart", "The token store, or several with commas between them.")
LENGTH = flags.DEFINE_integer("sequence_length", 512, "Tokens a row.", lower_bound=8)
BATCH = flags.DEFINE_integer("batch_size", 64, "Rows a batch.", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 40, "Batches to time.", lower_bound=3)
NUM_LISTED = 20  # words for selective masking: the commonest that are whole tokens

MASKED = {
    "pairs": {"packing": "pairs"},
    "sentence pairs": {"packing": "sentence_pairs"},
    "full sentences": {"packing": "full_sentences"},
    "document sentences": {"packing": "doc_sentences"},
    "packed documents": {"packing": "packed_documents"},
    "full sentences, whole words": {"packing": "full_sentences", "mask_unit": "whole_word"},
    "full sentences, spans": {"packing": "full_sentences", "mask_unit": "span"},
    "full sentences, spans, 40%": {"packing": "full_sentences", "mask_unit": "span", "mask_rate": 0.4},
    "full sentences, selective": {"packing": "full_sentences", "selective_words": True},
}
CAUSAL = {"chunks": {"packing": "chunks"}, "packed documents": {"packing": "packed_documents"}}


def main(argv: list[str]) -> None:
    import numpy as np

    from tx_jax.config import DataConfig
    from tx_jax.data.corpus.stores import Stores
    from tx_jax.data.pretraining.batches import causal_lm_batches, masked_lm_batches
    from tx_jax.errors import InputError

    stores = Stores.open(STORE.value)
    tokenizer, length = stores.tokenizer(), LENGTH.value
    base = DataConfig(
        store=STORE.value,
        sequence_length=length,
        packing="full_sentences",
        short_sequence_probability=0.1,
        mask_rate=0.15,
        max_predictions=-(-2 * length // 5),
        replace_with_mask=0.8,
        replace_with_random=0.1,
        masking="dynamic",
        dupe_factor=1,
        read_ahead=1,
    )

    def measure(name: str, make, config: DataConfig) -> None:
        began = time.thread_time()
        try:
            batches = make(stores, "train", config, batch_size=BATCH.value, seed=0, repeat=True)
        except InputError as error:  # such as pairs of documents of one sentence
            print(f"{name:36} not possible: {str(error).partition(';')[0]}")
            return
        setup, times, valid = time.thread_time() - began, [], []
        for step in range(BATCHES.value):
            began = time.thread_time()
            batch = batches.batch_at(step)
            times.append(time.thread_time() - began)
            valid.append(batch["valid"].mean())
        seconds = np.median(times)
        print(
            f"{name:36} {setup:6.2f} s  {seconds * 1e3:7.2f} ms  {BATCH.value * length / seconds / 1e6:6.1f} M/s  "
            f"{1 - np.mean(valid):6.1%} padding"
        )

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
        if tokenizer.mask_id is not None:
            order = np.argsort(-stores.stores[0].split("train").unigram, kind="stable")
            words = (tokenizer.decode([token]).strip() for token in order if not tokenizer.is_continuation[token])
            listed.write("\n".join([word for word in words if word.isalpha()][:NUM_LISTED]))
            listed.flush()
            for name, changes in MASKED.items():
                changes = changes | ({"selective_words": listed.name} if "selective_words" in changes else {})
                measure(f"masked, {name}", masked_lm_batches, dataclasses.replace(base, **changes))
        for name, changes in CAUSAL.items():
            config = dataclasses.replace(base, mask_rate=0.0, **changes)
            measure(f"causal, {name}", causal_lm_batches, config)


if __name__ == "__main__":
    command_line.run(main)

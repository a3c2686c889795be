"""Measures how long a training waits for its examples, at its first start on a token store and at every later one.

    python -m benchmarks.examples --tokens=1_000_000_000 --folder=/tmp

Makes a synthetic store of that many tokens in a new folder below --folder (2 bytes a token, and 0.4 for the sentences;
deleted at the end): sentences of 25 tokens on average, documents of 20 sentences, most of them shorter and a few far
longer. Each start is a process of its own. Prints, for each, the seconds from the opened store to its batches, the
memory that they hold and the most that was held on the way: growth of the process's own pages (RssAnon of Linux), which
leaves out what is mapped from files. The files are in the page cache, as they are after `prepare`.
"""

import functools
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

from absl import flags

from experiments import command_line

TOKENS = flags.DEFINE_integer("tokens", 1_000_000_000, "Of the store.", lower_bound=100_000)
FOLDER = flags.DEFINE_string(
    "folder", None, "Where the store is made for the time being; else where temporary files go."
)
SENTENCE_TOKENS, DOCUMENT_SENTENCES = 25, 20  # on average
BLOCK_DOCUMENTS = 20_000
# What one training needs: of BERT's two phases, and of RoBERTa's one.
TRAININGS = {
    "pairs, 128 and 512": (("pairs", 128), ("pairs", 512)),
    "full sentences, 512": (("full_sentences", 512),),
    "packed documents, 512": (("packed_documents", 512),),
}


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER.value) as folder:
        store = Path(folder) / "store"
        make_store(store, TOKENS.value)
        print(f"{'examples':24} {'start':7} {'seconds':>8} {'held':>9} {'at most':>9}")
        for name, examples in TRAININGS.items():
            for start in ("first", "second"):
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    seconds, held, most = alone.apply(measure, (str(store), examples))
                print(f"{name:24} {start:7} {seconds:8.3f} {held / 1e9:6.2f} GB {most / 1e9:6.2f} GB", flush=True)


def make_store(store: Path, tokens: int) -> None:
    """A token store of random tokens; a thousandth is held out."""
    import numpy as np

    from tx_jax import text
    from tx_jax.data.corpus import token_store
    from tx_jax.data.corpus.writer import SplitWriter, TokenBlock

    tokenizer = text.train("wordpiece", ["a few words are enough here"] * 10, vocab_size=60)
    tokenizer.save(store / token_store.TOKENIZER)
    rng = np.random.default_rng(0)
    splits = {}
    for name, wanted in (("train", tokens), ("validation", tokens // 1000)):
        writer = SplitWriter(store, name, vocab_size=tokenizer.vocab_size, shard_tokens=1 << 30)
        while writer.num_tokens < wanted:
            documents = 1 + rng.lognormal(np.log(DOCUMENT_SENTENCES) - 0.5, 1.0, BLOCK_DOCUMENTS).astype(np.int64)
            sentences = 1 + rng.poisson(SENTENCE_TOKENS - 1, documents.sum())
            ids = rng.integers(len(tokenizer.special_ids), tokenizer.vocab_size, sentences.sum(), np.uint16)
            writer.append(TokenBlock(ids, sentences, documents))
        splits[name] = writer.finish()
    meta = {
        "format": token_store.FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "splits": splits,
        "files": [token_store.file_entry(store, path) for path in sorted((store / token_store.TOKENIZER).iterdir())],
    }
    token_store.write_json(store / token_store.META, meta)


def measure(store: str, examples: tuple[tuple[str, int], ...]) -> tuple[float, int, int]:
    """Makes the batches of these packings and lengths: seconds, bytes held at the end, and at most."""
    from tx_jax.config import DataConfig
    from tx_jax.data.corpus.stores import Stores
    from tx_jax.data.pretraining.batches import masked_lm_batches

    stores = Stores.open(store)
    stores.tokenizer()
    make = functools.partial(
        DataConfig,
        store=store,
        short_sequence_probability=0.1,
        mask_rate=0.15,
        max_predictions=77,
        replace_with_mask=0.8,
        replace_with_random=0.1,
        masking="dynamic",
        dupe_factor=1,
        read_ahead=1,
    )
    before, most, done = own_pages(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, own_pages() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    loaders = [
        masked_lm_batches(
            stores, "train", make(packing=packing, sequence_length=length), batch_size=256, seed=0, repeat=True
        )
        for packing, length in examples
    ]
    seconds = time.perf_counter() - began
    held = own_pages() - before
    done.set()
    watcher.join()
    for loader in loaders:
        loader.batch_at(0)
    return seconds, held, max(most, held)


def own_pages() -> int:
    """Bytes of this process that are mapped from no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    command_line.run(main)

"""Pretrains small_bert, which notebooks 08, 09 and 11 start from: a BERT of four layers that knows the small world.

    python notebooks/data/train_small_bert.py notebooks/data/small_bert

Masked LM and next sentence, on 8,000 documents of make_small_world.py; some minutes on 2 cores. The weights are written
in bfloat16, as a folder for transformers.
"""

import sys
import tempfile
from pathlib import Path

import tx_jax
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import make_small_world

from configs import quickstart


def configuration(store: Path, vocab_size: int):
    c = quickstart.get_config("long")
    c.model.vocab_size = vocab_size
    c.model.dim = 64
    c.model.num_layers = 4
    c.model.num_heads = 4
    c.model.mlp_dim = 128
    c.model.max_length = 48
    c.data.store = str(store)
    c.data.sequence_length = 48
    c.data.max_predictions = 8
    c.data.packing = "pairs"
    c.optimizer.learning_rate = 3e-3
    c.optimizer.warmup_steps = 300
    c.optimizer.weight_decay = 0.01
    c.training.num_steps = 4500
    c.training.batch_size = 32
    c.training.eval_every = 2250
    c.training.checkpoint_every = 2250
    for key in c.phases:
        c.phases[key] = ()
    return c


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "world.txt").write_text(make_small_world.texts(make_small_world.document, 8000, 0), encoding="utf-8")
        source = SourceConfig(specs=(str(work / "world.txt"),))
        prepared = prepare(PrepareConfig(work / "store", source, vocab_size=512, workers=1))
        print(prepared.meta["splits"], prepared.meta["vocab_size"])
        found = tx_jax.train(configuration(work / "store", prepared.meta["vocab_size"]), work / "run")
        print(found)
        tx_jax.load(work / "run").to_hf(sys.argv[1], dtype="bfloat16")


if __name__ == "__main__":
    main()

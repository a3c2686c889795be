"""Measures inference beside `transformers` in PyTorch: sentences a second, text to answer, with real lengths.

    python -m benchmarks.inference --model=bert_mini --json=inference.json

Needs torch and transformers. The sentences are those of the text that every Python carries; the model has random
parameters and a tokenizer trained on that text, and both sides read the same folder. `predict` labels each sentence,
tokenization included, as `experiments.predict` does it. `encode` turns tokenized sentences into the mean of their
vectors. Ours groups rows by length into few shapes; theirs, in a process of its own, sorts them by length and pads each
batch to its longest row. Before anything is timed, both must give the same probabilities and vectors.
"""

import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import measure
from benchmarks.apart import Apart
from experiments import command_line

MODEL = flags.DEFINE_string("model", "bert_mini", "A row of the table in benchmarks/cases.py, an encoder.")
DTYPE = flags.DEFINE_string("dtype", "float32", "float32, or bfloat16 (PyTorch: autocast).")
SENTENCES = flags.DEFINE_integer("sentences", 1024, "How many.", lower_bound=8)
LENGTH = flags.DEFINE_integer("length", 128, "Tokens at most.", lower_bound=16)
BATCH = flags.DEFINE_integer("batch_size", 32, "Rows of full length in one of our batches, rows in one of theirs.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
ONE_THREAD = flags.DEFINE_bool("one_thread", False, "Compute in one thread: processor time compares on a busy machine.")
JSON = flags.DEFINE_string("json", None, "Where to write the result.")
MAX_DIFFERENCE = {"float32": 1e-4, "bfloat16": 3e-2}


def main(argv: list[str]) -> None:
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()  # as experiments.predict does
    if ONE_THREAD.value:
        measure.one_thread()
    if not measure.has_torch():
        command_line.fail("torch and transformers are not installed: they are what this compares with")
    result = measure.print_header(measure.calibration(dtypes=[DTYPE.value]))
    rows = measure_inference(MODEL.value, DTYPE.value, SENTENCES.value, LENGTH.value, BATCH.value, rounds=ROUNDS.value)
    measure.write_json(JSON.value, result | {"inference": rows})


def measure_inference(
    name: str, dtype: str, count: int, length: int, batch_size: int, *, rounds: int
) -> list[dict[str, Any]]:
    """Prints and returns the rows of both tables, `predict` and `encode`."""
    texts = sentences(count)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(name, Path(folder) / "model", texts, length)
        settings = f"{folder}/model", dtype, length, batch_size
        ours, theirs = Ours(*settings), Apart(Theirs, *settings)
        lengths = ours.task.encode([{"text": text} for text in texts], labeled=False).lengths
        print(
            f"\n{name}, {dtype}: {count} sentences of {np.median(lengths):.0f} tokens (median; "
            f"{np.percentile(lengths, 90):.0f} at 90%, at most {length})"
        )
        for what in ("predict", "encode"):
            parts = {"ours": functools.partial(getattr(ours, what), texts), "transformers": theirs.part(what, texts)}
            difference = float(np.abs(parts["ours"]() - parts["transformers"]()).max())
            print(f"{what}: the largest difference is {difference:.1e}")
            if not difference <= MAX_DIFFERENCE[dtype]:
                raise ValueError(f"{what} differs by {difference:.1e}; the sides do not compute the same")
            found = measure.interleaved(parts, rounds).rows(count)
            for row in found:
                row["sentences_per_second"] = row.pop("per_second")
            measure.print_table(found)
            rows += [{"what": what, "case": name, "dtype": dtype, **row} for row in found]
        theirs.close()
    return rows


def sentences(count: int) -> list[str]:
    """Sentences from all over the embedded text, always the same ones on one installation of Python."""
    from tx_jax.data.corpus import embedded
    from tx_jax.text.sentences import split

    documents = embedded.documents()
    found = [text for document in documents for text in itertools.islice(split(document, "wrapped"), 40)]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:count]]


def write_model(name: str, folder: Path, texts: list[str], length: int) -> None:
    """Writes a classifier of random parameters with a tokenizer, as `transformers` and we read it."""
    import jax

    from benchmarks.cases import CASES
    from tx_jax import text, tree
    from tx_jax.convert import to_hf
    from tx_jax.convert.model_dir import Model
    from tx_jax.models import registry

    tokenizer = text.train("wordpiece", texts, vocab_size=2048)
    model = dataclasses.replace(
        CASES[name].config("float32").model,
        heads=("sequence_classification",),
        num_labels=2,
        vocab_size=tokenizer.vocab_size,
        init_stddev=0.05,
        max_length=length,
    )
    params = jax.jit(functools.partial(registry.init_params, model))(jax.random.key(0))
    flat = {path: np.asarray(value) for path, value in tree.flatten(params).items()}
    to_hf.write(Model(model, flat, tokenizer, None, labels=("no", "yes")), folder, length=length)


class Ours:
    """tx_jax: `evaluation.predict` and `interpret.vectors.embed`, as the commands call them."""

    def __init__(self, folder: str, dtype: str, length: int, batch_size: int):
        from tx_jax.evaluation.labeled_task import to_predict
        from tx_jax.runs import trained

        loaded = trained.load(folder)
        self._model = dataclasses.replace(loaded, model=dataclasses.replace(loaded.model, dtype=dtype))
        self.task = to_predict(self._model, {"sequence_length": length})
        self._batch_size = batch_size

    def predict(self, texts: list[str]) -> np.ndarray:
        """The probability of "yes" for each text."""
        from tx_jax.evaluation.predict import predict

        records = [{"text": text} for text in texts]
        found = predict(self.task, self._model.params, self._model.mesh, records, batch_size=self._batch_size)
        return np.array([one["probability_yes"] for one in found])

    @functools.lru_cache(1)  # noqa: B019, tokenization is not part of it
    def _rows(self, texts: tuple[str, ...]) -> Any:
        from tx_jax.interpret.texts import rows_to_encode

        return rows_to_encode(self._model, texts, cut=True)

    def encode(self, texts: list[str]) -> np.ndarray:
        """[N, D], in order."""
        from tx_jax.interpret.vectors import embed

        return embed(self._model, self._rows(tuple(texts)), normalize=False, batch_size=self._batch_size)


class Theirs:
    """`transformers`, as its documentation says and with the texts sorted by length."""

    def __init__(self, folder: str, dtype: str, length: int, batch_size: int):
        import transformers

        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        self._model = model.eval().to(measure.torch_device())
        self._dtype, self._length, self._batch_size = dtype, length, batch_size

    def _batches(self, ids: list[list[int]]) -> Any:
        """(indices, batch on the device), by length."""
        order = np.argsort([len(row) for row in ids], kind="stable")
        for begin in range(0, len(order), self._batch_size):
            indices = order[begin : begin + self._batch_size]
            batch = self._tokenizer.pad({"input_ids": [ids[i] for i in indices]}, return_tensors="pt")
            yield indices, batch.to(measure.torch_device())

    def _run(self, ids: list[list[int]], function: Any) -> np.ndarray:
        import torch

        parts = []
        with (
            torch.inference_mode(),
            torch.autocast(measure.torch_device(), dtype=torch.bfloat16, enabled=self._dtype == "bfloat16"),
        ):
            for indices, batch in self._batches(ids):
                parts.append((indices, function(batch).float().cpu().numpy()))
        joined = np.zeros((len(ids), *parts[0][1].shape[1:]), np.float32)
        for indices, values in parts:
            joined[indices] = values
        return joined

    def _ids(self, texts: tuple[str, ...]) -> list[list[int]]:
        return self._tokenizer(list(texts), truncation=True, max_length=self._length)["input_ids"]

    _cached_ids = functools.lru_cache(1)(_ids)

    def predict(self, texts: list[str]) -> np.ndarray:
        """The probability of "yes" for each text."""
        return self._run(self._ids(tuple(texts)), lambda batch: self._model(**batch).logits.softmax(-1)[:, 1])

    def encode(self, texts: list[str]) -> np.ndarray:
        """[N, D], in order."""

        def vectors(batch: Any) -> Any:
            hidden = self._model.base_model(**batch).last_hidden_state.float()
            weights = batch["attention_mask"][:, :, None].float()
            return (hidden * weights).sum(1) / weights.sum(1)

        return self._run(self._cached_ids(tuple(texts)), vectors)


if __name__ == "__main__":
    command_line.run(main)

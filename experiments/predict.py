"""Predicts with a fine-tuned model: reads a file and writes one with the same columns plus the predictions.

    python -m experiments.predict --model=runs/texts --input=new.csv --output=labeled.csv
    python -m experiments.predict --model=runs/texts

The model is a run, a converted model or a Hugging Face model, such as a classifier from the Hub. The input has the
columns that the run was trained on, without the label, or those that --text names. It is a table, JSON lines, a JSON
list, parquet, or words in CoNLL's columns; the content decides which. A .txt file that is none of these is read as one
text per line. All may be compressed. The output, in the same order, also has `prediction` and the probability of each
label. For tagging it has a label and a probability for each word (.conll: one word per line); for a question, the
answer and the `n_best`. Without --input it asks for texts, one after another, and reads standard input that is not a
terminal as one text per line.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command_line, model_flags, reading_flags

model_flags.define_model()
model_flags.define_data()
flags.adopt_module_key_flags(reading_flags)
INPUT = flags.DEFINE_string("input", None, "The file to read, or several, comma-separated.")
OUTPUT = flags.DEFINE_string(
    "output", None, "The file to write: .csv, .tsv, .jsonl; for tagging also .conll; any of them with .gz."
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 0, "Batch size for texts of full length; 0: as in evaluation.", lower_bound=0
)
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the best.")
SHOWN = 5  # number of labels shown in interactive use


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    if bool(INPUT.value) != bool(OUTPUT.value):
        command_line.fail("--input and --output go together: give a file to read and one to write")
    command_line.keep_memory_and_programs()
    from tqdm import tqdm

    from tx_jax.data.labeled import readers, writers
    from tx_jax.errors import InputError
    from tx_jax.evaluation import labeled_task
    from tx_jax.evaluation.predict import predict
    from tx_jax.files import path_of
    from tx_jax.runs import trained

    if OUTPUT.value:
        writers.check(path_of(OUTPUT.value, "--output"), source=INPUT.value)
    model = trained.load(name, STEP.value)
    with reading_flags.named_as_flags():
        options = reading_flags.options() | model_flags.data_options()
        task = labeled_task.to_predict(model, options, tuple(flags.FLAGS.label_map))
    if OUTPUT.value and ".conll" in Path(OUTPUT.value).suffixes and task.objective.head != "token_classification":
        raise InputError(f"{OUTPUT.value}: .conll is for labels of words: write .csv, .tsv or .jsonl")
    size = BATCH_SIZE.value or task.config.training.eval_batch_size
    if not INPUT.value:
        columns = [*task.data.text, *task.data.choices]
        return _interactive(lambda records: predict(task, model.params, model.mesh, records, batch_size=size), columns)
    with reading_flags.named_as_flags():
        records = readers.read(INPUT.value, task.data, labeled=False)
        for notice in readers.notices(INPUT.value, task.data, labeled=False):
            print(f"warning: {notice}", file=sys.stderr)
    # Errors that would come up at the end are raised before the work.
    writers.check(path_of(OUTPUT.value, "--output"), records)
    _check_free(records, ("prediction",))
    # A delay, so that the bar does not appear before predict() has warned of truncated texts.
    with tqdm(total=len(records), unit="row", dynamic_ncols=True, delay=1e-3) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total  # a long context takes several rows
            bar.update(done - bar.n)

        found = predict(task, model.params, model.mesh, records, batch_size=size, progress=progress)
    _check_free(records, found[0])
    rows = [{**record, **more} for record, more in zip(records, found, strict=True)]
    writers.write(path_of(OUTPUT.value, "--output"), rows)
    print(f"{len(rows):,} predictions: {OUTPUT.value}")
    return 0


def _check_free(records: Sequence[Mapping[str, Any]], names: Iterable[str]) -> None:
    """Raises InputError if a prediction would overwrite a column of the input."""
    from tx_jax.errors import InputError

    if taken := sorted({name for record in records for name in record}.intersection(names)):
        raise InputError(f"{INPUT.value} already has a column {taken[0]!r}, which would be overwritten: rename it")


def _interactive(predict: Callable[[list[dict[str, str]]], list[dict[str, Any]]], names: Sequence[str]) -> int:
    """Predicts for records with these columns, read from standard input, one per line."""
    from tx_jax.errors import InputError

    sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    asks = sys.stdin.isatty()
    while True:
        record = {}
        for name in names:
            if asks:
                print(f"{name}: ", end="", flush=True)
            try:
                line = sys.stdin.readline()
            except UnicodeDecodeError as error:
                raise InputError(f"standard input is not UTF-8 ({error.reason}): convert it with iconv") from None
            if not line:
                return 0
            record[name] = line.strip()
        if any(record.values()):
            print(describe(predict([record])[0]), flush=True)


def describe(prediction: Mapping[str, Any]) -> str:
    """A prediction as one line: words with their labels, or labels or answers, the most probable first."""
    if "words" in prediction:
        found = zip(prediction["words"], prediction["prediction"], prediction["probability"], strict=True)
        return "    " + "   ".join(f"{word} {label} {probability:.1%}" for word, label, probability in found)
    if "n_best" in prediction:
        found = [(one["text"] or "(no answer)", one["probability"]) for one in prediction["n_best"][:SHOWN]]
        return "    " + "   ".join(f"{text} {probability:.1%}" for text, probability in found)
    prefix = "probability_"
    odds = {name.removeprefix(prefix): value for name, value in prediction.items() if name.startswith(prefix)}
    if not odds:
        return "    " + "   ".join(f"{name} {value}" for name, value in prediction.items())
    best = sorted(odds.items(), key=lambda item: -item[1])[:SHOWN]
    return "    " + "   ".join(f"{label} {probability:.1%}" for label, probability in best)


if __name__ == "__main__":
    command_line.run(main)

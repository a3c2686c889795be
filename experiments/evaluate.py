"""Evaluates a model on held-out data, each metric beside what a trivial predictor would reach.

    python -m experiments.evaluate --model=runs/bert
    python -m experiments.evaluate --model=runs/bert --step=20000
    python -m experiments.evaluate --model=runs/cola --split=test

A run knows its own data; the result goes to the screen and to evaluation.json in the run directory. Any model that was
trained on labels, be it a run, a converted model or one of Hugging Face, is evaluated on a file with labels as well;
the baselines are then those that this file alone gives:

    python -m experiments.evaluate --model=runs/texts --data=test.csv
    python -m experiments.evaluate --model=distilbert-base-uncased-finetuned-sst-2-english --data=test.csv --text=review
"""

from pathlib import Path

from absl import flags

from experiments import command_line, model_flags, reading_flags

model_flags.define_model()
model_flags.define_data(labeled=True)
flags.adopt_module_key_flags(reading_flags)
DATA = flags.DEFINE_string("data", None, "A file with labels, in the place of a run's own data; several with commas.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; by default the newest, of a fine-tuned run the best.")
STORE = flags.DEFINE_string("store", None, "A token store of the same tokenizer; by default that of training.")
SPLIT = flags.DEFINE_string("split", None, "Of a fine-tuned model: validation, test or another; by default all.")
BATCHES = flags.DEFINE_integer("batches", 0, "Held-out batches; 0 is all.", lower_bound=0)


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    if DATA.value:
        return _on_file(name)
    if stray := [*model_flags.data_options(), *(["label_map"] if flags.FLAGS.label_map else [])]:
        command_line.fail(f"--{stray[0]} says how --data is to be read: give it too")
    from experiments.display import show_reports
    from experiments.progress import EvaluationProgress
    from tx_jax.evaluation import report
    from tx_jax.runs.open_model import locate

    workdir, progress = Path(name), EvaluationProgress(announces=True)
    if locate(name).kind != "run directory":
        command_line.fail(f"{name} is not a run, so it has no data to be evaluated on: give --data=FILE, with labels")
    reports = report.evaluate_run(
        workdir,
        step=STEP.value,
        store=STORE.value,
        split=SPLIT.value,
        batches=BATCHES.value,
        progress=progress,
    )
    show_reports(workdir, reports)
    report.write(workdir, reports)
    return 0


def _on_file(name: str) -> int:
    """--data."""
    if stray := [flag for flag, given in (("store", STORE.value), ("split", SPLIT.value)) if given]:
        command_line.fail(f"--{stray[0]} and --data both say what to evaluate on: give one of them")
    from experiments.display import show_reports
    from experiments.progress import EvaluationProgress
    from tx_jax.evaluation import labeled_task, report
    from tx_jax.runs import trained

    model = trained.load(name, STEP.value)
    with reading_flags.named_as_flags():
        options = reading_flags.options() | model_flags.data_options()
        task, taken = labeled_task.to_evaluate(model, DATA.value, options, tuple(flags.FLAGS.label_map))
    if taken:
        print(f"Labels taken: {taken}")
    files = ", ".join(Path(part).name for part in DATA.value.split(","))
    progress = EvaluationProgress(announces=True)
    found = report.evaluate_split(model, task, labeled_task.DATA, BATCHES.value, progress=progress)
    show_reports(name, {files: found})
    return 0


if __name__ == "__main__":
    command_line.run(main)

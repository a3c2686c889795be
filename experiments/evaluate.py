"""Evaluates a model on held-out data. Each metric is shown next to that of a trivial predictor.

    python -m experiments.evaluate --model=runs/bert
    python -m experiments.evaluate --model=runs/bert --step=20000
    python -m experiments.evaluate --model=runs/cola --split=test

A run knows its own data; the result is printed and written to evaluation.json in the run directory. Any model that was
trained on labels (a run, a converted model or a Hugging Face model) can also be evaluated on a file with labels. The
baselines are then computed from that file alone:

    python -m experiments.evaluate --model=runs/texts --data=test.csv
    python -m experiments.evaluate --model=distilbert-base-uncased-finetuned-sst-2-english --data=test.csv --text=review
"""

from pathlib import Path

from absl import flags

from experiments import command_line, model_flags, reading_flags

model_flags.define_model()
model_flags.define_data(labeled=True)
flags.adopt_module_key_flags(reading_flags)
DATA = flags.DEFINE_string(
    "data", None, "A file with labels to use instead of the run's own data; or several, comma-separated."
)
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the newest, or a fine-tuned run's best.")
STORE = flags.DEFINE_string("store", None, "A token store made with the same tokenizer; default: the training's.")
SPLIT = flags.DEFINE_string("split", None, "For a fine-tuned model: validation, test or another split; default: all.")
BATCHES = flags.DEFINE_integer("batches", 0, "Number of held-out batches; 0: all.", lower_bound=0)


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    if DATA.value:
        return _on_file(name)
    if stray := [*model_flags.data_options(), *(["label_map"] if flags.FLAGS.label_map else [])]:
        command_line.fail(f"--{stray[0]} says how to read --data: give --data too")
    command_line.keep_memory_and_programs()
    from experiments.display import show_reports
    from experiments.progress import EvaluationProgress
    from tx_jax.evaluation import report
    from tx_jax.files import path_of
    from tx_jax.runs.open_model import locate

    workdir, progress = path_of(name, "--model"), EvaluationProgress(announces=True)
    if locate(name).kind != "run directory":
        command_line.fail(f"{name} is not a run, so it has no data to evaluate on: give --data=FILE, with labels")
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
    command_line.keep_memory_and_programs()
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

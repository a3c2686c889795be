"""Evaluates a run on held-out data, each metric beside what a trivial predictor would reach.

    python -m experiments.evaluate --workdir=runs/bert
    python -m experiments.evaluate --workdir=runs/bert --step=20000
    python -m experiments.evaluate --workdir=runs/cola --split=test

The result goes to the screen and to WORKDIR/evaluation.json.
"""

from pathlib import Path

from absl import flags

from experiments import command_line

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; by default the newest, of a fine-tuned run the best.")
STORE = flags.DEFINE_string("store", None, "A token store of the same tokenizer; by default that of training.")
SPLIT = flags.DEFINE_string("split", None, "Of a fine-tuned model: validation, test or another; by default all.")
BATCHES = flags.DEFINE_integer("batches", 0, "Held-out batches; 0 is all.", lower_bound=0)


def main(argv: list[str]) -> int:
    if not WORKDIR.value:
        command_line.fail("--workdir is needed: the run directory that experiments.train made")
    from experiments.display import show_reports
    from experiments.progress import EvaluationProgress
    from tx_jax.evaluation import report

    workdir, progress = Path(WORKDIR.value), EvaluationProgress(announces=True)
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


if __name__ == "__main__":
    command_line.run(main)

"""Trains a model, from pretraining to fine-tuning, on one CPU, several GPUs or a TPU VM alike.

    python -m experiments.train --config=configs/bert_base.py --workdir=runs/bert

Any value of the configuration can be set on the command line, and a configuration may have variants:

    python -m experiments.train --config=configs/bert_base.py:smoke --workdir=runs/smoke \\
        --config.optimizer.learning_rate=3e-4 --config.training.batch_size=64

--help together with --config lists every key and its value.

The run directory holds config.json, env.json, history.jsonl (which start trained which steps), tokenizer/,
metrics.jsonl, tb/ (TensorBoard), checkpoints/, loss.png, and DONE, or FAILED with the reason. To continue a run that
was killed, run the same command again; on the same kind and number of devices the results are exactly those of an
uninterrupted run. SIGTERM or Ctrl-C finishes the current step, saves, and exits with code 75.

At the end of fine-tuning the best checkpoint is evaluated on the whole of every split (evaluation.json), or on the
first N batches of each with --config.training.final_eval_batches=N; -1: not at all. --seeds=0,1,2 is a sweep over the
seed in this process (see experiments.sweep): one run per seed, and a table of the means and standard deviations of
their metrics (seeds.json; results.json and sweep.png by the metric that decides). A seed determines the newly
initialized parameters, the order of the data, dropout and, if no validation file is given, the held-out examples.

To see what memory and time a run would take, before any data is prepared, on the devices of this machine or on TPUs
elsewhere (pip install -e ".[plan]"):

    python -m experiments.train --config=configs/bert_base.py --plan --topology=v5litepod-16

A plan for fine-tuning reads the model, and also the data if the length is given in epochs. It needs neither if you give
a number of steps, and --config.start_from= for a model of the shape in --config.model...:

    python -m experiments.train --config=configs/classification.py --plan --config.start_from= \\
        --config.training.num_epochs=0 --config.training.num_steps=10000

--profile_steps=100-103 writes a trace of these steps to WORKDIR/profile. What else takes time is in metrics.jsonl
(goodput, seconds_compiling, seconds_waiting, seconds_evaluating, seconds_saving) and in a line at the end.

With several hosts, run the same command on each, or once per GPU; TPU pods, SLURM, Open MPI and Kubernetes are
recognized. Elsewhere, say where process 0 is (--process_id=1 for the second one; CUDA_VISIBLE_DEVICES gives each its
GPU):

    python -m experiments.train ... --coordinator=HOST:PORT --num_processes=2 --process_id=0

All processes must see the same run directory. If one process ends, all do, and the last line of each gives the reason.
SIGTERM to any process stops all of them after the same step.

Exit codes: 0 done, 2 bad input, 75 stopped and saved (run it again to continue), 1 anything else.
"""

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from experiments import command_line

if TYPE_CHECKING:
    from tx_jax.evaluation.report import Report
    from tx_jax.hosts.stopping import StopRequest
    from tx_jax.runs.trackers import Tracking
    from tx_jax.training.open_run import OpenRun

EXIT_FAILED = 1
EXIT_STOPPED = 75  # EX_TEMPFAIL: try again

CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/NAME.py, or configs/NAME.py:VARIANT.")
PLAN = flags.DEFINE_bool(
    "plan", False, "Compile the train steps and print the memory and time they would take, without training."
)
TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "TPUs to plan for, such as v4-8, v5litepod-16, v5p-128, v6e-16 or v5e:4x4; default: this machine's.",
)
WORKDIR = flags.DEFINE_string("workdir", None, "The run directory; created if it does not exist.")
SEEDS = flags.DEFINE_string(
    "seeds",
    None,
    "For fine-tuning: two or more seeds, such as 0,1,2. Each gets a run of its own, in WORKDIR/seed_0 and so on.",
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, if no launcher provides it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of the run; 1: look for no launcher.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "The index of this process, from 0.")
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "Steps to profile, such as 100-103: their trace by jax.profiler goes to WORKDIR/profile."
)
SILENCE_SECONDS = flags.DEFINE_integer(
    "silence_seconds", 30, "If a process gives no sign of life for so many seconds, the others end.", lower_bound=5
)


def main(argv: list[str]) -> int:
    began = time.perf_counter()
    if PROFILE_STEPS.value and PLAN.value:
        command_line.fail("--profile_steps is for a training; a plan runs no step")
    if TOPOLOGY.value and not PLAN.value:
        command_line.fail("--topology says what to plan for: give --plan too")
    if not CONFIG.value or not (WORKDIR.value or PLAN.value):
        command_line.fail("needed: --config and --workdir, such as --config=configs/bert_base.py --workdir=runs/bert")
    if PLAN.value:
        if TOPOLOGY.value:
            os.environ["JAX_PLATFORMS"] = "cpu"  # the TPU compiler needs no TPU, and jax would look for one
        from experiments import plan_report

        plan_report.make_and_show(CONFIG.value.to_dict(), TOPOLOGY.value, command_line.given())
        return 0
    from tx_jax.hosts.stopping import StopRequest

    with StopRequest() as stop:
        command_line.keep_memory_and_programs()
        from tx_jax.files import path_of
        from tx_jax.hosts import distributed
        from tx_jax.hosts.watchdog import Watchdog

        distributed.start(
            COORDINATOR.value,
            NUM_PROCESSES.value,
            PROCESS_ID.value,
            silence_seconds=SILENCE_SECONDS.value,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
        stop.joined()
        with Watchdog(silence_seconds=SILENCE_SECONDS.value, explain=command_line.explain):
            values, workdir = CONFIG.value.to_dict(), path_of(WORKDIR.value, "--workdir")
            if SEEDS.value is None:
                return _train(values, workdir, stop, began)[0]
            return _train_seeds(values, workdir, SEEDS.value, stop)


def _train(
    values: dict[str, Any], workdir: Path, stop: "StopRequest", began: float
) -> tuple[int, "Mapping[str, Report]"]:
    """Trains one run, whose time counts from `began`. Returns the exit code and, after fine-tuning, the best
    checkpoint's results on each split."""
    from tx_jax.hosts import distributed
    from tx_jax.runs import trackers
    from tx_jax.training.open_run import open_run

    opened = open_run(values, workdir, command_line.given(), PROFILE_STEPS.value)
    first, task = distributed.is_first(), opened.task
    if first:
        for notice in opened.notices:
            print(f"warning: {notice}", file=sys.stderr)
        for line in opened.told:
            print(line, flush=True)
    tracked = task.config.training.trackers if first else ()
    with trackers.tracking(tracked) as tracking:
        return _train_task(opened, workdir, stop, began, tracking)


def _train_task(
    opened: "OpenRun", workdir: Path, stop: "StopRequest", began: float, tracking: "Tracking"
) -> tuple[int, "Mapping[str, Report]"]:
    """Trains what is checked, and evaluates the best of a fine-tuning. Returns as `_train` does."""
    from experiments.display import TrainingDisplay, show_reports
    from experiments.next_steps import after_training
    from experiments.outcomes import show_outcomes
    from experiments.progress import EvaluationProgress
    from tx_jax.config import LabeledDataConfig
    from tx_jax.evaluation import report
    from tx_jax.hosts import distributed
    from tx_jax.runs import metrics_log, plots
    from tx_jax.storage.failures import StoreFailed
    from tx_jax.training import loop, out_of_memory
    from tx_jax.training.recorder import NonFiniteLossError

    task, first, display, last = opened.task, distributed.is_first(), TrainingDisplay(), {}
    code, end = 0, f"Done. Curves: {workdir / 'loss.png'}. Next: {after_training(task.config, task.tokenizer, workdir)}"
    how = {"profiled": opened.profiled, "began": began, "tracking": tracking}
    try:
        last = loop.train(task.config, task, workdir, display, opened.start_from, stop, **how)
    except loop.Stopped as stopped:
        code, end = EXIT_STOPPED, f"{stopped}. Run the same command again to continue."
    except NonFiniteLossError as error:
        code, end = EXIT_FAILED, f"error: {error}"
    except out_of_memory.OutOfMemory as error:
        if not distributed.is_alone():  # the other processes may have enough memory
            raise
        code, end = EXIT_FAILED, f"error: {error}"
    except StoreFailed:
        first = False  # it is not asked again, which takes minutes
        raise
    finally:
        display.close()
        with contextlib.suppress(OSError):  # the disk may be full, and this may be what ended the run
            if first and metrics_log.read(workdir):
                plots.draw_curves(workdir)
    reports, batches = {}, task.config.training.final_eval_batches
    if not code and distributed.is_alone() and isinstance(task.config.data, LabeledDataConfig) and batches >= 0:
        print(_what_is_coming(batches), flush=True)
        progress = EvaluationProgress(announces=True)
        reports = report.evaluate_run(workdir, task=task, batches=batches, progress=progress)
        show_reports(workdir, reports)
        report.write(workdir, reports)
    if not code:
        found = {split: one.metrics for split, one in reports.items()} or {"validation": last}
        if first:
            show_outcomes(workdir, command_line.config_file(), command_line.given(), found)
        tracking.summarize(workdir, {f"{split}/{name}": x for split, of in found.items() for name, x in of.items()})
    tracking.failed = code == EXIT_FAILED
    if first:
        print(end, file=sys.stderr if code else sys.stdout)
    return code, reports


def _what_is_coming(batches: int) -> str:
    if batches:
        return f"Final evaluation on the first {batches:,} batches of each split (training.final_eval_batches)."
    return (
        "Final evaluation on the whole of each split; --config.training.final_eval_batches=N limits it to the first N "
        "batches of each, -1 turns it off."
    )


def _train_seeds(values: dict[str, Any], workdir: Path, seeds: str, stop: "StopRequest") -> int:
    """A sweep over the seed: one run each, one after the other, and the mean and spread of their results."""
    from experiments.display import show_spread
    from tx_jax.evaluation import report
    from tx_jax.files import json_text, write_atomically
    from tx_jax.hosts import distributed
    from tx_jax.sweeps import plots, results, settings
    from tx_jax.sweeps.sweep_dir import SweepDir

    numbers = [int(part) for part in seeds.split(",") if part.strip().isdecimal()]
    if len(set(numbers)) < 2 or len(set(numbers)) < len(seeds.split(",")):
        command_line.fail(f"--seeds={seeds}: give two or more different numbers, such as --seeds=0,1,2")
    if "train" not in values["data"] or not distributed.is_alone():
        command_line.fail("--seeds is for fine-tuning in a single process")
    if values["training"].get("final_eval_batches", 0) < 0:
        command_line.fail("--seeds compares the final evaluations, but training.final_eval_batches=-1 turns them off")
    directory, runs = SweepDir(workdir), []
    trials = settings.trials([{}], [{"seed": str(seed)} for seed in numbers])
    for seed, trial in zip(numbers, trials, strict=True):
        print(f"Seed {seed}: {directory.folder(trial)}", flush=True)
        code, reports = _train(values | {"seed": seed}, directory.folder(trial), stop, time.perf_counter())
        if code:
            return code
        runs.append(reports)
    spread = report.spread(runs)
    show_spread(spread, len(numbers))
    plain = {split: {name: vars(one) for name, one in metrics.items()} for split, metrics in spread.items()}
    write_atomically(workdir / "seeds.json", json_text({"seeds": numbers, **plain}, indent=2) + "\n")
    found = results.collect(directory, trials)
    results.write(directory, found, shlex.join(["python", "-m", "experiments.train", *sys.argv[1:]]))
    plots.draw(found, workdir / "sweep.png")
    return 0


if __name__ == "__main__":
    command_line.run(main)

"""The display of a training run: tables at the start, then a progress bar on a terminal or plain lines elsewhere."""

import functools
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from experiments.progress import EvaluationProgress, duration, roughly
from tx_jax import sharding, tree
from tx_jax.evaluation.report import Report, Spread
from tx_jax.models.registry import FLOPS_FORMULA
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.run import Run

LAYER = re.compile(r"layer_(\d+)/")
LINE_SECONDS = 5.0  # without a terminal, a line about this often


class TrainingDisplay:
    """Implements `training.run.Display`. Silent on all processes but the first."""

    def __init__(self):
        self._console = make_console()
        self._run: Run | None = None
        self._silent = jax.process_index() > 0
        self._bar: tqdm | None = None
        self._evaluation = EvaluationProgress(announces=False)
        self._last_line = 0.0

    def start(self, run: Run, start_step: int, changes: list[str]) -> None:
        self._run, self._start_step, self._began = run, start_step, time.monotonic()
        self._num_steps = run.config.training.num_steps
        if self._silent:
            return
        run.progress = functools.partial(self._evaluation, "held-out data")
        self._console.print(parameter_table(run.state.params))
        if rates := rates_table(run):
            self._console.print(rates)
        self._console.print(figures_table(run))
        for line in changes:
            self._console.print(f"changed since the run began: {line}")
        if run.complete:
            self._console.print(complete(start_step, run.config.training.num_steps, bool(changes)))
        else:
            after = f"Continuing after step {start_step}; compiling" if start_step else "Compiling"
            self._console.print(
                f"{after} the train step, which takes seconds for a small model, minutes for a large one."
            )
        if sys.stderr.isatty() and not run.complete:
            self._bar = tqdm(total=self._num_steps, initial=start_step, unit="step", dynamic_ncols=True)

    def pace(self, start: int, step: int, seconds: float) -> None:
        if not self._silent:
            line = time_needed(self._run, start, step, seconds)
            self._bar.write(line) if self._bar is not None else print(line, flush=True)

    def train(self, step: int, values: dict[str, float]) -> None:
        if self._silent:
            return
        text = describe(values)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(text)
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_SECONDS or step == self._num_steps:
            self._last_line = now
            left, done = self._run.tokens(step, self._num_steps), self._run.tokens(self._start_step, step)
            left *= (now - self._began) / done
            print(f"step {step}/{self._num_steps}  {text}  {duration(left)} left", flush=True)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        if not self._silent:
            line = f"step {step}/{self._num_steps}  held-out: {describe(values)}"
            self._bar.write(line) if self._bar is not None else print(line, flush=True)

    def close(self) -> None:
        self._evaluation.close()
        if self._bar is not None:
            self._bar.close()
        if not self._silent and self._run is not None and self._run.spent.lost["starting"]:  # it came to training
            print(where_the_time_went(self._run.spent.values()), flush=True)
        self._run = None  # and its state: what follows the training needs the device memory


def time_needed(run: Run, start: int, step: int, seconds: float) -> str:
    """How long the steps after `step` will take if they compute as fast as the steps start + 1 to `step`, which took
    these seconds. Steps of other phases are converted by their FLOPs."""
    num_steps = run.config.training.num_steps
    left = seconds / run.flops(start, step) * run.flops(step, num_steps)
    return (
        f"about {roughly(left)} for the {num_steps - step:,} steps that are left, on this machine "
        f"({run.tokens(start, step) / seconds:,.0f} tokens/s); evaluations and checkpoints come on top"
    )


def where_the_time_went(values: Mapping[str, float]) -> str:
    """One line about `TimeSpent.values`."""
    lost = {name.removeprefix("seconds_"): x for name, x in values.items() if name != "seconds_total"}
    del lost["goodput"]
    parts = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in lost.items())
    return f"Time: {duration(values['seconds_total'])}, {values['goodput']:.1%} of it in training steps; {parts}."


def complete(start_step: int, num_steps: int, changed: bool) -> str:
    """The message for a run that has no step left to train."""
    has = f"it has its {num_steps} steps" if start_step == num_steps else f"it has trained {start_step} steps"
    more = ""
    if start_step > num_steps:
        more = f"; training.num_steps={num_steps} does not ask for more"
    elif start_step < num_steps:
        more = " and no longer improves"
    kept = " Nothing is trained, so the changes have no effect, and config.json is kept." if changed else ""
    return f"The run is complete: {has}{more}.{kept}"


def make_console() -> Console:
    """A console for tables: as wide as the terminal, or wide enough for all columns if there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


SHORT_NAMES = {
    "loss": "loss {:.4f}",
    "accuracy": "accuracy {:.1%}",
    "window_accuracy": "windows right {:.1%}",
    "f1": "F1 {:.3f}",
    "exact_match": "exact match {:.1%}",
    "entity_f1": "entity F1 {:.3f}",
    "macro_f1": "macro F1 {:.3f}",
    "mcc": "MCC {:.3f}",
    "pearson": "Pearson {:.3f}",
    "spearman": "Spearman {:.3f}",
    "masked_lm_loss": "MLM loss {:.3f}",
    "masked_lm_accuracy": "MLM acc {:.1%}",
    "next_sentence_accuracy": "NSP acc {:.1%}",
    "causal_lm_loss": "LM loss {:.3f}",
    "causal_lm_accuracy": "LM acc {:.1%}",
    "causal_lm_perplexity": "perplexity {:.1f}",
    "bits_per_byte": "{:.3f} bits/byte",
    "bleu": "BLEU {:.2f}",
    "chrf": "chrF {:.2f}",
    "learning_rate": "lr {:.2e}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "mfu": f"MFU {{:.1%}} ({FLOPS_FORMULA})",
}

SHOWN_WAIT_SHARE = 0.05  # of the time; a smaller share is not worth showing


def describe(values: dict[str, float]) -> str:
    shown = [form.format(values[name]) for name, form in SHORT_NAMES.items() if name in values]
    if (waiting := values.get("data_wait_share", 0.0)) > SHOWN_WAIT_SHARE:
        shown.append(f"waits for data {waiting:.0%}")
    return "  ".join(shown)


def show_reports(name: str | Path, reports: Mapping[str, Report]) -> None:
    """Prints a table for each split. `name` is the model's."""
    for split, report in reports.items():
        first, total = report.batches
        part = "" if report.is_whole else f", first {first:,} of {total:,} batches"
        title = f"{name}{part}" if report.step is None else f"Step {report.step} of {name}{part}"
        table = Table(f"on {split} data", "model", "baseline", "", title=title)
        for metric, value in report.metrics.items():
            baseline, what = report.baselines.get(metric, (None, ""))
            table.add_row(metric, f"{value:.4f}", "" if baseline is None else f"{baseline:.4f}", what)
        make_console().print(table)


def show_spread(splits: Mapping[str, Mapping[str, Spread]], num_runs: int) -> None:
    """Prints a table for each split with the results of several runs."""
    for split, metrics in splits.items():
        table = Table(f"on {split} data", "mean", "std", "runs", title=f"{num_runs} seeds")
        for name, spread in metrics.items():
            runs = "  ".join(f"{value:.4f}" for value in spread.values)
            table.add_row(name, f"{spread.mean:.4f}", f"{spread.deviation:.4f}", runs)
        make_console().print(table)


def parameter_table(params: dict) -> Table:
    """Every parameter: path, shape, dtype, sharding, bytes in total and per device. Identical layers share a row."""
    rows: dict[tuple, list[int]] = {}
    for path, leaf in tree.flatten(params).items():
        layer = LAYER.search(path)
        name = path if layer is None else path.replace(layer[0], "layer_*/")
        sizes = (leaf.size * leaf.dtype.itemsize, sharding.bytes_per_device(leaf))
        key = (name, str(leaf.shape), str(leaf.dtype), describe_sharding(leaf.sharding), sizes)
        rows.setdefault(key, []).append(int(layer[1]) if layer else 0)
    table = Table("parameter", "shape", "dtype", "sharding", title="Parameters")
    table.columns[0].overflow = "fold"
    table.add_column("bytes", justify="right")
    table.add_column("per device", justify="right")
    for (name, shape, dtype, spec, sizes), layers in rows.items():
        if "layer_*" in name:
            name = name.replace("layer_*", f"layer_{{{min(layers)}..{max(layers)}}}")
        table.add_row(name, shape, dtype, spec, *(f"{size * len(layers):,}" for size in sizes))
    return table


def rates_table(run: Run) -> Table | None:
    """Which parameters are frozen, and which train at which peak learning rate; None if all train at the same rate."""
    rates = Optimizer(run.config).rates(run.state.params)
    groups: dict[float, dict[str, set[int]]] = {}  # share of the learning rate, 0 for frozen -> modules -> their layers
    sizes: dict[float, int] = {}
    for path, leaf in tree.flatten(run.state.params).items():
        rate, layer = rates.get(path, 0.0), LAYER.search(path)
        module = f"{path[: layer.start()]}layer_*" if layer else path.split("/")[0]
        groups.setdefault(rate, {}).setdefault(module, set()).add(int(layer[1]) if layer else 0)
        sizes[rate] = sizes.get(rate, 0) + leaf.size
    if sizes.keys() == {1.0}:
        return None
    table = Table("peak learning rate", title="What trains")
    table.add_column("parameters", justify="right")
    table.add_column("in")
    for rate, modules in sorted(groups.items()):
        peak = f"{rate * run.config.optimizer.learning_rate:.3g}" if rate else "frozen"
        names = [module.replace("*", ",".join(map(str, sorted(layers)))) for module, layers in modules.items()]
        table.add_row(peak, f"{sizes[rate]:,}", "  ".join(names))
    return table


def describe_sharding(placement: jax.sharding.NamedSharding) -> str:
    """The mesh axis that splits each dimension; an axis of size 1 splits nothing."""
    axes = [axis if axis and placement.mesh.shape[axis] > 1 else "-" for axis in placement.spec]
    return " x ".join(axes) if set(axes) - {"-"} else "replicated"


def figures_table(run: Run) -> Table:
    """The table of a run's sizes, devices, memory and FLOPs."""
    sizes = {path: leaf.size for path, leaf in tree.flatten(run.state.params).items()}
    trained = sum(sizes[path] for path in Optimizer(run.config).rates(run.state.params))
    devices = run.mesh.devices
    mesh = " x ".join(f"{axis} {size}" for axis, size in run.mesh.shape.items())
    table = Table(show_header=False, title="Run")
    total = sum(sizes.values())
    table.add_row("parameters", f"{total:,}" + (f", {trained:,} of them trained" if trained < total else ""))
    if run.fresh:
        table.add_row(f"not from {run.config.start_from}", f"{', '.join(run.fresh)}: newly initialized")
    if run.labels:
        table.add_row("labels", run.labels)
    table.add_row("devices", f"{devices.size} x {devices.flat[0].device_kind} ({mesh})")
    for where, chosen in run.attention.items():
        table.add_row(f"attention{where and f', {where}'}", chosen)
    held = {
        "parameters": run.state.params,
        "gradients": Optimizer(run.config).split(run.state.params)[0],  # as large as the parameters they belong to
        "optimizer state": run.state.opt_state,
    }
    parts = ", ".join(f"{name} {sharding.bytes_per_device(arrays) / 2**20:,.1f} MiB" for name, arrays in held.items())
    table.add_row("per device", f"{parts}; activations not counted")
    for phase in run.config.training_phases:
        until = f" to step {phase.stop:,}" if len(run.config.training_phases) > 1 else ""
        batch = f"{phase.batch_size} x {phase.data.sequence_length}"
        flops = run.task.objective.flops_per_token(phase) / 1e6
        table.add_row(f"tokens per step{until}", f"{phase.tokens_per_step:,} ({batch}, padding included)")
        whole = "" if run.config.trains_all else ", as if all parameters were trained"
        table.add_row(f"FLOPs per token{until}", f"{flops:,.1f} million, forward and backward{whole} ({FLOPS_FORMULA})")
    table.add_row("steps", f"{run.config.training.num_steps:,}")
    return table

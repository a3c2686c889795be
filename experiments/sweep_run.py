"""Runs a sweep, and shows it: a line for each trial, at the end a table, the best setting and its command."""

import contextlib
import signal
import sys
from typing import Any

from rich.table import Table

from experiments.display import make_console
from experiments.sweep_plan import Plan
from tx_jax.sweeps import devices, plots, results, tpe, workers
from tx_jax.sweeps import slurm as jobs
from tx_jax.sweeps.listed import Listed
from tx_jax.sweeps.results import Results
from tx_jax.sweeps.settings import Setting, Trial, keys_of, short_keys
from tx_jax.sweeps.sweep_dir import State, SweepDir

EXIT_FAILED, EXIT_STOPPED = 1, 75
SHOWN_ROWS = 40


def run(plan: Plan, *, workers_at_once: int, retry: bool, study: str | None, slurm: list[str] | None = None) -> int:
    """Trains all trials of a sweep, and returns the exit code."""
    directory, start = SweepDir(plan.workdir), None
    if slurm is None:
        shares = devices.divide(workers_at_once)
    else:
        shares = [jobs.SHARE] * workers_at_once
        start = jobs.Jobs(directory.path / jobs.FOLDER, jobs.parse(slurm)).start
    with contextlib.nullcontext() if study else directory.lock():  # the workers of a study are processes of their own
        directory.begin(plan.definition())
        return _run(plan, directory, shares, retry, study, start)


def _run(
    plan: Plan,
    directory: SweepDir,
    shares: list[devices.Share],
    retry: bool,
    study: str | None,
    start: workers.Start | None,
) -> int:
    stop = _Stop()
    source = _source(plan, directory, retry, study)
    count = len(plan.trials) or plan.count * len(plan.repeats)
    print(f"{count} trials in {directory.path}, {len(shares)} at a time.", flush=True)
    skipped = [one for one in plan.trials if directory.state(one) in (State.DONE, State.FAILED)]
    for state in (State.DONE, State.FAILED):
        if known := [one for one in skipped if directory.state(one) == state]:
            again = "" if state == State.DONE else " and trained again" if retry else "; --retry trains them again"
            print(f"{len(known)} are {state.value} already{again}.", flush=True)

    def command(one: Trial) -> list[str]:
        arguments = [*plan.arguments(one), f"--workdir={directory.folder(one)}", "--num_processes=1"]
        return [sys.executable, "-m", "experiments.train", *arguments]

    workers.run(directory, source, shares, command, _Lines(directory, plan, count), stop, start)
    trials = plan.trials or tpe.trials_begun(directory)
    finish(plan, directory, trials)
    states = [directory.state(one) for one in trials]
    left = sum(state not in (State.DONE, State.PRUNED, State.FAILED) for state in states)
    if stop.name or left:
        why = f"Stopped by {stop.name}" if stop.name else f"{left} of {len(trials)} trials are not finished"
        print(f"{why}. Run the same command again to continue.", file=sys.stderr)
        return EXIT_STOPPED
    return EXIT_FAILED if State.FAILED in states else 0


def _source(plan: Plan, directory: SweepDir, retry: bool, study: str | None) -> workers.Source:
    if plan.search != "tpe":
        return Listed(plan.trials, directory, retry)
    return tpe.Tpe(
        plan.axes,
        plan.repeats,
        directory,
        metric=plan.metric,
        count=plan.count,
        seed=plan.seed,
        retry=retry,
        prune=plan.prune,
        url=study,
        definition=plan.definition(),
    )


class _Stop:
    """SIGTERM or Ctrl-C asks for an end; a second one acts as usual."""

    def __init__(self):
        self.name = ""
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}

    def __call__(self) -> bool:
        return bool(self.name)

    def _ask(self, number: int, frame: Any) -> None:
        self.name = signal.Signals(number).name
        print(f"{self.name}: the trials save and end.", file=sys.stderr, flush=True)
        for other, handler in self._before.items():
            signal.signal(other, handler)


class _Lines:
    """A line for each trial that starts or ends."""

    def __init__(self, directory: SweepDir, plan: Plan, count: int):
        self._directory, self._plan, self._count, self._ended = directory, plan, count, 0

    def __call__(self, one: Trial, state: State, words: str) -> None:
        if state == State.RUNNING:
            print(f"  {one.name}: started ({words})", flush=True)
            return
        self._ended += 1
        reached = ""
        if state == State.DONE:
            metric = self._plan.metric or results.metric_of(self._directory, [one])
            reached = f", {metric} {results.score(self._directory.folder(one), metric):.4f}"
        print(f"  {one.name}: {state.value}{reached} ({words})", flush=True)


def finish(plan: Plan, directory: SweepDir, trials: list[Trial]) -> Results | None:
    """Writes and shows what came of the trials so far; None where none has begun."""
    if all(directory.state(one) in (State.NEW, State.RUNNING) for one in trials):
        return None
    found = results.collect(directory, trials, plan.metric)
    best = found.best
    command = plan.reproducing(best.setting, [one.trial.repeat for one in best.outcomes]) if best else ""
    results.write(directory, found, command)
    picture = plots.draw(found, directory.path / "sweep.png")
    show(directory, found)
    if best:
        _show_best(directory, found, command)
    files = ["results.json", "results.csv", "trials.csv", *([picture.name] if picture else [])]
    print(f"Written to {directory.path}: {', '.join(files)}.")
    return found


def show(directory: SweepDir, found: Results) -> None:
    """Prints a table of the settings, best first, and a line for each trial without a score."""
    keys = keys_of(row.setting for row in found.rows)
    short = short_keys(keys)
    table = Table(*(short[key] for key in keys), title=f"{found.metric} on validation data, in {directory.path}")
    for name in ("mean", "std", "runs"):
        table.add_column(name, justify="right")
    for row in found.rows[:SHOWN_ROWS]:
        runs = f"{len(row.values)}" if row.is_whole else f"{len(row.values)} of {len(row.outcomes)}"
        numbers = ["" if x is None else f"{x:.4f}" for x in (row.mean, row.deviation)]
        table.add_row(*(row.setting.get(key, "") for key in keys), *numbers, runs)
    make_console().print(table)
    if len(found.rows) > SHOWN_ROWS:
        print(f"and {len(found.rows) - SHOWN_ROWS} more in results.csv")
    for one in found.outcomes():
        if one.value is None:
            print(f"{one.trial.name}: {one.state.value}{one.reason and f', {one.reason:.200}'}")


def _show_best(directory: SweepDir, found: Results, command: str) -> None:
    best = found.best
    print(f"Best: {_text(best.setting) or 'the only setting'}: {found.metric} {_spread(best.mean, best.deviation)}")
    if found.as_good:
        print(f"  which is no better than {found.as_good} other settings, with the same mean: the first was taken")
    for split, metrics in results.other_splits(directory, best).items():
        print(f"  on {split} data: {', '.join(f'{name} {_spread(*both)}' for name, both in metrics.items())}")
    print(f"To train it again: {command}")


def _spread(mean: float, deviation: float | None) -> str:
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _text(setting: Setting) -> str:
    return ", ".join(f"{key}={value}" for key, value in setting.items())

"""Runs a recipe and checks that it reaches what its configuration states in get_expected.

    python -m experiments.reproduce quickstart
    python -m experiments.reproduce cola_minilm --config.data.train=cola/in_domain_train.tsv \\
        --config.data.validation=cola/in_domain_dev.tsv \\
        --config.data.more_splits="('out_of_domain=cola/out_of_domain_dev.tsv',)"

A recipe is one of the names below, which take minutes on a CPU, or a configuration, FILE or FILE:VARIANT. Flags
--config.KEY=VALUE are passed on; --seeds=0,1,2 runs it with each seed. What is done already is not done again; the
command may be killed and run again.

--measure also runs a recipe of which nothing states a range, and prints what it reaches, with deviations over the
seeds, as rows of get_expected.

Exit codes: 0 every outcome with a range is reached by every run, 1 one is not, 2 bad input, or nothing to check; else
that of the step that failed.
"""

import dataclasses
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import command_line
from experiments.small_forms import FORMS, Form
from experiments.word_lists import one_argument_each
from tx_jax import shipped

if TYPE_CHECKING:
    from tx_jax.reports.expected import Expected

WORDS = command_line.Words(
    "a recipe, such as python -m experiments.reproduce quickstart; --help lists them",
    choices={name: form.says for name, form in FORMS.items()},
    others=True,
    most=1,
)
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/reproduce/RECIPE.")
SOURCE = flags.DEFINE_string("source", None, "Text, for recipes that need some, as for experiments.prepare.")
SEEDS = flags.DEFINE_string("seeds", "0", "The seeds, such as 0,1,2.")
MEASURE = flags.DEFINE_bool("measure", False, "Print what is reached, also where nothing says what should be.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands, and run none.")


def main(argv: list[str]) -> int:
    from experiments.steps import run_step
    from tx_jax.errors import InputError, did_you_mean
    from tx_jax.files import local_path
    from tx_jax.reports import expected

    name, config = argv[1], argv[1]
    if form := FORMS.get(name):
        form = dataclasses.replace(form, config=_located(form.config))
    else:
        if not config.partition(":")[0].endswith(".py"):
            raise InputError(f"there is no recipe {name!r}; there are {', '.join(FORMS)}.{did_you_mean(name, FORMS)}")
        form, name = Form(config, ""), Path(config.partition(":")[0]).stem
    rows = expected.parse(command_line.expected_of(form.config), form.config)
    if not any(row.range for row in rows) and not MEASURE.value:
        raise InputError(
            f"{form.config} states no outcome with a range, so nothing can be checked: --measure runs it all the same, "
            "and prints what it reaches"
        )
    seeds = _seeds()
    workdir = local_path(WORKDIR.value or f"runs/reproduce/{name}", "--workdir")
    steps, runs = _steps(form, workdir, seeds)
    for result, command in steps.items():
        if result.exists() and not DRY_RUN.value:
            print(f"{result} exists: skipping {command[2]}", flush=True)
            continue
        print(f"$ {shlex.join(command)}", flush=True)
        if not DRY_RUN.value and (code := run_step([sys.executable, *command[1:]])):
            return code
    return 0 if DRY_RUN.value else _conclude(form.config, rows, runs)


def _located(config: str) -> str:
    """A configuration of ours, as it is found from this folder."""
    return config if Path.cwd() == shipped.ROOT else shipped.located(config)


def _seeds() -> list[int]:
    parts = SEEDS.value.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len(set(parts)) < len(parts):
        command_line.fail(f"--seeds={SEEDS.value}: give one or more different numbers, such as 0,1,2")
    return [int(part) for part in parts]


def _steps(form: Form, workdir: Path, seeds: list[int]) -> tuple[dict[Path, list[str]], list[Path]]:
    """The commands, by what each leaves when it is done, and the run directories."""
    given = list(GIVEN)
    _check_data(form)
    if form.source and form.command == "further_pretrain":
        given.append(f"--config.source={SOURCE.value}")
    steps: dict[Path, list[str]] = {}
    if form.prepare:
        store = workdir / "store"
        source = [f"--source={SOURCE.value}"] if form.source else []
        steps[store / "meta.json"] = _command(form.by, *source, *form.prepare, f"--store={store}")
        given.append(f"--config.data.store={store}")
    runs = []
    for seed in seeds:
        folder = workdir / f"seed_{seed}"
        run = folder / "run" if form.command == "further_pretrain" else folder
        result = {"further_pretrain": folder / "report/report.json"}.get(form.command, run / _end_of(form))
        config = [f"--config={form.config}", *given, f"--config.seed={seed}"]
        steps[result] = _command(form.command, *config, f"--workdir={folder}")
        runs.append(run)
    return steps, runs


def _end_of(form: Form) -> str:
    """The file that a training writes last."""
    values = command_line.resolve(command_line.load_config(form.config, GIVEN), GIVEN)
    evaluates = "train" in values["data"] and values["training"]["final_eval_batches"] >= 0
    return "evaluation.json" if evaluates else "DONE"


def _check_data(form: Form) -> None:
    """Raises InputError if a file is missing, with where to get it."""
    from tx_jax.errors import InputError
    from tx_jax.storage.schemes import scheme_of

    if form.source and not SOURCE.value:
        raise InputError(f"needed: --source={form.source}")
    if SOURCE.value and not form.source:
        raise InputError(
            f"--source={SOURCE.value} does nothing with {form.config}, which has its own text: leave it out"
        )
    values = command_line.resolve(command_line.load_config(form.config, GIVEN), GIVEN)
    for key, where in form.data.items():
        group, _, name = key.rpartition(".")
        value = (values[group] if group else values)[name]
        for path in (value,) if isinstance(value, str) else value:
            path = path.rpartition("=")[2]
            if path and scheme_of(path) is None and not path.startswith("tfds:") and not Path(path).exists():
                raise InputError(f"--config.{key}: there is no {path}: get {where}, and give its path")


def _conclude(config: str, rows: "Sequence[Expected]", runs: list[Path]) -> int:
    """Prints what the runs have reached. Returns the exit code."""
    from experiments.outcomes import show
    from tx_jax.reports import expected, facts

    final = {run: facts.read(run, run.name).final() for run in runs}
    if MEASURE.value:
        _show_measured(final)
    changed = expected.changes(command_line.keys_set(GIVEN))
    outcomes = {run: expected.outcomes(rows, run, final[run]) for run in runs} if rows else {}
    for run, found in outcomes.items():
        print(f"{run}:")
        show(config, changed, found)
    missed = [one for found in outcomes.values() for one in found if one.expected.range and one.verdict != "reached"]
    if missed:
        print(f"{len(missed)} outcomes are not reached.", file=sys.stderr)
    return 1 if missed else 0


def _show_measured(final: Mapping[Path, Mapping[str, Mapping[str, float]]]) -> None:
    """Prints all metrics, as rows of get_expected."""
    values: dict[tuple[str, str], list[float]] = {}
    for of_run in final.values():
        for split, metrics in of_run.items():
            for metric, value in metrics.items():
                values.setdefault((split, metric), []).append(value)
    for (split, metric), reached in values.items():
        row = {"metric": metric, "split": split, "value": round(statistics.fmean(reached), 5)}
        if len(reached) > 1:
            row |= {"deviation": round(statistics.stdev(reached), 5), "seeds": len(reached)}
        print(row)


def _command(name: str, *arguments: str) -> list[str]:
    return ["python", "-m", f"experiments.{name}", *arguments]


GIVEN: list[str] = []  # the flags --config.KEY=VALUE

if __name__ == "__main__":
    arguments = one_argument_each(sys.argv[1:])
    GIVEN += [argument for argument in arguments if argument.startswith(("--config.", "--noconfig."))]
    sys.argv[1:] = [argument for argument in arguments if argument not in GIVEN]
    command_line.run(main, WORDS)

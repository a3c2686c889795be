"""What the launcher checks of a training's command before anything is paid."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command_line
from experiments.word_lists import one_argument_each
from tx_jax import shipped
from tx_jax.config import DATA_PATHS
from tx_jax.config.further import experiment_values
from tx_jax.config.starting import check_start
from tx_jax.errors import InputError, did_you_mean
from tx_jax.launch.snapshot import Snapshot

# Flags of experiments.train that say nothing on TPU VMs, and why.
NOT_THERE = {
    "plan": "a plan needs no TPU: run experiments.train with it here",
    "topology": "it is for --plan",
    "coordinator": "the workers of a TPU VM find each other",
    "num_processes": "the workers of a TPU VM find each other",
    "process_id": "the workers of a TPU VM find each other",
}
_ADDRESS = re.compile(r"(?:gs|s3)://[^/]+/.+")


@dataclasses.dataclass(frozen=True)
class Checked:
    """A training that can run on workers.

    Attributes:
      arguments: each flag with its value in one argument.
      final_evaluation: whether a single worker ends it with evaluation.json.
      extras: what its trackers need.
    """

    arguments: tuple[str, ...]
    workdir: str
    final_evaluation: bool
    extras: tuple[str, ...]


def check(arguments: Sequence[str], snapshot: Snapshot) -> Checked:
    """Raises InputError if the workers cannot run the training, or cannot see its files."""
    given = one_argument_each(arguments)
    values = _flag_values(given)
    file = values.get("config", "")
    if not file or "workdir" not in values:
        raise InputError(
            "needed after --: the flags of experiments.train, such as -- --config=configs/bert_base.py "
            "--workdir=gs://BUCKET/RUN --config.data.store=gs://BUCKET/STORE"
        )
    path = Path(file.partition(":")[0])
    by_name = Path(shipped.located(file).partition(":")[0])
    if by_name != path and by_name.is_relative_to(snapshot.root):
        path = by_name.relative_to(snapshot.root)
    if path.is_absolute() or not snapshot.holds(path):
        raise InputError(f"--config={file}: it must be a file below {snapshot.root} that git does not ignore")
    base = command_line.load_config(file, given)
    overrides = [argument for argument in given if argument.startswith(("--config.", "--noconfig."))]
    config = command_line.resolve(base, overrides)
    check_start(experiment_values(config), command_line.keys_set(overrides))
    workdir = values["workdir"].rstrip("/")
    if not re.fullmatch(r"gs://[^/]+/.+", workdir):
        raise InputError(
            f"--workdir={workdir}: the workers write to a bucket, which outlives them: give gs://BUCKET/FOLDER"
        )
    _check_files(config, snapshot)
    labeled = "train" in config["data"] and config["training"].get("final_eval_batches", 0) >= 0
    return Checked(tuple(given), workdir, labeled, tuple(config["training"].get("trackers", ())))


def _flag_values(given: Sequence[str]) -> dict[str, str]:
    """The values of the flags. Raises InputError for what experiments.train does not take."""
    from experiments import train  # defines its flags

    known = [flag.name for flag in flags.FLAGS.flags_by_module_dict()[train.__name__]]
    values = {}
    for argument in given:
        name, _, value = argument.lstrip("-").partition("=")
        if not argument.startswith("--"):
            raise InputError(f"after --: unexpected argument {argument!r}; options start with --")
        if name.startswith(("config.", "noconfig.")):
            continue
        if name not in known:
            raise InputError(f"after --: experiments.train has no flag --{name}.{did_you_mean(name, known)}")
        if name in NOT_THERE:
            raise InputError(f"after --: leave out --{name}: {NOT_THERE[name]}")
        values[name] = value
    return values


def _check_files(config: dict[str, Any], snapshot: Snapshot) -> None:
    """Raises InputError for files of this machine that the workers do not get."""
    for key in DATA_PATHS:
        for part in _parts(config["data"].get(key)):
            where = part.partition("#")[0]
            if _ADDRESS.match(part) or part.startswith("tfds:"):
                continue
            if not Path(where).is_absolute() and snapshot.holds(Path(where)):
                continue
            raise InputError(
                f"--config.data.{key}={part}: the workers do not see this machine's files: copy it to a bucket (such "
                f"as by gcloud storage cp -r {part} gs://BUCKET/) and give gs://BUCKET/..."
            )
    start = config.get("start_from", "")
    if start and not _ADDRESS.match(start) and Path(start).exists() and not snapshot.holds(Path(start)):
        raise InputError(
            f"--config.start_from={start}: the workers do not see this machine's files: copy it to a bucket, or give a "
            "name on the Hugging Face Hub"
        )


def _parts(value: Any) -> list[str]:
    """The paths in a value; those of `more_splits` follow NAME=."""
    found = value if isinstance(value, list | tuple) else (value or "").split(",")
    return [part.rpartition("=")[2].strip() for part in found if part.strip()]

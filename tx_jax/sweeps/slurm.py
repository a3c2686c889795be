"""Trials run as jobs of SLURM, by submitit, instead of as processes of this machine.

The sweep goes on here (on a login node, or in a job of its own), submits each trial when a worker is free, and looks at
the run directories, which the jobs must see. A job that SLURM stops, at its time limit or to make room, saves, and the
same command continues its trial.
"""

import importlib
import importlib.util
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tx_jax import shipped
from tx_jax.errors import InputError, did_you_mean
from tx_jax.sweeps.devices import Share
from tx_jax.sweeps.workers import Process

SHARE = Share({}, None, "as a job of SLURM")
FOLDER = "slurm"  # in the sweep's directory: what submitit keeps of the jobs
# submitit's names for what all its executors take; the others are SLURM's, such as partition.
_SHARED = ("name", "timeout_min", "mem_gb", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node")
_ONE = ("nodes", "tasks_per_node")


def parse(entries: Sequence[str]) -> dict[str, Any]:
    """The parameters of jobs from KEY=VALUE, numbers as numbers.

    Raises:
      InputError: an entry has another form, submitit is not installed or does not know it, or a job would have several
        processes.
    """
    if importlib.util.find_spec("submitit") is None:
        raise InputError('--slurm needs submitit, which is missing: pip install -e ".[slurm]"')
    from submitit.slurm.slurm import SlurmExecutor

    own = SlurmExecutor._valid_parameters()
    known = (*_SHARED, *own, "cluster")
    found: dict[str, Any] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not (equals and key and value):
            raise InputError(f"--slurm={entry}: give KEY=VALUE, such as --slurm=partition=gpu,timeout_min=240")
        if key not in known:
            raise InputError(f"--slurm={entry}: submitit has no parameter {key!r}.{did_you_mean(key, known)}")
        if key in found:
            raise InputError(f"--slurm: {key} is given twice")
        if key in _ONE and value != "1":
            raise InputError(f"--slurm={entry}: each trial is one process: leave it out")
        found[key] = int(value) if re.fullmatch(r"\d+", value) else value
    return found


class Jobs:
    """Starts trials as jobs.

    Args:
      folder: what submitit keeps of them; the nodes must see it.
      parameters: of `parse`; its cluster is slurm, or local to try it on this machine.

    Raises:
      InputError: there is no SLURM here, or submitit refuses the parameters.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any]):
        submitit = importlib.import_module("submitit")
        values = dict(parameters)
        cluster = values.pop("cluster", "slurm")
        named = {key if key in _SHARED else f"slurm_{key}": value for key, value in values.items()}
        try:
            self._executor = submitit.AutoExecutor(folder=str(folder.absolute() / "%j"), cluster=cluster)
            self._executor.update_parameters(**{"name": "tx_jax", **named})
        except (RuntimeError, ValueError, NameError) as error:
            raise InputError(f"--slurm: {' '.join(str(error).split())[:300]}") from None

    def start(self, command: Sequence[str], share: Share, log: IO[bytes]) -> Process:
        """As `workers.start_process`."""
        root = str(shipped.ROOT)
        return _Job(self._executor.submit(run_training, list(command), log.name, root))


class _Job:
    """A job, as what is needed of a process."""

    def __init__(self, job: Any):
        self._job = job
        self._stopped = False

    @property
    def pid(self) -> int:
        return int(self._job.job_id.partition("_")[0])

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        failed = importlib.import_module("submitit").core.utils.FailedJobError
        try:
            return self._job.result()
        except failed:
            return 1
        except Exception:  # submitit's for a job that left no result: it was cancelled, or its node is gone
            return -signal.SIGTERM

    def send_signal(self, sig: int) -> None:
        if not self._stopped:
            self._stopped = True
            self._job.cancel()


def run_training(command: Sequence[str], log: str, root: str) -> int:
    """What a job does: trains, and returns the exit code. SLURM's signals have the training save and stop."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with Path(log).open("ab") as file:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,  # so that it gets no signal but this process's
        )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):  # cancelled; the same of submitit; the time is over
        signal.signal(number, lambda *_: child.send_signal(signal.SIGTERM))
    return child.wait()

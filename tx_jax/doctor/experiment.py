"""Whether an experiment can run on this machine, as far as that is known before its first step."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from tx_jax import added, sharding
from tx_jax.config import ExperimentConfig, from_config_dict
from tx_jax.config.further import experiment_values
from tx_jax.config.starting import check_start
from tx_jax.doctor.finding import Check, Finding
from tx_jax.doctor.machine import GIB
from tx_jax.files import nearest_folder, reason_against_writing
from tx_jax.nn.attention.check import LIMIT
from tx_jax.runs import trackers
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.left_open import fill_in
from tx_jax.runs.run_dir import RunDir, is_locked
from tx_jax.runs.start import Start, open_start
from tx_jax.tasks.base import Task
from tx_jax.tasks.registry import open_task
from tx_jax.training import begin
from tx_jax.training.attention import attention_of, deviations
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.out_of_memory import free_memory
from tx_jax.training.state import TrainState, abstract_state
from tx_jax.training.step import check_batch_sizes


class Examination:
    """Of one experiment. Each check fills in what the next ones need; one that has nothing to look at finds nothing.

    Args:
      values: nested plain values of the configuration.
      given: the keys that are set on the command line.
      workdir: the run directory, if it is known already.
    """

    def __init__(self, values: Mapping[str, Any], given: Collection[str] = (), workdir: Path | None = None):
        self._values, self._given, self._workdir = values, given, workdir
        self._config: ExperimentConfig | None = None
        self._start: Start | None = None
        self._task: Task | None = None
        self._state: TrainState | None = None

    def checks(self) -> list[tuple[str, Check]]:
        """What to look at, in order."""
        checks: list[tuple[str, Check]] = [
            ("configuration", self._configuration),
            ("data", self._data),
            ("mesh", self._mesh),
            ("attention", self._attention),
            ("model", self._model),
        ]
        return [*checks, ("workdir", self._run_directory)] if self._workdir else checks

    def _configuration(self) -> Iterator[Finding]:
        begun = self._workdir and Checkpoints(self._workdir / "checkpoints", read_only=True).begun()
        if begun is None:
            check_start(experiment_values(self._values), self._given)
        values, filled_in = fill_in(self._values, self._given, begun=None if begun is None else self._workdir)
        of_model = [key.removeprefix("model.") for key in self._given if key.startswith("model.")]
        values, self._start = open_start(values, self._workdir or Path(os.devnull), of_model)
        self._config = from_config_dict(values)
        trackers.check_installed(self._config.training.trackers)
        for line in filled_in:
            yield Finding("configuration", "ok", line)
        if self._start:
            yield Finding("configuration", "ok", f"starts from {values['start_from']}")
        training = self._config.training
        length = f"{training.num_epochs:g} epochs" if training.num_epochs else f"{training.num_steps:,} steps"
        yield Finding("configuration", "ok", f"{self._config.task}, {length}")

    def _data(self) -> Iterator[Finding]:
        if not (config := self._config):
            return
        start = self._start
        with added.explained(config.extensions):
            labels = start.labels if start else ()
            self._task = open_task(config, tokenizer=start and start.tokenizer, label_order=labels)
            begin.check_extensions(self._task)
        for notice in (*begin.check_task(self._task, self._given), *self._task.notices()):
            yield Finding("data", "warning", notice)
        batches = self._task.batches("train", batch_size=config.training.batch_size, repeat=False)
        tokens = self._task.tokenizer.vocab_size
        says = f"{len(batches):,} batches of {config.training.batch_size} a pass, a vocabulary of {tokens:,} tokens"
        yield Finding("data", "ok", says)

    def _mesh(self) -> Iterator[Finding]:
        if not (config := self._resolved):
            return
        mesh = sharding.make_mesh(config.mesh)
        check_batch_sizes(config, mesh)
        sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
        yield Finding("mesh", "ok", sizes or "one device")

    def _attention(self) -> Iterator[Finding]:
        if not (config := self._resolved):
            return
        for case, chosen in attention_of(config).items():
            yield Finding("attention", "ok", f"{case}: {chosen}" if case else chosen)
        for name, far in deviations(config).items():
            says, remedy = f"{name} differs from XLA's by {far:.1%} on this device", "--config.model.attention=xla"
            yield Finding("attention", "ok", says) if far <= LIMIT else Finding("attention", "error", says, remedy)
        if config.model.dtype == "bfloat16" and jax.default_backend() == "cpu" and not _computes_in_bfloat16():
            yield Finding(
                "attention",
                "warning",
                "model.dtype='bfloat16', which this CPU does not compute in: it converts back and forth",
                "on this machine: --config.model.dtype=float32",
            )

    def _model(self) -> Iterator[Finding]:
        if not (self._task and (config := self._resolved)):
            return
        mesh = sharding.make_mesh(config.mesh)
        self._state = abstract_state(self._task.objective, Optimizer(config), mesh)
        params = sharding.bytes_per_device(self._state.params)
        needed = params + sharding.bytes_per_device(self._state.opt_state) + params
        number = sum(leaf.size for leaf in jax.tree.leaves(self._state.params))
        stats = jax.local_devices()[0].memory_stats() or {}
        memory = stats.get("bytes_limit") or free_memory()
        says = (
            f"{number:,} parameters: with gradients and optimizer state {needed / GIB:.2f} GiB a device, activations "
            "aside"
        )
        if memory is None or needed < memory:
            return (yield Finding("model", "ok", says))
        remedy = f"more devices and --config.mesh.data=1 --config.mesh.fsdp={-(-needed // memory)}, or a smaller model"
        yield Finding("model", "error", f"{says}; there are {memory / GIB:.2f}", remedy)

    def _run_directory(self) -> Iterator[Finding]:
        directory = RunDir(self._workdir)
        if reason := reason_against_writing(self._workdir):
            return (yield Finding("workdir", "error", reason, "give another --workdir"))
        if is_locked(self._workdir):
            owner = (self._workdir / "LOCK").read_text().strip() or "?"
            yield Finding("workdir", "error", f"process {owner} is training there", "wait for it, or stop it")
        step = Checkpoints(directory.checkpoints, read_only=True).begun()
        if directory.is_done:
            yield Finding("workdir", "ok", f"the run there is complete, at step {step:,}" if step else "complete")
        elif step is not None:
            yield Finding("workdir", "ok", f"a run there continues after step {step:,}")
            if self._task:
                for change in directory.changes(self._task.config, self._task.data_fingerprint):
                    yield Finding("workdir", "ok", f"changed since: {change}")
        else:
            yield Finding("workdir", "ok", f"{self._workdir} is free for a new run")
        if not (self._state and (config := self._resolved)):
            return
        state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._state))
        kept = config.training.keep_last + config.training.keep_best + 1  # one more while it is being written
        free = shutil.disk_usage(nearest_folder(self._workdir)).free
        says = f"{kept} checkpoints of {state / GIB:.2f} GiB, of {free / GIB:.1f} GiB that are free"
        if state * kept > free:
            remedy = "free some, write elsewhere, or lower --config.training.keep_last"
            yield Finding("workdir", "error", f"no room for {says}", remedy)
        else:
            yield Finding("workdir", "ok", f"room for {says}")

    @property
    def _resolved(self) -> ExperimentConfig | None:
        """The configuration with what the data told, where the data could be read."""
        return self._task.config if self._task else self._config


def _computes_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it; True where the system does not say."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return True
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))

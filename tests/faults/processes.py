"""Training runs in processes of their own, small enough to take seconds, and what must hold of them afterwards."""

import dataclasses
import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tx_jax.runs import manifest, metrics_log

STEPS, EVAL_EVERY, CHECKPOINT_EVERY = 60, 15, 10
CONFIG = {
    "model.vocab_size": 200,
    "model.num_layers": 1,
    "training.num_steps": STEPS,
    "training.log_every": 1,
    "training.eval_every": EVAL_EVERY,
    "training.checkpoint_every": CHECKPOINT_EVERY,
}
PATIENCE = 300  # seconds


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that is over."""

    code: int
    output: str = dataclasses.field(repr=False)
    errors: str

    @property
    def start(self) -> int:
        """The step that it started from."""
        found = re.search(r"Continuing after step (\d+)", self.output)
        return int(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory, and how processes train in it.

    Attributes:
      by: a command that starts the processes.
    """

    workdir: Path
    store: Path
    by: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> Path:
        return self.workdir / "checkpoints"

    def begin(
        self, fault: str = "", config: dict | None = None, environment: dict | None = None, **options
    ) -> subprocess.Popen:
        values = CONFIG | {"data.store": self.store} | (config or {})
        program = ["tests.faults.driver", fault] if fault else ["experiments.train"]
        flags = ["--config=configs/bert_base.py:smoke", f"--workdir={self.workdir}"]
        flags += [f"--config.{key}={value}" for key, value in values.items()]
        return subprocess.Popen(
            [*self.by, sys.executable, "-m", *program, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {}),
            **options,
        )

    def train(self, fault: str = "", config: dict | None = None, **options) -> Ended:
        return end(self.begin(fault, config, **options))

    def losses(self) -> dict[int, float]:
        return {r["step"]: r["loss"] for r in metrics_log.read(self.workdir) if r["split"] == "train"}

    def steps(self, split: str = "train") -> list[int]:
        return [record["step"] for record in metrics_log.read(self.workdir) if record["split"] == split]

    def committed(self) -> list[int]:
        """The steps of the checkpoints that are whole."""
        steps = sorted(int(path.name) for path in self.checkpoints.glob("*") if path.name.isdigit())
        return [step for step in steps if manifest.problem(self.checkpoints / str(step)) is None]

    def newest(self) -> int:
        return max(self.committed(), default=0)


def end(process: subprocess.Popen) -> Ended:
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"still running after {PATIENCE} s: {output[-500:]} {errors[-2000:]}") from None
    return Ended(process.returncode, output, errors)


def wait_until(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Returns when it holds, or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where runs are made.

    Attributes:
      folder: empty.
      store: a token store of 200 tokens.
    """

    folder: Path
    store: Path

    def run(self, name: str, **options) -> Run:
        return Run(self.folder / name, self.store, **options)

    @functools.cached_property
    def uninterrupted(self) -> Run:
        run = self.run("uninterrupted")
        ended = run.train(config={"training.keep_last": 9})
        assert ended.code == 0, ended.errors
        return run

    def check_story(self, run: Run) -> None:
        """The run is done, with the losses of the uninterrupted one, bit for bit, and each record there once."""
        assert (run.workdir / "DONE").exists()
        assert not (run.workdir / "FAILED").exists()
        assert run.steps() == list(range(1, STEPS + 1))
        assert run.steps("validation") == list(range(EVAL_EVERY, STEPS + 1, EVAL_EVERY))
        assert run.losses() == self.uninterrupted.losses()

    def check_resumes(self, run: Run, start: int) -> Ended:
        """The same command continues from this step to the end."""
        ended = run.train()
        assert ended.code == 0, ended.errors
        assert ended.start == start, (ended.start, start, ended.errors)
        self.check_story(run)
        return ended

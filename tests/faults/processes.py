"""Training runs in processes of their own, small enough to take seconds, and what must hold of them afterwards."""

import dataclasses
import functools
import importlib
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from tests import programs
from tx_jax.runs import checkpoint, commit, history, manifest, metrics_log, own_part

STEPS, EVAL_EVERY, CHECKPOINT_EVERY = 60, 15, 10
ALL = {
    "training.num_steps": STEPS,
    "training.log_every": 1,
    "training.eval_every": EVAL_EVERY,
    "training.checkpoint_every": CHECKPOINT_EVERY,
}
PATIENCE = 300  # seconds


Started = programs.Process | subprocess.Popen


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run trains: a configuration, and the values that the command line gives besides `ALL`."""

    config: str
    values: Mapping[str, object]

    def in_process(self) -> ConfigDict:
        """The same for `tests.fine_tuning.train`."""
        c = importlib.import_module(f"configs.{self.config}").get_config("smoke")
        values = (ALL | self.values).items()
        c.update_from_flattened_dict({key: str(x) if isinstance(x, Path) else x for key, x in values})
        return c


def pretraining(store: Path) -> Recipe:
    """A masked LM on a token store of 200 tokens."""
    return Recipe("bert_base", {"model.vocab_size": 200, "model.num_layers": 1, "data.store": store})


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that is over."""

    code: int
    output: str = dataclasses.field(repr=False)
    errors: str

    @property
    def start(self) -> int:
        """The step that it started from."""
        found = re.search(r"(?:Continuing after step|The run is complete: it has its) (\d+)", self.output)
        return int(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory, and how processes train in it.

    Attributes:
      by: a command that starts the processes.
      environment: what they have besides this one's.
    """

    workdir: Path
    recipe: Recipe
    by: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        return self.workdir / "checkpoints"

    def begin(
        self,
        fault: str = "",
        config: dict | None = None,
        environment: dict | None = None,
        imports: bool = False,
    ) -> Started:
        """Starts the command. `imports`: in a process that imports all itself, as it also is where it gets another
        environment or another command starts it."""
        values = ALL | self.recipe.values | (config or {})
        program = ["tests.faults.driver", fault] if fault else ["experiments.train"]
        flags = [f"--config=configs/{self.recipe.config}.py:smoke", f"--workdir={self.workdir}"]
        flags += [f"--config.{key}={value}" for key, value in values.items()]
        if not (imports or self.by or environment):
            return programs.start(*program, *flags, environment=self.environment)
        return subprocess.Popen(
            [*self.by, sys.executable, "-m", *program, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {}),
        )

    def train(self, fault: str = "", config: dict | None = None) -> Ended:
        return end(self.begin(fault, config))

    def losses(self) -> dict[int, float]:
        return {r["step"]: r["loss"] for r in metrics_log.read(self.workdir) if r["split"] == "train"}

    def records(self) -> dict[tuple[int, str], dict]:
        """All that metrics.jsonl says, but of times, by step and split; no record is there twice."""
        found = metrics_log.read(self.workdir)
        records = {
            (record["step"], record["split"]): {name: x for name, x in record.items() if not metrics_log.is_timed(name)}
            for record in found
        }
        assert len(records) == len(found), "a record is there twice"
        return records

    def steps(self, split: str = "train") -> list[int]:
        return [record["step"] for record in metrics_log.read(self.workdir) if record["split"] == split]

    def committed(self) -> list[int]:
        """The steps of the checkpoints that are whole."""
        steps = commit.steps(self.checkpoints)
        return [step for step in steps if manifest.problem(self.checkpoints / str(step)) is None]

    def newest(self) -> int:
        return max(self.committed(), default=0)

    def state(self, step: int) -> dict:
        """The arrays of a checkpoint."""
        with (
            own_part.readable(self.checkpoints / str(step)) as folder,
            ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UserWarning)  # Orbax's, that the devices must be those of the run
            return reader.restore(folder / checkpoint.ITEM)

    def config(self) -> dict:
        """What config.json says, but for how many checkpoints are kept."""
        config = json.loads((self.workdir / "config.json").read_text())
        del config["training"]["keep_last"]
        return config

    def parts(self) -> list[tuple[int, int]]:
        """The steps (from, to) that each start trained, as history.jsonl has them; none of starts that trained none."""
        ends = [(record["after_step"], record["to_step"]) for record in history.read(self.workdir)]
        return [(begin, self.newest() if end is None else end) for begin, end in ends if end is None or end > begin]


def equal(a: dict, b: dict) -> bool:
    """Whether two trees of arrays are the same, bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def end(process: Started) -> Ended:
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"still running after {PATIENCE} s: {output[-500:]} {errors[-2000:]}") from None
    return Ended(process.returncode, output, errors)


def wait_until(process: Started, condition: Callable[[], bool]) -> None:
    """Returns when it holds, or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where runs are made.

    Attributes:
      recipe: what they train.
    """

    folder: Path
    recipe: Recipe

    def run(self, name: str, **options) -> Run:
        return Run(self.folder / name, self.recipe, **options)

    @functools.cached_property
    def uninterrupted(self) -> Run:
        run = self.run("uninterrupted")
        if not (run.workdir / "DONE").exists():
            ended = run.train(config={"training.keep_last": 9})
            assert ended.code == 0, ended.errors
        return run

    def check_story(self, run: Run) -> None:
        """The run is done, its directory tells all of it, and losses and parameters are those of the uninterrupted one,
        bit for bit."""
        assert (run.workdir / "DONE").exists()
        assert not (run.workdir / "FAILED").exists()
        assert run.steps() == list(range(1, STEPS + 1))
        assert run.steps("validation") == list(range(EVAL_EVERY, STEPS + 1, EVAL_EVERY))
        assert run.records() == self.uninterrupted.records()
        assert equal(run.state(STEPS), self.uninterrupted.state(STEPS))
        parts = run.parts()
        assert [begin for begin, _ in parts] + [STEPS] == [0] + [end for _, end in parts], parts
        assert run.config() == self.uninterrupted.config()
        assert _names(run) == _names(self.uninterrupted)

    def check_resumes(self, run: Run, start: int) -> Ended:
        """The same command continues from this step to the end."""
        ended = run.train()
        assert ended.code == 0, ended.errors
        assert ended.start == start, (ended.start, start, ended.errors)
        self.check_story(run)
        return ended


def _names(run: Run) -> list[str]:
    """What is in its directory, but for TensorBoard's files, without which training goes on."""
    return sorted(path.name for path in run.workdir.iterdir() if path.name != "tb")

"""Moves a run from one topology to another and back, and prints how far its losses stray.

    python -m tests.faults.elastic --workdir=NEW [--only=1x8,4x2]

A run on 2 processes of 4 virtual CPU devices is stopped by SIGTERM, continues for 20 steps or more on another topology,
is stopped there, and continues on 2 x 4 for 20 steps or more. Each time the state that it restores must be the one of
the checkpoint, bit for bit, the batches must be those of a run on 2 x 4 that nothing interrupted, row by row, and the
losses the same to 1e-5. Takes about 8 minutes on two cores.
"""

import argparse
import json
import re
import shutil
import sys
import traceback
from pathlib import Path

import jax
import numpy as np

from tests.conftest import make_store
from tests.multihost import launch
from tx_jax import sharding, tree
from tx_jax.config import MeshConfig
from tx_jax.runs import metrics_log
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.run_dir import RunDir
from tx_jax.tasks.registry import open_task
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import abstract_state

Topology = tuple[int, int]  # processes, devices of each
Rows = dict[tuple[int, int], int]  # what the row of a step's batch is, as a hash, by step and row

FIRST: Topology = (2, 4)
OTHERS: list[Topology] = [(1, 8), (1, 2), (1, 1), (4, 2)]
STEPS = 56  # several processes agree to stop some steps after the signal
LEG = 20  # steps on a topology, at least
TOLERANCE = 1e-5  # relative: sums of float32 in another order


def train(workdir: Path, store: Path, topology: Topology, **options) -> list[launch.Ended]:
    """One call of the command. `options`: as of `launch.run`."""
    processes, devices = topology
    changes = {"mesh__fsdp": 2 if processes * devices > 1 else 1, "num_steps": STEPS, "stall_seconds": 40}
    arguments = launch.flags(store, workdir, **changes)
    arguments.remove(launch.SILENCE)
    return launch.run(launch.TRAIN, arguments, processes=processes, devices=devices, rows=True, timeout=600, **options)


def saved(workdir: Path, out: Path) -> tuple[int, Path]:
    """The step of the newest checkpoint, and its arrays in a file."""
    config = RunDir(workdir).load_config()
    mesh = sharding.make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.newest()
        state = checkpoints.restore(step, abstract_state(open_task(config).objective, Optimizer(config), mesh))
    np.savez(out, **{path: np.asarray(array) for path, array in tree.flatten(state).items()})
    return step, out


def losses(workdir: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in metrics_log.read(workdir) if record["split"] == "train"}


def rows(ended: list[launch.Ended]) -> Rows:
    """Of all processes."""
    found = {}
    for process in ended:
        for step, hashes in re.findall(r"^rows of step (\d+): (.*)$", process.output, re.MULTILINE):
            for row, value in json.loads(hashes).items():
                assert found.setdefault((int(step), int(row)), value) == value
    return found


def leg(workdir: Path, store: Path, topology: Topology, fault: str = "") -> tuple[range, Rows]:
    """Continues the run, to its end or to the fault: the steps that it took, and their batches."""
    start, expected = saved(workdir, workdir.with_suffix(".npz"))
    ended = train(workdir, store, topology, expect=expected, fault=fault)
    told = "\n".join(process.tail() for process in ended)
    assert [process.code for process in ended] == [75 if fault else 0] * topology[0], told
    assert all("the state is as expected" in process.output for process in ended), told
    steps = range(start + 1, max(losses(workdir)) + 1)
    assert len(steps) >= LEG, f"{len(steps)} steps on {named(topology)}"
    return steps, rows(ended)


def begin(folder: Path) -> tuple[Path, Rows]:
    """A token store, a whole run and one that is stopped early. Returns the store, and the batches of the whole one."""
    store = make_store(folder).path
    ended = train(folder / "whole", store, FIRST)
    assert [process.code for process in ended] == [0, 0], ended[0].tail()
    whole = rows(ended)
    assert len(whole) == STEPS * launch.TINY["training.batch_size"]
    begun = train(folder / "begun", store, FIRST, fault="term:step:3:1")
    assert [process.code for process in begun] == [75, 75], begun[0].tail()
    return store, whole


def moved(folder: Path, store: Path, topology: Topology, whole: Rows) -> str:
    """There and back: a line of the table."""
    workdir = shutil.copytree(folder / "begun", folder / named(topology))
    there, seen = leg(workdir, store, topology, fault=f"term:step:{LEG}:0")
    back, seen_back = leg(workdir, store, FIRST)
    found, uninterrupted = losses(workdir), losses(folder / "whole")
    assert sorted(found) == sorted(uninterrupted)
    for steps, hashes in ((there, seen), (back, seen_back)):
        assert hashes == {place: value for place, value in whole.items() if place[0] in steps}
    there_off, back_off = (max(abs(found[step] / uninterrupted[step] - 1) for step in steps) for steps in (there, back))
    assert max(there_off, back_off) <= TOLERANCE, f"losses on {named(topology)} are off by {there_off}, {back_off}"
    return f"| {named(topology)} | {len(there)} | {there_off:.1e} | {len(back)} | {back_off:.1e} |"


def named(topology: Topology) -> str:
    return "{}x{}".format(*topology)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", default=",".join(map(named, OTHERS)), help="topologies")
    arguments = parser.parse_args()
    folder = arguments.workdir
    folder.mkdir(parents=True)
    store, whole = begin(folder)
    first = named(FIRST)
    print(f"| {first} to | steps there | losses off by, at most | steps back on {first} | losses off by, at most |")
    print("|---|---|---|---|---|", flush=True)
    failed = 0
    for topology in OTHERS:
        if named(topology) in arguments.only.split(","):
            try:
                print(moved(folder, store, topology, whole), flush=True)
            except AssertionError:
                failed += 1
                traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

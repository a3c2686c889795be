"""Faults of one process among several, many times over: prints a table of how many runs came through.

    python -m tests.faults.hosts --workdir=/tmp/faults [--kills=20] [--seed=0] [--only=kill,stop]

Each fault is planted in a run of 12 steps on 2 processes of 4 virtual CPU devices, as in tests/multihost. After a kill
or a SIGTERM the run continues to its end, and its losses must equal the uninterrupted run's bit for bit. The limits of
time are the defaults, so that an hour is needed for all of it.
"""

import argparse
import dataclasses
import random
import re
from pathlib import Path

from tests.conftest import make_store
from tests.multihost import launch
from tx_jax.runs import metrics_log

DEFAULTS = {"stall_seconds": 40, "mesh__fsdp": 2}
ENDED = {
    "an exception": [
        f"raise:{point}" for point in ("build:1:1", "step:6:0", "step:6:1", "batch:9:1", "evaluation:2:1")
    ],
    "out of memory": ["memory:step:6:1", "memory:step:6:0"],
    "sys.exit": ["exit:step:6:0", "exit:step:6:1", "exit:build:1:1"],
    "bad input": ["input:build:1:1", "input:build:1:0"],
    "SIGSTOP": ["stop:step:6:1", "stop:step:6:0", "stop:build:1:1"],
    "a stalled loader": ["sleep:batch:9:1", "sleep:batch:9:0"],
}
STOPPED = {
    "SIGTERM before the loop": ["term:build:1:1", "term:build:1:0"],
    "SIGTERM in the first compilation": ["term:compile:1:1"],
    "SIGTERM in training": ["term:step:6:1", "term:step:3:0"],
    "SIGTERM in evaluation": ["term:evaluation:2:1"],
    "SIGTERM in a save": ["term:saving:1:1", "term:saving:2:0"],
}


@dataclasses.dataclass
class Runs:
    """Starts them below a folder, all on one token store.

    Attributes:
      problems: what was wrong, a line each.
      slowest: seconds from a fault to the end of all processes, at most.
    """

    folder: Path
    problems: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0

    def prepare(self) -> None:
        make_store(self.folder)
        assert [end.code for end in self.train("whole")] == [0, 0]
        assert self.records("whole")

    def train(self, name: str, fault: str = "") -> list[launch.Ended]:
        arguments = launch.flags(self.folder / "store", self.folder / name, **DEFAULTS)
        arguments.remove(launch.SILENCE)
        return launch.run(launch.TRAIN, arguments, processes=2, devices=4, fault=fault, timeout=600)

    def records(self, name: str) -> dict[tuple[int, str], float]:
        """Losses by step and split; the time that a step took is not compared."""
        found = metrics_log.read(self.folder / name)
        losses = {(record["step"], record["split"]): record["masked_lm_loss"] for record in found}
        return losses if len(losses) == len(found) else {}

    def continues(self, name: str) -> bool:
        ended = self.train(name)
        good = [end.code for end in ended] == [0, 0] and self.records(name) == self.records("whole")
        return good or self.failed(name, ended)

    def ends(self, fault: str) -> bool:
        """Whether all processes end, those that are not stopped within a minute of the fault, with its reason."""
        ended = self.train(named(fault), fault)
        rank, action = int(fault[-1]), fault.partition(":")[0]
        planted = float(re.search(r"planted at ([\d.]+)", ended[rank].output)[1])
        seconds = max(end.at for number, end in enumerate(ended) if number != rank or action != "stop")
        seconds -= planted
        self.slowest = max(self.slowest, seconds)
        good = seconds < 60
        for number, end in enumerate(ended):
            if action in ("stop", "kill") and number == rank:
                continue  # says nothing more
            # jax itself ends a process that has lost process 0, with a message of its own.
            reason = f"process {rank} of 2" in end.tail() or (rank == 0 and "leader task" in end.tail())
            good &= end.code not in (0, None) and reason
        return good or self.failed(named(fault), ended)

    def stops(self, fault: str) -> bool:
        ended = self.train(named(fault), fault)
        same = [end.code for end in ended] == [75, 75] and re.search(r"after step \d+, which is saved", ended[0].tail())
        return self.continues(named(fault)) if same else self.failed(named(fault), ended)

    def survives(self, fault: str) -> bool:
        return self.ends(fault) and self.continues(named(fault))

    def failed(self, name: str, ended: list[launch.Ended]) -> bool:
        self.problems.append(f"{name}: codes {[end.code for end in ended]}")
        for rank, end in enumerate(ended):
            (self.folder / f"{name}.{rank}.log").write_text(end.output)
        return False


def named(fault: str) -> str:
    return fault.replace(":", "-")


def kills(count: int, seed: int) -> list[str]:
    """Before, during and after saves, of both processes."""
    rng = random.Random(seed)
    points = [f"step:{step}" for step in range(2, 13)] + ["save:1", "save:2", "saving:1", "saving:2", "evaluation:3"]
    return rng.sample([f"kill:{point}:{rank}" for point in points for rank in (0, 1)], count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    arguments.workdir.mkdir(parents=True)
    runs = Runs(arguments.workdir)
    runs.prepare()
    table = [("kill -9, and continue", runs.survives, kills(arguments.kills, arguments.seed))]
    table += [(name, runs.stops, faults) for name, faults in STOPPED.items()]
    table += [(name, runs.ends, faults) for name, faults in ENDED.items()]
    print("| fault | came through | of | seconds to the end, at most |\n|---|---|---|---|")
    for name, check, faults in table:
        if not arguments.only or any(word in name.lower() for word in arguments.only.lower().split(",")):
            runs.slowest = 0.0
            good = sum(map(check, faults))
            print(f"| {name} | {good} | {len(faults)} | {runs.slowest:.0f} |", flush=True)
    print("\n".join(runs.problems))


if __name__ == "__main__":
    main()

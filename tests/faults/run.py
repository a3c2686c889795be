"""Injects every fault, many times, and prints how many runs survived: python -m tests.faults.run [--seeds=20].

Each is a training run in a process of its own that meets the fault, and mostly a second one that continues it; all that
must hold then is in `faults.py` and `starts.py`. `--only="killed, LoRA"` makes only the rows that begin so.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults import faults, starts
from tests.faults.driver import POINTS
from tests.faults.processes import Place, pretraining


def rows(seeds: int) -> dict[str, list[Callable]]:
    """For each row of the table, what is done: functions of a place."""

    def each(fault: Callable, values) -> list[Callable]:
        return [lambda place, value=value: fault(place, value) for value in values]

    def each_of(fault: Callable, rows) -> list[Callable]:
        return [lambda place, values=values: fault(place, *values) for values in rows]

    from_models = {
        f"killed, {kind} from a model": each_of(starts.killed, [(kind, *kill) for kill in starts.KILLS])
        for kind in starts.KINDS
    }
    return {
        "killed (kill -9)": each(faults.killed, range(seeds)),
        **from_models,
        "killed in history, config, env": each_of(starts.killed_in_records, starts.BEGINNINGS),
        "killed in the tokenizer": each_of(starts.killed_in_tokenizer, starts.REPLACEMENTS),
        "terminated (SIGTERM)": each(faults.terminated, ("imports", "compilation", *POINTS)),
        "damaged checkpoint": each(faults.damaged, faults.DAMAGE),
        "deleted file of a checkpoint": each(faults.deleted, range(24)),
        "none valid": each(faults.none_valid, faults.DAMAGE),
        "disk full": each(faults.disk_full, ("checkpoint", "log")),
        "file too large": [faults.file_too_large],
        "no permission": each(faults.no_permission, ("checkpoints", "run")),
        "skipped updates (NaN, inf)": each(faults.skipped, ("nan", "inf")),
        "too many skipped updates": each(faults.too_many_skipped, ("nan", "inf")),
        "failing tracker": each(faults.tracker, ("raises", "no folder", "vanishes")),
        "out of memory": [faults.out_of_memory],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="kills")
    parser.add_argument("--only", default="", help="the beginning of a row's name")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        place = make_place(Path(folder))
        print(f"{'fault':36} survived", flush=True)
        for name, attempts in rows(arguments.seeds).items():
            if not name.startswith(arguments.only):
                continue
            survived, impossible, began = 0, [], time.monotonic()
            for attempt in attempts:
                try:
                    attempt(place)
                    survived += 1
                except faults.Impossible as error:
                    impossible.append(str(error))
                except AssertionError:
                    traceback.print_exc()
            tried = len(attempts) - len(impossible)
            lost += tried - survived
            note = f"; {len(impossible)} not possible here: {impossible[0]}" if impossible else ""
            print(f"{name:36} {survived} of {tried}  ({time.monotonic() - began:.0f} s{note})", flush=True)
    return 1 if lost else 0


def make_place(folder: Path) -> Place:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    from tests.conftest import make_store  # which would set another

    return Place(folder, pretraining(make_store(folder).path))


if __name__ == "__main__":
    sys.exit(main())

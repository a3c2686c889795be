"""The faults: each function makes one happen to a run of its own, and checks that nothing is lost.

They raise AssertionError where something is, and `Impossible` where this machine cannot make the fault.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from tests.faults.driver import POINTS
from tests.faults.processes import CHECKPOINT_EVERY, STEPS, Ended, Place, Run, Started, end, equal, wait_until
from tx_jax.runs import metrics_log


class Impossible(Exception):
    """The fault cannot be made on this machine."""


def killed(place: Place, seed: int) -> None:
    """kill -9, at a point that the seed chooses: before, during or after a save, in an evaluation, or anywhere."""
    rng = random.Random(seed)
    point = ("anywhere", *POINTS)[seed % (1 + len(POINTS))]
    run = place.run(f"killed-{seed}")
    if point == "anywhere":
        process, losses = run.begin(), rng.randint(1, STEPS // 2)
        wait_until(process, lambda: len(run.losses()) >= losses)
        process.kill()
        ended = end(process)
    else:
        passes = {"batch": STEPS // 2, "evaluation": 3, "evaluated": 3}.get(point, STEPS // CHECKPOINT_EVERY - 1)
        ended = run.train(f"SIGKILL@{point}:{rng.randint(1, passes)}")
    assert ended.code == -signal.SIGKILL, ended
    place.check_resumes(run, run.newest())


def terminated(place: Place, when: str) -> None:
    """SIGTERM: exit code 75, and what was done is saved."""
    run = place.run(f"terminated-{when}")
    if when == "imports":
        process = run.begin(imports=True)
        wait_until(process, lambda: "jaxlib" in Path(f"/proc/{process.pid}/maps").read_text())
        process.terminate()
        ended = end(process)
    elif when == "compilation":
        process = run.begin(environment={"JAX_COMPILATION_CACHE_DIR": str(place.folder / "empty")})
        for line in process.stdout:
            if "Compiling" in line:
                break
        process.terminate()
        ended = end(process)
    else:
        ended = run.train(f"SIGTERM@{when}:2")
    assert ended.code == 75, ended
    assert "SIGTERM" in ended.errors
    saved = run.newest()
    assert saved == max(run.steps(), default=0)
    assert when == "imports" or saved
    assert not (run.workdir / "FAILED").exists()
    place.check_resumes(run, saved)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


def largest(step: Path) -> Path:
    return max(files(step), key=lambda path: path.stat().st_size)


def empty(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def zero(step: Path) -> None:
    for path in files(step):
        path.write_bytes(b"")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (lambda step: os.truncate(largest(step), largest(step).stat().st_size // 2), "bytes, not"),
    "a byte flipped": (lambda step: flip(largest(step)), "has another checksum"),
    "an empty directory": (empty, "it is empty"),
    "zero-length files": (zero, "manifest.json is damaged"),
}


def interrupted(place: Place, name: str) -> Run:
    """A run that was killed after step 34, with checkpoints of the steps 10, 20 and 30."""
    run = place.run(name)
    shutil.copytree(place.uninterrupted.workdir, run.workdir)
    for step in range(4 * CHECKPOINT_EVERY, STEPS + 1, CHECKPOINT_EVERY):
        shutil.rmtree(run.checkpoints / str(step))
    (run.workdir / "DONE").unlink()
    records = (run.workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.workdir / "metrics.jsonl").write_text("".join(records[: 34 + 2]) + records[34 + 2][:20])
    return run


def damaged(place: Place, kind: str) -> None:
    """The newest checkpoint is damaged: the one before it is used, and the user told why."""
    run = interrupted(place, f"damaged-{kind.replace(' ', '-')}")
    damage, reason = DAMAGE[kind]
    damage(run.checkpoints / "30")
    check_fallback(place, run, reason)


def check_fallback(place: Place, run: Run, reason: str) -> None:
    ended = place.check_resumes(run, 20)
    (warning,) = [line for line in ended.errors.splitlines() if "damaged" in line]
    assert warning.startswith("warning: the checkpoint of step 30 is damaged and skipped: ")
    assert reason in warning
    assert "step 20 is used" in warning
    assert (run.checkpoints / "damaged-30").is_dir()


def deleted(place: Place, number: int) -> None:
    """The file of this number in the newest checkpoint is deleted: `manifest.json` or any other."""
    run = interrupted(place, f"deleted-{number}")
    there = files(run.checkpoints / "30")
    if number >= len(there):
        raise Impossible(f"a checkpoint has {len(there)} files")
    file = there[number]
    file.unlink()
    check_fallback(place, run, f"{file.relative_to(run.checkpoints / '30')} is missing")


def none_valid(place: Place, kind: str) -> None:
    """Every checkpoint is damaged: exit code 2, and nothing is changed, let alone begun anew."""
    run = interrupted(place, f"none-valid-{kind.replace(' ', '-')}")
    for step in run.checkpoints.iterdir():
        DAMAGE[kind][0](step)

    def content() -> dict[Path, bytes]:
        drawn = ("LOCK", "loss.png")
        return {path: path.read_bytes() for path in files(run.workdir) if path.name not in drawn}

    before = content()
    ended = run.train()
    check_one_line(ended, "no checkpoint in", str(run.checkpoints))
    assert all(f"step {step}: " in ended.errors for step in (10, 20, 30))
    assert content() == before


def check_one_line(ended: Ended, *said: str) -> None:
    """It ended with code 2 and one line of error, in which these words are; warnings may precede it."""
    assert ended.code == 2, ended
    *warnings, error = ended.errors.strip().splitlines()
    assert all(line.startswith("warning: ") for line in warnings), ended.errors
    assert error.startswith("error: "), ended.errors
    for words in said:
        assert words in error, error


@contextlib.contextmanager
def stopped_at(run: Run, point: str, other: str = "") -> Iterator[Started]:
    """A process of the run that stands still at the point, and goes on afterwards."""
    process = run.begin(f"SIGSTOP@{point};{other}".strip(";"))
    try:
        wait_until(process, lambda: ") T " in Path(f"/proc/{process.pid}/stat").read_text())
        assert process.poll() is None, end(process)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)


def check_failed_save(place: Place, run: Run, process: Started, *said: str) -> None:
    """The save of step 20 failed; to be called while the reason lasts."""
    ended = end(process)
    check_one_line(ended, f"{run.checkpoints}/20 could not be written", "It needs ", " bytes", "intact: [10]", *said)
    assert max(run.steps()) <= 21  # within one step
    assert run.committed() == [10]
    assert not list(run.checkpoints.glob("20*"))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        raise Impossible(f"mounting a small disk: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def disk_full(place: Place, what: str) -> None:
    """Space runs out before the second save, or after it, so that the log cannot be written."""
    disk = place.folder / f"disk-{what}"
    with small_disk(disk):
        run = Run(disk / "run", place.recipe)
        point = "save:2" if what == "checkpoint" else "committed:2"
        with stopped_at(run, point, "linger:") as process:
            ballast = fill(disk)
        if what == "checkpoint":
            check_failed_save(place, run, process, "No space left on device")
        else:
            check_one_line(end(process), "No space left on device", str(run.workdir))
            assert run.committed() == [10, 20]
        ballast.unlink()
        place.check_resumes(run, run.newest())


def file_too_large(place: Place) -> None:
    """A limit on the size of files, as a quota has it."""
    run = place.run("file-too-large")
    with stopped_at(run, "save:2", "linger:") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    check_failed_save(place, run, process, "File too large")
    place.check_resumes(run, 10)


def no_permission(place: Place, what: str) -> None:
    """The folder of the checkpoints becomes read-only before the second save; or the run directory always was."""
    run = place.run(f"no-permission-{what}", by=_heeding_permissions())
    if what == "run":
        run.workdir.mkdir(mode=0o555)
        check_one_line(run.train(), "Permission denied", str(run.workdir))
        return
    with stopped_at(run, "save:2", "linger:") as process:
        run.checkpoints.chmod(0o555)
    check_failed_save(place, run, process, "ermission denied")
    run.checkpoints.chmod(0o755)
    place.check_resumes(run, 10)


def _heeding_permissions() -> tuple[str, ...]:
    """What starts a process that permissions hold for: root is let through otherwise."""
    if os.geteuid() != 0:
        return ()
    command = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], capture_output=True).returncode:
        raise Impossible("root without its rights over files, by setpriv")
    return command


NOT_FINITE = {"training.checkpoint_every": 1, "training.keep_last": STEPS, "training.max_skipped_updates": 3}


def skipped(place: Place, value: str) -> None:
    """Some steps have a loss and gradient that is not finite: their updates are skipped and counted."""
    run = place.run(f"skipped-{value}")
    ended = run.train(f"{value}:20,21,40", config=NOT_FINITE)
    assert ended.code == 0, ended
    records = {r["step"]: r for r in metrics_log.read(run.workdir) if r["split"] == "train"}
    assert list(records) == list(range(1, STEPS + 1))
    assert [step for step, record in records.items() if "loss" not in record] == [20, 21, 40]
    assert [records[step]["skipped_updates"] for step in (19, 20, 21, 22, 40, STEPS)] == [0, 1, 2, 2, 3, 3]
    states = {step: run.state(step) for step in (19, 21, 22)}
    for part in ("params", "opt_state"):
        assert equal(states[19][part], states[21][part])
        assert not equal(states[21][part], states[22][part])


def too_many_skipped(place: Place, value: str) -> None:
    """More steps in a row than are allowed, with a kill among them: the run ends, and what was saved is finite."""
    run = place.run(f"too-many-skipped-{value}")
    fault = f"{value}:20,21,22,23"
    ended = run.train(f"{fault};SIGKILL@committed:21", config=NOT_FINITE)
    assert ended.code == -signal.SIGKILL, ended
    ended = run.train(fault, config=NOT_FINITE)
    assert (ended.code, ended.start) == (1, 21), ended
    assert "at step 23" in ended.errors
    assert "Traceback" not in ended.errors
    assert (run.workdir / "FAILED").exists()
    assert run.committed() == list(range(1, 23))
    for step in (20, 22):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.state(step)))


def tracker(place: Place, what: str) -> None:
    """TensorBoard's files cannot be written: one warning, and training goes on."""
    run = place.run(f"tracker-{what}")
    if what == "raises":
        ended = run.train("tracker:10")
    elif what == "no folder":
        run.workdir.mkdir()
        (run.workdir / "tb").write_text("")
        ended = run.train()
    else:
        with stopped_at(run, "save:2") as process:
            shutil.rmtree(run.workdir / "tb")
        ended = end(process)
    assert ended.code == 0, ended
    place.check_story(run)
    warnings = ended.errors.strip().splitlines()
    assert len(warnings) <= 1, ended.errors
    assert what == "vanishes" or "TensorBoard" in warnings[0]


def out_of_memory(place: Place) -> None:
    """A batch too large for the memory that the process may have."""
    run = place.run("out-of-memory", by=("sh", "-c", 'ulimit -v 9000000; exec "$@"', "sh"))  # KiB
    ended = run.train(config={"training.batch_size": 65536})
    assert ended.code == 1, ended
    assert "out of memory on cpu" in ended.errors
    assert "--config.training.accumulation_steps=2" in ended.errors
    assert "Traceback" not in ended.errors

"""Everything on a store, against an emulator: what a run does there, and what it survives."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests import labeled_files, programs
from tests.data.labeled import configs
from tests.faults import faults
from tests.faults.elastic import saved
from tests.faults.processes import Ended, Place, Run, end, equal, pretraining, wait_until
from tests.multihost import launch
from tx_jax.files import path_of, remove_folder, upload_folder
from tx_jax.runs import commit, manifest
from tx_jax.storage import cache, schemes

# Seeds of `faults.killed`, without that of a point which a store does not have: the rename of a finished folder.
KILLS = (0, 1, 2, 3, 4, 6, 7, 8, 10, 11)
DAMAGE = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes, not"),
    "changed": (lambda path: faults.flip(path), "has another checksum"),
}


def run_command(name, *arguments, code=0):
    done = programs.run(f"experiments.{name}", *arguments, timeout=300)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def one_line(ended, code, *said):
    assert ended.code == code, ended
    errors = [line for line in ended.errors.splitlines() if not line.startswith("I")]  # TensorStore's
    assert len(errors) == 1, ended.errors
    for words in said:
        assert words in errors[0], errors[0]


def train_by_two(tokens, workdir, fault=""):
    """How two processes ended, each of which holds a half of every array, and saves after the steps 4, 8 and 12."""
    flags = launch.flags(tokens, workdir, mesh__fsdp=2, training__keep_last=3)
    return launch.run(launch.TRAIN, flags, processes=2, devices=1, fault=fault)


def ended_as(workdir, folder):
    """The records of a run, and its last state as bytes by path."""
    step, arrays = saved(workdir, folder / "state.npz")
    assert step == 12
    return Run(workdir, pretraining(workdir)).records(), {name: x.tobytes() for name, x in np.load(arrays).items()}


def copy_of(place: Place, name: str) -> Run:
    """A run that was killed after step 34, with checkpoints of the steps 10, 20 and 30."""
    run, whole = place.run(name), place.uninterrupted
    remove_folder(run.workdir)
    for found in whole.workdir.objects():
        step = found.name.split("/")[1] if found.name.startswith("checkpoints/") else "0"
        if found.name not in ("DONE", "metrics.jsonl") and int(step) <= 30:
            (whole.workdir / found.name).copy_to(run.workdir / found.name)
    records = (whole.workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.workdir / "metrics.jsonl").write_text("".join(records[: 34 + 2]))
    return run


class Scenarios:
    """What holds on every store. A subclass says which one.

    Attributes:
      bucket: the address of its bucket.
      emulator: its module here.
      writes: the method of a request that writes an object.
      late: an object of a checkpoint that is written after others.
    """

    bucket: str
    emulator: ModuleType
    writes: str
    late: str

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, tmp_path_factory):
        before = dict(os.environ)
        with cls.emulator.running() as running:
            os.environ.update(running.environment)
            os.environ["TX_JAX_CACHE"] = str(tmp_path_factory.mktemp("cache") / "stores")
            schemes.filesystem.cache_clear()
            yield running
        cache.forget()
        os.environ.clear()
        os.environ.update(before)

    @pytest.fixture(autouse=True)
    def _no_fault_is_left(self, store):
        yield
        store.clear()

    @pytest.fixture(scope="class")
    @classmethod
    def tokens(cls, store, tiny_store):
        """The address of a token store."""
        upload_folder(tiny_store.path, path_of(f"{cls.bucket}/tokens", "x"))
        return f"{cls.bucket}/tokens"

    @pytest.fixture(scope="class")
    @classmethod
    def two(cls, tokens, tmp_path_factory):
        """The records and the last state of an uninterrupted run of two processes."""
        workdir = path_of(f"{cls.bucket}/two", "x")
        ended = train_by_two(tokens, workdir)
        assert [process.code for process in ended] == [0, 0], ended[0].tail()
        return ended_as(workdir, tmp_path_factory.mktemp("two"))

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tokens):
        return Place(path_of(f"{cls.bucket}/some runs/ñ", "--workdir"), pretraining(tokens))

    def test_a_run_on_a_store_is_that_of_this_machine_bit_for_bit(self, place, tiny_store, tmp_path):
        here = Place(tmp_path, pretraining(tiny_store.path)).uninterrupted
        assert place.uninterrupted.records() == here.records()
        step = max(here.committed())
        assert equal(place.uninterrupted.state(step), here.state(step))
        names = {path.name for path in place.uninterrupted.workdir.iterdir()}
        assert names == {path.name for path in here.workdir.iterdir()} - {"LOCK"}

    @pytest.mark.parametrize("seed", KILLS)
    def test_a_killed_run_continues_bit_for_bit(self, place, seed):
        faults.killed(place, seed)

    @pytest.mark.parametrize("when", ["evaluation", "writing"])
    def test_sigterm_saves(self, place, when):
        faults.terminated(place, when)

    @pytest.mark.parametrize("kind", DAMAGE)
    def test_a_damaged_checkpoint_is_skipped(self, place, kind):
        run = copy_of(place, f"damaged-{kind}")
        damage, reason = DAMAGE[kind]
        step = run.checkpoints / "30"
        damage(step / max(step.objects(), key=lambda found: found.size).name)
        faults.check_fallback(place, run, reason)

    def test_a_lost_manifest_is_noticed(self, place):
        run = copy_of(place, "lost-manifest")
        (run.checkpoints / "30" / manifest.NAME).unlink()
        faults.check_fallback(place, run, "manifest.json is missing")

    def test_none_that_is_whole_is_an_error_and_changes_nothing(self, place):
        run = copy_of(place, "none-valid")
        for step in (10, 20, 30):
            (run.checkpoints / str(step) / "default/_METADATA").unlink()
        before = {found.name: found.version for found in run.workdir.objects()}
        ended = run.train()
        one_line(ended, 2, "no checkpoint in", "_METADATA is missing")
        after = {found.name: found.version for found in run.workdir.objects() if found.name != "loss.png"}
        assert after == {name: version for name, version in before.items() if name != "loss.png"}

    def test_a_second_run_in_the_same_directory_is_refused(self, place):
        run = place.run("two")
        longer = {"training.num_steps": 20_000}
        process = run.begin(config=longer)
        wait_until(process, lambda: (run.workdir / "history.jsonl").exists())
        one_line(run.train(config=longer), 2, f"process {process.pid} on ", f"is training in {run.workdir}")
        process.terminate()
        assert end(process).code == 75
        assert run.newest() > 0

    @pytest.mark.parametrize("status", [401, 403])
    def test_credentials_that_expire_stop_the_run_and_lose_nothing(self, place, store, status):
        run = place.run(f"expired-{status}")
        process = run.begin("SIGSTOP@save:3")
        wait_until(process, lambda: ") T " in Path(f"/proc/{process.pid}/stat").read_text())
        store.fault(status)
        process.send_signal(signal.SIGCONT)
        ended = end(process)
        assert ended.code == 75, ended
        assert "Run the same command again to continue" in ended.errors.splitlines()[-1]
        store.clear()
        assert run.newest() in (10, 20)  # the second save may have been under way
        place.check_resumes(run, run.newest())

    def test_a_store_that_is_busy_for_a_moment_is_asked_again(self, place, store):
        run = place.run("busy")
        process = run.begin("SIGSTOP@save:2")
        wait_until(process, lambda: ") T " in Path(f"/proc/{process.pid}/stat").read_text())
        store.fault(503, times=5)
        store.fault(cut=True, times=3, match="checkpoints/20", method=self.writes)
        process.send_signal(signal.SIGCONT)
        assert end(process).code == 0
        place.check_story(run)

    def test_a_write_that_fails_half_way_stops_the_run_and_loses_nothing(self, place, store):
        run = place.run("half-way")
        store.fault(403, match=f"checkpoints/20/default/{self.late}")
        ended = end(run.begin("linger:"))
        assert ended.code == 75, ended
        assert f"{run.checkpoints}/20 could not be written" in ended.errors
        store.clear()
        assert run.committed() == [10]
        place.check_resumes(run, 10)

    @pytest.mark.parametrize(
        ("workdir", "status", "said"),
        [
            ("nobody/run", 0, "there is no bucket {0}://nobody"),
            ("bucket/run", 403, "no permission"),
            ("bucket/../run", 0, "cannot contain `..`"),
        ],
    )
    def test_what_cannot_be_used_is_told_before_any_work(self, tokens, store, workdir, status, said):
        if status:
            store.fault(status)
        began, scheme = time.monotonic(), self.bucket.partition("://")[0]
        data = ["--config=configs/bert_base.py:smoke", f"--config.data.store={tokens}"]
        done = programs.run("experiments.train", *data, f"--workdir={scheme}://{workdir}")
        one_line(Ended(done.returncode, done.stdout, done.stderr), 2, said.format(scheme))
        assert not done.stdout
        assert time.monotonic() - began < 10

    def test_a_store_of_tokens_that_changes_is_refused(self, store, tiny_store):
        tokens = path_of(f"{self.bucket}/changing", "x")
        for path in tiny_store.path.rglob("*"):
            if path.is_file():
                (tokens / path.relative_to(tiny_store.path).as_posix()).upload(path)
        run = Run(path_of(f"{self.bucket}/changing-run", "x"), pretraining(str(tokens)))
        assert run.train(config={"training.num_steps": 10}).code == 0
        faults.flip(tokens / "train/unigram.npy")
        cache.forget()
        for copy in filter(Path.is_dir, cache.root().iterdir()):
            shutil.rmtree(copy)
        one_line(run.train(config={"training.num_steps": 10}), 2, "train/unigram.npy has another checksum")

    def test_other_commands_work_on_addresses(self, place, tokens, tmp_path):
        run = place.uninterrupted.workdir
        run_command("evaluate", f"--workdir={run}")
        assert json.loads((run / "evaluation.json").read_text())["validation"]["step"] == 60
        run_command("convert", f"--model={run}", f"--to_hf={self.bucket}/hf")
        run_command("convert", f"--from_hf={self.bucket}/hf", f"--out={self.bucket}/converted")
        assert f"{self.bucket}/hf" not in path_of(f"{self.bucket}/converted/model.json", "x").read_text()
        filled = run_command("fill_mask", f"--model={self.bucket}/converted", "--text=abcd [MASK] abcd")
        assert "[MASK]" in filled.stdout
        done = run_command("convert", f"--model={run}", f"--to_hf={self.bucket}/hf", code=2)
        assert "exists and is not empty" in done.stderr
        run_command(
            "prepare", f"--source={self.bucket}/texts/*.txt", f"--store={self.bucket}/made", "--vocab_size=200", code=2
        )  # there is none yet
        path_of(f"{self.bucket}/texts/a b.txt", "x").write_text("abcd efgh.\n\nabce efgi.\n" * 50)
        texts, made = f"--source={self.bucket}/texts/*.txt", f"--store={self.bucket}/made"
        made = ["prepare", texts, made, "--vocab_size=60", "--workers=1"]
        run_command(*made)
        assert "already complete" in run_command(*made).stdout

    def test_a_classifier_trains_predicts_and_is_started_from(self, store, tiny_store, tmp_path):
        labeled_files.write(tmp_path / "texts.csv", configs.labeled(), count=40)
        labeled_files.write_model(tmp_path / "model", tiny_store.tokenizer())
        path_of(f"{self.bucket}/labeled/texts.csv", "x").upload(tmp_path / "texts.csv")
        start = path_of(f"{self.bucket}/start", "x")
        upload_folder(tmp_path / "model", start, last="model.json")
        data = ["--config=configs/classification.py:smoke", f"--config.data.train={self.bucket}/labeled/texts.csv"]
        run_command("train", *data, f"--config.start_from={start}", f"--workdir={self.bucket}/classifier")
        assert path_of(f"{self.bucket}/classifier/evaluation.json", "x").is_file()
        output = f"{self.bucket}/labeled/out.csv"
        run_command(
            "predict",
            f"--model={self.bucket}/classifier",
            f"--input={self.bucket}/labeled/texts.csv",
            f"--output={output}",
        )
        assert path_of(output, "x").read_text().startswith("text,label,prediction")

    def test_a_run_moves_from_the_store_to_another_topology(self, place):
        run = copy_of(place, "other-topology")
        environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        ended = end(run.begin(environment=environment))
        assert ended.code == 0, ended.errors
        assert ended.start == 30
        losses, expected = run.losses(), place.uninterrupted.losses()
        assert losses.keys() == expected.keys()
        assert max(abs(losses[step] - expected[step]) for step in losses) < 1e-5

    @pytest.mark.parametrize(
        ("fault", "refused", "codes"),
        [
            ("kill:saving:2:1", "", [1, -9]),
            ("kill:saving:2:0", "", [-9, -signal.SIGABRT]),  # jax aborts a process that has lost the first one
            ("kill:manifest:2:0", "", [-9, -signal.SIGABRT]),
            ("", "default/hashes.1.json", [75, 75]),
            ("", "default/hashes.0.json", [75, 75]),
            ("", "default/_METADATA", [75, 75]),
            ("", "manifest.json", [75, 75]),
        ],
    )
    def test_one_of_two_processes_fails_in_a_save(self, store, tokens, two, tmp_path, fault, refused, codes):
        workdir = path_of(f"{self.bucket}/two-{fault.replace(':', '-') or refused}", "x")
        if refused:
            store.fault(403, match=f"checkpoints/8/{refused}", method=self.writes)
        ended = train_by_two(tokens, workdir, fault)
        assert [process.code for process in ended] == codes, "\n".join(process.tail() for process in ended)
        store.clear()
        assert commit.steps(workdir / "checkpoints") == [4]
        ended = train_by_two(tokens, workdir)
        assert [process.code for process in ended] == [0, 0], ended[0].tail()
        assert "Continuing after step 4" in ended[0].output
        assert ended_as(workdir, tmp_path) == two

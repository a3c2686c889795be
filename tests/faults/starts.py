"""Runs that start from a model, and what a start writes before its first step: a kill -9 at each point of both."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

from tests import labeled_files
from tests.data.labeled.configs import labeled
from tests.faults.driver import RECORDS, TOKENIZER
from tests.faults.processes import STEPS, Place, Recipe, Run
from tx_jax.data.corpus.token_store import TokenStore

LABELED = {
    "data.validation_fraction": 0.3,
    "data.metrics": ("accuracy",),
    "optimizer.learning_rate": 1e-3,
    "training.best_metric": "accuracy",
}


def _classification(folder: Path) -> Recipe:
    return Recipe("classification", LABELED | {"data.train": folder / "texts.csv"})


def _lora(folder: Path) -> Recipe:
    values = {"data.train": folder / "texts.csv", "lora.rank": 2, "training.final_eval_batches": -1}
    return Recipe("classification", LABELED | values)


def _distillation(folder: Path) -> Recipe:
    return Recipe("distilbert", {"data.store": folder / "store"})


KINDS: dict[str, Callable[[Path], Recipe]] = {
    "classification": _classification,
    "distillation": _distillation,
    "LoRA": _lora,
}

# Where, and for the how-manieth time. There are six saves; the first is the one before which a run has not begun.
KILLS = [
    *((point, number) for number in (1, 3, 6) for point in ("save", "writing", "manifest", "rename", "committed")),
    ("batch", 1),
    ("batch", STEPS // 2),
    ("evaluation", 1),
    ("evaluated", 2),
    ("done", 1),
]


def from_model(place: Place, kind: str) -> Place:
    """A place for runs of this kind, which start from a converted model. (`place` gives the token store.)"""
    folder = place.folder / kind
    if not folder.exists():
        folder.mkdir()
        (folder / "store").symlink_to(_store(place))
        tokenizer = TokenStore.open(_store(place)).tokenizer()
        heads = ("masked_lm",) if kind == "distillation" else ("pooled",)
        labeled_files.write(folder / "texts.csv", labeled(), count=30)
        labeled_files.write_model(folder / "model", tokenizer, num_layers=1 + (kind == "distillation"), heads=heads)
    recipe = KINDS[kind](folder)
    return Place(folder, Recipe(recipe.config, recipe.values | {"start_from": folder / "model"}))


def killed(place: Place, kind: str, point: str, number: int) -> None:
    """A run from a model is killed at this point, and trains from the model or goes on, as if nothing had been."""
    place = from_model(place, kind)
    run = place.run(f"killed-{point}-{number}")
    kill(run, point, number)
    if number == 1 and point in ("save", "manifest", "rename"):
        assert not run.committed()  # it has not begun
    place.check_resumes(run, run.newest())
    check_evaluation(place, run)


def killed_in_records(place: Place, kind: str, point: str, when: str) -> None:
    """Killed while history.jsonl, config.json and env.json are written, at the beginning or as the run goes on; or when
    DONE is."""
    place = _place(place, kind)
    run = place.run(f"records-{point.replace(' ', '-')}-{when}")
    if when == "going on":
        kill(run, "committed", 2)
    kill(run, point, 1)
    place.check_resumes(run, run.newest())
    check_evaluation(place, run)


def killed_in_tokenizer(place: Place, kind: str, point: str) -> None:
    """Killed while the run directory's tokenizer is replaced, of which a start that was killed left a part."""
    store, place = place, _place(place, kind)
    run = place.run(f"tokenizer-{point.replace(' ', '-')}")
    whole = place.uninterrupted.workdir / "tokenizer"
    leave_half_a_tokenizer(store, run)
    kill(run, point, 1)
    place.check_resumes(run, 0)
    found, expected = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (run.workdir / "tokenizer", whole)
    )
    assert found == expected


def leave_half_a_tokenizer(place: Place, run: Run) -> None:
    """As an older version did whose first start was killed."""
    folder = run.workdir / "tokenizer"
    TokenStore.open(_store(place)).tokenizer().save(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UN")


def _store(place: Place) -> Path:
    return place.recipe.values["data.store"]


def _place(place: Place, kind: str) -> Place:
    return from_model(place, kind) if kind in KINDS else place


def kill(run: Run, point: str, number: int) -> None:
    ended = run.train(f"SIGKILL@{point}:{number}")
    assert ended.code == -signal.SIGKILL, ended


def check_evaluation(place: Place, run: Run) -> None:
    """What the evaluation at the end wrote, where there is one, is what it was in the uninterrupted run."""
    found, expected = (each.workdir / "evaluation.json" for each in (run, place.uninterrupted))
    assert found.exists() == expected.exists()
    if expected.exists():
        assert json.loads(found.read_text()) == json.loads(expected.read_text())


BEGINNINGS = [
    (kind, point, when)
    for kind in ("pretraining", "classification")
    for when in ("at the beginning", "going on")
    for point in RECORDS
    if point != "done" or when == "going on"
]
REPLACEMENTS = [(kind, point) for kind in ("pretraining", "classification") for point in TOKENIZER]

"""Relative paths of a run's data, where the run is read in another folder than that in which it was started."""

import dataclasses
import json
import warnings

import pytest

from tx_jax.config import LabeledDataConfig, from_config_dict
from tx_jax.errors import InputError, InputWarning
from tx_jax.runs import data_paths
from tx_jax.runs.run_dir import RunDir


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder in which a run was started, and another, which is the present one."""
    started, here = tmp_path / "started", tmp_path / "here"
    for folder in (started / "runs/mine", here):
        folder.mkdir(parents=True)
    (started / "runs/mine/env.json").write_text(json.dumps({"folder": str(started)}))
    monkeypatch.chdir(here)
    return started, here, RunDir(started / "runs/mine")


@pytest.fixture
def config(smoke_config):
    def with_data(**changes):
        made = from_config_dict(smoke_config)
        return dataclasses.replace(made, data=dataclasses.replace(made.data, **changes))

    return with_data


def labeled(**paths):
    return LabeledDataConfig(
        **{"text": ("text",), "label": "label", "sequence_length": 16, "read_ahead": 1} | paths, metrics=()
    )


def test_they_are_in_the_folder_of_the_start(places, config):
    started, here, run = places
    for folder in (started, here):
        (folder / "data/one").mkdir(parents=True)
    (started / "two").mkdir()
    with pytest.warns(InputWarning, match=rf"^data\.store=\S+ is taken from {started}, where .*runs/mine was started"):
        found = data_paths.found(run, config(store="data/one, two")).data.store
    assert found == f"{started}/data/one,{started}/two"


def test_every_kind_of_path(places, config):
    started, here, run = places
    for name in ("a.csv", "b1.csv", "c.csv", "words.txt"):
        (started / name).touch()
    (here / "here.csv").touch()
    data = labeled(
        train="a.csv,tfds:glue#train", validation="b*.csv", test=str(started / "c.csv"), more_splits=("x=here.csv",)
    )
    with pytest.warns(InputWarning):
        found = data_paths.found(run, dataclasses.replace(config(), data=data)).data
    assert found.train == f"{started}/a.csv,tfds:glue#train"
    assert found.validation == f"{started}/b*.csv"
    assert found.test == f"{started}/c.csv"
    assert found.more_splits == ("x=here.csv",)
    with pytest.warns(InputWarning):
        found = data_paths.found(run, config(store="gs://bucket/store", selective_words="words.txt")).data
    assert found.store == "gs://bucket/store"
    assert found.selective_words == f"{started}/words.txt"


def test_in_the_same_folder_nothing_changes(places, config, monkeypatch):
    started, _, run = places
    monkeypatch.chdir(started)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data_paths.found(run, config(store="data/gone")).data.store == "data/gone"  # told where it is opened


@pytest.mark.parametrize("known", [True, False])
def test_where_it_was_looked_for_is_told(places, config, known):
    started, here, run = places
    if not known:  # as by earlier versions
        (run.path / "env.json").unlink()
    where = f"{started}, where it was started," if known else "the folder in which it was started"
    with pytest.raises(InputError, match=rf"^data\.store=data/one of .* relative to {where} .*, {here}: start"):
        data_paths.found(run, config(store="data/one"))
    assert data_paths.found(run, config(store="data/one"), store="other").data.store == "other"

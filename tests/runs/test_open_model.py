"""One place says what is at a path, and opens it alike."""

import json

import numpy as np
import pytest

from configs import classification
from tests import certain_models, labeled_files
from tests.convert import folders
from tests.data.labeled.configs import labeled
from tests.fine_tuning import one_step, train
from tx_jax.convert import hub, model_dir, to_hf
from tx_jax.errors import InputError, InputWarning
from tx_jax.runs.open_model import locate, open_model


@pytest.fixture(scope="module")
def model():
    return certain_models.certain(certain_models.tokenizer(), "sequence_classification", ("yes", "no", "perhaps"))


@pytest.fixture(scope="module")
def places(model, tmp_path_factory):
    """The same model, as each kind of folder there is."""
    folder = tmp_path_factory.mktemp("places")
    model_dir.save(model, folder / "converted model")
    to_hf.write(model, folder / "Hugging Face folder")
    labeled_files.write(folder / "texts.csv", labeled(labels=("yes", "no", "perhaps")), count=12)
    c = classification.get_config("smoke")
    c.data.train, c.start_from = str(folder / "texts.csv"), str(folder / "converted model")
    one_step(c)
    train(c, folder / "run directory")
    return folder


@pytest.mark.parametrize("kind", ["converted model", "Hugging Face folder", "run directory", "Hugging Face Hub"])
def test_every_kind_gives_the_same(kind, places, model, monkeypatch):
    name = str(places / kind)
    if kind == "Hugging Face Hub":
        name = "someone/classifier"
        monkeypatch.setattr(hub, "fetch", lambda name, revision: (places / "Hugging Face folder", "abc"))
    found = open_model(name)
    assert (found.place.kind, found.place.name) == (kind, name)
    assert found.labels == ("yes", "no", "perhaps")
    assert found.untrained == ()
    assert found.config.num_labels == 3
    assert found.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert found.params.keys() == model.params.keys()
    for path, x in found.params.items():
        assert type(x) is np.ndarray, path
        np.testing.assert_allclose(x, model.params[path], atol=1e-8, err_msg=path)  # a step of 1e-9
    is_run = kind == "run directory"
    assert (found.step, found.experiment is not None) == ((1, True) if is_run else (None, False))
    assert found.problem_type == ("single_label_classification" if is_run else None)
    if kind.startswith("Hugging Face"):
        assert found.source.name == ("someone/classifier" if kind.endswith("Hub") else "Hugging Face folder")
        assert found.source.revision == ("abc" if kind.endswith("Hub") else None)


def test_a_run_is_written_with_its_labels_and_what_they_are(places, tmp_path):
    to_hf.write(open_model(places / "run directory"), tmp_path / "hf")
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert written["id2label"] == {"0": "yes", "1": "no", "2": "perhaps"}
    assert written["label2id"] == {"yes": 0, "no": 1, "perhaps": 2}
    assert written["problem_type"] == "single_label_classification"


def test_a_model_that_an_earlier_version_converted_has_its_labels(places, tmp_path):
    model_dir.save(open_model(places / "Hugging Face folder"), tmp_path / "model")
    record = json.loads((tmp_path / "model/model.json").read_text())
    del record["labels"], record["problem_type"]
    (tmp_path / "model/model.json").write_text(json.dumps(record))
    assert open_model(tmp_path / "model").labels == ("yes", "no", "perhaps")


@pytest.mark.parametrize(
    ("id2label", "labels", "said"),
    [
        ({"2": "c", "0": "a", "1": "b"}, ("a", "b", "c"), None),
        (["a", "b", "c"], ("a", "b", "c"), None),
        ({"0": 1, "1": 2, "2": 10}, ("1", "2", "10"), None),
        ({str(i): f"name {i}" for i in (*range(11),)}, tuple(f"name {i}" for i in range(11)), None),
        ({"0": "a", "1": "b", "3": "c"}, ("LABEL_0", "LABEL_1", "LABEL_2"), "id2label has the ids 0, 1, 3, not 0 to 2"),
        ({"0": "a", "1": "b", "2": "a"}, ("LABEL_0", "LABEL_1", "LABEL_2"), "id2label has the name 'a' twice"),
        (None, ("LABEL_0", "LABEL_1"), None),
    ],
)
@pytest.mark.parametrize("head", ["sequence_classification", "token_classification"])
def test_labels_are_those_of_hugging_face_by_their_ids(tmp_path, id2label, labels, said, head):
    path = folders.write(tmp_path / "hf", heads=(head,), num_labels=len(labels))
    folders.configure(path, id2label=id2label, label2id=None)
    if said is None:
        assert open_model(path).labels == labels
    else:
        with pytest.warns(InputWarning, match=said):
            assert open_model(path).labels == labels


def test_labels_of_a_head_that_is_not_there_are_none(tmp_path):
    """A tagger's are not those of a classifier that begins with its body."""
    path = folders.write(tmp_path / "hf", heads=("token_classification",), num_labels=3)
    folders.configure(path, id2label={"0": "O", "1": "B-X", "2": "I-X"})
    found = open_model(path, heads=("sequence_classification",))
    assert "sequence_classification" in found.untrained
    assert found.labels == ()
    assert open_model(folders.write(tmp_path / "mlm", heads=("masked_lm",))).labels == ()


def test_what_is_odd_is_said(tmp_path):
    path = folders.write(tmp_path / "hf", heads=("masked_lm",))
    folders.change(path, lambda x: x["cls.predictions.bias"].__setitem__(0, np.nan))
    with pytest.warns(InputWarning, match=r"hf: NaN or infinity in cls\.predictions\.bias"):
        open_model(path)


def test_the_folder_above_the_runs_of_several_seeds(tmp_path):
    for seed in (7, 10):
        (tmp_path / f"seed_{seed}").mkdir()
        (tmp_path / f"seed_{seed}/config.json").write_text("{}")
    (tmp_path / "seeds.json").write_text("{}")
    said = rf"holds one run per seed: give one of them, {tmp_path}/seed_7 or {tmp_path}/seed_10$"
    with pytest.raises(InputError, match=said):
        open_model(tmp_path)


def test_the_folder_above_the_runs_of_a_sweep(tmp_path):
    for rate in (1, 2):
        (tmp_path / f"rate_{rate}").mkdir()
        (tmp_path / f"rate_{rate}/config.json").write_text("{}")
    (tmp_path / "sweep.json").write_text("{}")
    said = rf"holds the runs of a sweep, .*; give one of them, such as {tmp_path}/rate_1$"
    with pytest.raises(InputError, match=said):
        open_model(tmp_path)


def test_no_model(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text('{"model": {}, "training": {}}')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_text("{")
    for name, said in {
        "none": "there is no such folder",
        "file": "is a file: give the folder of a model",
        "": "is not a run directory, a converted model or a Hugging Face model: it has no config.json",
        "run": "config lacks",
        "damaged": "is not valid JSON",
    }.items():
        with pytest.raises(InputError, match=said):
            open_model(tmp_path / name)
    with pytest.raises(InputError, match="is for a name on the Hub"):
        locate(tmp_path / "run", revision="main")


def test_steps_are_those_of_a_run(places):
    assert open_model(places / "run directory", step=1).step == 1
    with pytest.raises(InputError, match=r"has no checkpoint of step 3; it has \[1\]"):
        open_model(places / "run directory", step=3)
    with pytest.raises(InputError, match=r"is not a run \(Hugging Face folder\), so it has no step 3"):
        open_model(places / "Hugging Face folder", step=3)

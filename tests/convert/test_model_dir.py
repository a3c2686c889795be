"""Our own folder of a converted model: whole, checked, and used like a run's."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.convert import folders
from tx_jax.convert import from_hf, model_dir, to_hf
from tx_jax.errors import InputError
from tx_jax.evaluation.fill_mask import fill_mask
from tx_jax.runs import trained


@pytest.fixture
def model(tmp_path):
    return from_hf.read(folders.write(tmp_path / "hf", folders.wordpiece()), name="someone/bert", revision="abc")[0]


@pytest.fixture
def saved(model, tmp_path):
    model_dir.save(model, tmp_path / "model")
    return tmp_path / "model"


def test_there_and_back(model, saved):
    again = model_dir.load(saved)
    assert (again.config, again.source) == (model.config, model.source)
    assert again.source.name == "someone/bert"
    assert again.tokenizer.fingerprint == model.tokenizer.fingerprint
    assert again.params.keys() == model.params.keys()
    assert all((again.params[path] == model.params[path]).all() for path in model.params)
    record = json.loads((saved / "model.json").read_text())
    assert set(record["files"]) >= {"params.safetensors", "tokenizer/vocab.txt"}
    assert str(saved.parent) not in json.dumps(record)


def test_a_model_without_tokenizer_and_source(tmp_path):
    model_dir.save(folders.model(), tmp_path / "model")
    again = model_dir.load(tmp_path / "model")
    assert again.tokenizer is None
    assert again.source is None


@pytest.mark.parametrize("name", ["params.safetensors", "tokenizer/vocab.txt"])
def test_a_flipped_byte_is_noticed(saved, name):
    data = bytearray((saved / name).read_bytes())
    data[-3] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(InputError, match=f"is damaged: {name} missing, or not as"):
        model_dir.load(saved)


def test_a_missing_file_is_noticed(saved):
    (saved / "params.safetensors").unlink()
    with pytest.raises(InputError, match=r"params\.safetensors missing"):
        model_dir.load(saved)


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"model": {}, "source": {"a": 1}, "files": {}}', '{"model": 1}', "[]", "[" * 99_999]
)
def test_a_damaged_record(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        model_dir.load(saved)


def test_parameters_of_another_model(saved):
    params = load_file(saved / "params.safetensors")
    params["pooler/bias"] = np.zeros(3, np.float32)
    save_file(params, saved / "params.safetensors")
    record = json.loads((saved / "model.json").read_text())
    record["files"] = model_dir._digests(saved)
    (saved / "model.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="does not hold the parameters that"):
        model_dir.load(saved)


@pytest.mark.parametrize("changes", [{"num_layers": 10**6}, {"vocab_size": 2**31 - 1}, {"max_length": 10**12}])
def test_sizes_beyond_the_file_are_refused_before_anything_is_made_of_them(saved, changes, monkeypatch):
    record = json.loads((saved / "model.json").read_text())
    record["model"] |= changes
    (saved / "model.json").write_text(json.dumps(record))
    monkeypatch.setattr(model_dir, "shapes_of", lambda _: pytest.fail("the model was traced"))
    with pytest.raises(
        InputError, match=r"model\.json describes another model, with (num_l|voc|max_l)\w+=\d+: the files"
    ):
        model_dir.load(saved)


def test_no_model(tmp_path):
    with pytest.raises(InputError, match="is no converted model"):
        model_dir.load(tmp_path)


def test_masks_are_filled_as_with_a_run(saved):
    model = trained.load(saved)
    assert (model.config, model.step) == (None, None)
    ((first, *_),) = fill_mask(model, "word1 [MASK] word2", top=3)
    assert 0 < first[1] < 1


def test_what_a_converted_model_cannot_do(tmp_path, saved):
    with pytest.raises(InputError, match=r"is not a run \(converted model\), so it has no step 3"):
        trained.load(saved, 3)
    model_dir.save(folders.model(), tmp_path / "silent")
    with pytest.raises(InputError, match="without a tokenizer"):
        fill_mask(trained.load(tmp_path / "silent"), "[MASK]", top=1)
    model_dir.save(folders.model(folders.wordpiece(), heads=("pooled",)), tmp_path / "headless")
    with pytest.raises(InputError, match="no masked_lm head"):
        fill_mask(trained.load(tmp_path / "headless"), "[MASK]", top=1)


def test_what_was_initialised_is_remembered(tmp_path):
    path = folders.write(tmp_path / "hf", heads=("pooled",))
    model, _ = from_hf.read(path, heads=["masked_lm"])
    model_dir.save(model, tmp_path / "model")
    again = model_dir.load(tmp_path / "model")
    assert again.untrained == ("masked_lm",)
    assert to_hf.warnings(again) == ["masked_lm is untrained: it holds initial values"]

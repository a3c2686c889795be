"""A run that was killed in its first save has not begun: it starts from its model again, never from random values."""

import numpy as np
import pytest

from configs import bert_base, classification
from tests import labeled_files
from tests.data.labeled.configs import labeled
from tests.fine_tuning import one_step, train
from tx_jax.config import from_config_dict
from tx_jax.convert import model_dir
from tx_jax.errors import InputError
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.start import open_start


def classification_config(folder, tiny_store):
    labeled_files.write(folder / "texts.csv", labeled(), count=30)
    labeled_files.write_model(folder / "model", tiny_store.tokenizer())
    c = classification.get_config("smoke")
    c.data.train = str(folder / "texts.csv")
    return c


def distillation_config(folder, tiny_store):
    labeled_files.write_model(folder / "model", tiny_store.tokenizer(), num_layers=2, heads=("masked_lm",))
    c = bert_base.get_config("smoke")
    c.model.heads, c.data.packing, c.data.store = ("masked_lm",), "full_sentences", str(tiny_store.path)
    c.task, c.distillation.layers = "distillation", 1
    return c


def lora_config(folder, tiny_store):
    c = classification_config(folder, tiny_store)
    c.lora.rank = 2
    return c


@pytest.mark.parametrize("make", [classification_config, distillation_config, lora_config])
def test_it_starts_from_the_model_again(make, tiny_store, tmp_path):
    c, workdir = make(tmp_path, tiny_store), tmp_path / "run"
    c.start_from = str(tmp_path / "model")
    one_step(c)
    values, start = open_start(c.to_dict(), workdir)
    RunDir(workdir).begin(from_config_dict(values | {"start_from": c.start_from}), start.tokenizer, "data")
    for name in ("12.orbax-checkpoint-tmp-1", "12.orbax-checkpoint-tmp-1-finished", "damaged-3"):
        (workdir / "checkpoints" / name).mkdir(parents=True)
    done = train(c, workdir)
    teacher = "teacher/" if make is distillation_config else ""
    body = {
        path: x for path, x in model_dir.load(tmp_path / "model").params.items() if path.startswith(("emb", "encoder"))
    }
    assert len(body) > 15
    for path, x in body.items():
        np.testing.assert_array_equal(done.before[teacher + path], x, err_msg=path)
    np.testing.assert_array_equal(
        done.before["embeddings/token/embedding"], body["embeddings/token/embedding"], err_msg="also of the student"
    )
    assert set(done.run.fresh) <= {"sequence_classification", "lora"}


def test_whether_a_run_has_begun_is_what_is_whole_in_its_folder(tmp_path):
    folder = tmp_path / "checkpoints"
    assert Checkpoints(folder, read_only=True).begun() is None
    for name in ("12.orbax-checkpoint-tmp-1", "damaged-30", "tmp"):
        (folder / name).mkdir(parents=True)
    assert Checkpoints(folder, read_only=True).begun() is None
    for name in ("7", "11"):
        (folder / name).mkdir()
    assert Checkpoints(folder, read_only=True).begun() == 11


def test_checkpoints_without_their_configuration_are_no_run_to_continue(smoke_config, tmp_path):
    (tmp_path / "checkpoints/5").mkdir(parents=True)
    with pytest.raises(InputError, match=r"is not a run directory: it has no config\.json"):
        RunDir(tmp_path).changes(from_config_dict(smoke_config), "data")

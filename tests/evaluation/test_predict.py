"""Every row comes once, in few shapes, and back in order."""

import types

import numpy as np
import pytest

from tests import labeled_files
from tests.tasks import test_tagging
from tests.tasks.test_classification import make_task, params_of
from tx_jax import sharding
from tx_jax.config import MeshConfig
from tx_jax.errors import InputError, InputWarning
from tx_jax.evaluation.predict import outputs, predict


def test_predictions_are_those_of_each_record_alone(tmp_path):
    task = make_task(tmp_path, sequence_length=64)
    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=1, tensor=1))
    rng = np.random.default_rng(0)
    records = [{"text": " ".join(rng.choice(labeled_files.WORDS, n))} for n in (1, 50, 3, 20, 70, 2, 31)]
    seen = []
    with pytest.warns(InputWarning, match="^truncated: 1 of 7$"):
        found = predict(
            task, params_of(task), mesh, records, batch_size=2, progress=lambda done, total: seen.append((done, total))
        )
    table = task.encode(records, labeled=False)
    logits = task.objective.outputs(params_of(task), table.rows(np.arange(7)))["logits"]
    expected = task.predictions({"logits": np.asarray(logits)}, records, table)
    for one, other in zip(found, expected, strict=True):
        assert one["prediction"] == other["prediction"]
        # Other shapes, other orders of summation.
        assert one["probability_1"] == pytest.approx(other["probability_1"], abs=1e-5)
    assert seen[-1] == (7, 7)
    assert len(seen) > 1


def test_outputs_of_other_lengths_are_filled_up_and_each_shape_is_compiled_once(tmp_path):
    traced = []

    class Tokens:
        def outputs(self, params, batch):
            traced.append(batch["tokens"].shape)
            return {"tokens": batch["tokens"], "count": batch["valid"].sum(axis=1)}

    task = make_task(tmp_path, sequence_length=64)
    table = task.encode([{"text": " ".join(["cat"] * n)} for n in (40, 2, 5)], labeled=False)
    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=1, tensor=1))
    tokens = types.SimpleNamespace(objective=Tokens())
    found = outputs(tokens, {}, mesh, table, 2, lambda done, total: None)
    np.testing.assert_array_equal(found["tokens"], table.rows(np.arange(3))["tokens"])  # their padding is 0
    assert found["count"].tolist() == table.lengths.tolist()
    again = outputs(tokens, {}, mesh, table, 2, lambda done, total: None)
    np.testing.assert_array_equal(again["tokens"], found["tokens"])
    assert len(traced) == len(set(traced)) == 2


def test_sentences_without_words(tmp_path):
    task, mesh = test_tagging.make_task(tmp_path), sharding.make_mesh(MeshConfig(data=1, fsdp=1, tensor=1))
    found = predict(task, params_of(task), mesh, [{"words": []}, {"words": ["cat"]}], batch_size=2)
    assert [len(one["prediction"]) for one in found] == [0, 1]
    with pytest.raises(InputError, match="nothing to predict: no word in any"):
        predict(task, params_of(task), mesh, [{"words": []}], batch_size=2)

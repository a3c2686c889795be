"""Distillation: what the student begins as, what its losses are, and that its teacher stays as it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tx_jax import tree
from tx_jax.config import from_config_dict, to_dict
from tx_jax.convert import model_dir, to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError
from tx_jax.runs.start import open_start
from tx_jax.tasks.base import total_loss
from tx_jax.tasks.distillation import TEACHER, Distillation
from tx_jax.tasks.masked_lm import MaskedLMObjective
from tx_jax.tasks.registry import open_task


@pytest.fixture
def teacher(tiny_store, tmp_path):
    tokenizer = tiny_store.tokenizer()
    config = small.config(
        vocab_size=tokenizer.vocab_size, num_layers=4, max_length=64, heads=("masked_lm", "next_sentence")
    )
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    model_dir.save(Model(config, params, tokenizer, None), tmp_path / "teacher")
    return tmp_path / "teacher"


def values_of(smoke_config, teacher, **distillation):
    c = smoke_config
    c.start_from = str(teacher)
    c.task = "distillation"
    c.model.heads = ("masked_lm",)
    c.data.packing = "full_sentences"
    c.distillation.layers = 2
    c.distillation.update(distillation)
    return c.to_dict()


@pytest.fixture
def distilled(smoke_config, teacher, tmp_path):
    values, start = open_start(values_of(smoke_config, teacher), tmp_path / "run")
    task = open_task(from_config_dict(values), tokenizer=start.tokenizer)
    return task, start, start.fill(task.objective.init(jax.random.key(0)), labels=())


def test_the_student_begins_as_every_second_layer_and_the_teacher_is_whole(distilled, teacher):
    task, _, (params, fresh) = distilled
    assert isinstance(task, Distillation)
    assert fresh == ()
    stored, ours = model_dir.load(teacher).params, tree.flatten(params)
    of_student = {path: x for path, x in ours.items() if not path.startswith(TEACHER)}
    assert {path.split("/")[1] for path in of_student if path.startswith("encoder/")} == {"layer_0", "layer_1"}
    assert "embeddings/segment/embedding" not in of_student
    stored["embeddings/position/embedding"] += stored["embeddings/segment/embedding"][0]
    for path, x in of_student.items():
        np.testing.assert_array_equal(x, stored[path.replace("layer_1", "layer_2")], err_msg=path)
    of_teacher = {path.removeprefix(f"{TEACHER}/") for path in ours} - set(of_student)
    assert {path for path in of_teacher if "layer_" in path} == {
        path for path in stored if "layer_" in path and "layer_0" not in path and "layer_1" not in path
    }
    np.testing.assert_array_equal(
        ours[f"{TEACHER}/encoder/layer_3/mlp/wi/kernel"], stored["encoder/layer_3/mlp/wi/kernel"]
    )


def test_losses_match_numpy(distilled):
    task, _, (params, _) = distilled
    batch = task.batches("train", batch_size=4, repeat=True).batch_at(0)
    metrics = jax.jit(task.objective.metrics)(params, batch, dropout_rng=None)
    student = task.objective.apply(
        {name: x for name, x in params.items() if name != TEACHER},
        batch,
        dropout_rng=None,
        masked_positions_BP=batch["masked_positions"],
    )
    teacher = MaskedLMObjective(dataclasses.replace(task.config, model=task.objective.teacher))
    taught = teacher.apply(params[TEACHER], batch, dropout_rng=None, masked_positions_BP=batch["masked_positions"])

    def log_softmax(logits):
        x = np.asarray(logits, np.float64) / 2.0
        x -= x.max(axis=-1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    p, q = log_softmax(taught.logits["masked_lm"]), log_softmax(student.logits["masked_lm"])
    soft = (np.exp(p) * (p - q)).sum(axis=-1) * 4.0
    weights = batch["masked_weights"]
    expected = (soft * weights).sum() / weights.sum()
    assert expected > 0.01
    np.testing.assert_allclose(metrics["soft_loss"].mean(), expected, rtol=1e-4)
    a, b = np.asarray(student.hidden, np.float64), np.asarray(taught.hidden, np.float64)
    cosine = 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(metrics["cosine_loss"].mean(), cosine[batch["valid"]].mean(), rtol=1e-4)
    total = total_loss(metrics, task.objective.loss_weights(batch))
    parts = [metrics[name].mean() for name in ("soft_loss", "masked_lm_loss", "cosine_loss")]
    np.testing.assert_allclose(total, np.dot(parts, [5, 2, 1]), rtol=1e-5)


def test_the_student_is_a_distilbert(distilled, tmp_path):
    task, _, (params, _) = distilled
    student = {path: np.asarray(x) for path, x in tree.flatten(params).items() if not path.startswith(TEACHER)}
    written = to_hf.write(Model(task.config.model, student, task.tokenizer, None), tmp_path / "huggingface")
    assert written == "DistilBertForMaskedLM"


def test_a_student_as_deep_as_its_teacher_has_nothing_to_learn_from_it(smoke_config, teacher, tmp_path):
    values, start = open_start(values_of(smoke_config, teacher, layers=4), tmp_path / "run")
    task = open_task(from_config_dict(values), tokenizer=start.tokenizer)
    params, _ = start.fill(task.objective.init(jax.random.key(0)), labels=())
    metrics = task.objective.metrics(
        params, task.batches("train", batch_size=4, repeat=True).batch_at(0), dropout_rng=None
    )
    np.testing.assert_allclose(metrics["soft_loss"].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(metrics["cosine_loss"].mean(), 0, atol=1e-5)


@pytest.mark.long
def test_the_teacher_stays_and_the_student_learns(distilled):
    from tx_jax.nn.dropout import dropout_key
    from tx_jax.training.optimizer import Optimizer
    from tx_jax.training.state import TrainState
    from tx_jax.training.step import jit_train_step

    task, _, (params, _) = distilled
    optimizer = Optimizer(task.config)
    before = jax.device_get(params)
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    step = jit_train_step(task.config, task.objective, optimizer)
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    losses = []
    for _ in range(8):
        state, metrics = step(state, batch, dropout_key(0))
        losses.append(metrics["loss"].mean())
    assert losses[-1] < losses[0]
    after = jax.device_get(state.params)
    jax.tree.map(np.testing.assert_array_equal, after[TEACHER], before[TEACHER])
    assert not np.array_equal(after["embeddings"]["token"]["embedding"], before["embeddings"]["token"]["embedding"])


def test_what_cannot_be_distilled(smoke_config, teacher, tmp_path):
    values = values_of(smoke_config, teacher, layers=5)
    with pytest.raises(InputError, match=r"layers=5 exceeds the 4 layers"):
        open_start(values, tmp_path / "run")
    plain = to_dict(from_config_dict(smoke_config_without(values)))
    plain["distillation"]["layers"] = 1
    with pytest.raises(InputError, match="needs a teacher"):
        from_config_dict(plain)


def smoke_config_without(values):
    """The same experiment without a teacher."""
    return {**values, "start_from": "", "distillation": {"layers": 0}}


def test_rows_that_only_fill_up_a_batch_count_nothing(distilled):
    """Held-out metrics are the same whatever the last batch is filled up with."""
    task, _, (params, _) = distilled
    whole = task.batches("validation", batch_size=4, repeat=False)
    last = whole.batch_at(len(whole) - 1)
    real = int(last["example_weights"].sum())
    assert 0 < real < 4
    alone = {name: x[:real] for name, x in last.items()}
    found, expected = (jax.jit(task.objective.metrics)(params, batch, dropout_rng=None) for batch in (last, alone))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].weight, value.weight, err_msg=name)
        np.testing.assert_allclose(found[name].mean(), value.mean(), rtol=1e-5, err_msg=name)

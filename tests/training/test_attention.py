"""The implementation of attention that a training uses, and what a run keeps of it."""

import json

import pytest

from tests.models import small
from tests.training.test_loop import train
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError, InputWarning
from tx_jax.runs import trained
from tx_jax.training.attention import attention_of, reason_against_resuming


def test_every_case_that_occurs_is_named(smoke_config):
    assert attention_of(from_config_dict(smoke_config)) == {"": "xla (the fastest for cpu)"}
    smoke_config.model.attention = "xla"
    assert attention_of(from_config_dict(smoke_config)) == {"": "xla (as configured)"}


def test_one_that_cannot_be_used_is_refused_before_any_step(smoke_config, tiny_store, tmp_path):
    smoke_config.model.attention = "cudnn"
    with pytest.raises(InputError, match=r"'cudnn' cannot be used: it is for NVIDIA GPUs.*attention=auto"):
        train(smoke_config, tiny_store, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_says_what_it_used_and_one_from_an_accelerator_is_used_here(smoke_config, tiny_store, tmp_path):
    smoke_config.training.num_steps = smoke_config.training.eval_every = smoke_config.training.checkpoint_every = 2
    smoke_config.training.keep_best, smoke_config.model.num_layers = 0, 1
    train(smoke_config, tiny_store, tmp_path)
    assert json.loads((tmp_path / "env.json").read_text())["attention"] == {"": "xla (the fastest for cpu)"}

    values = json.loads((tmp_path / "config.json").read_text())
    values["model"]["attention"] = "cudnn"
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = trained.load(tmp_path)
    assert model.model.attention == "cudnn"
    with pytest.warns(InputWarning, match="using xla instead") as warned:
        small.apply(model.model, model.params, small.batch(), deterministic=True)
    assert len({str(one.message) for one in warned}) == 1

    smoke_config.model.attention = "cudnn"
    assert "it is for NVIDIA GPUs" in reason_against_resuming(from_config_dict(smoke_config))
    smoke_config.model.attention, smoke_config.training.num_steps = "auto", 3
    train(smoke_config, tiny_store, tmp_path)  # free to change where a run continues

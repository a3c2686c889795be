"""What is asked of an open task before its training begins."""

import pytest

from tx_jax.config import from_config_dict
from tx_jax.errors import InputError, InputWarning
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.tasks.registry import open_task
from tx_jax.training import begin, run
from tx_jax.training.optimizer import Optimizer


def check(c, given=()):
    return begin.check_task(open_task(from_config_dict(c)), given)


def test_the_configuration_as_it_is_may_begin(smoke_config):
    assert check(smoke_config) == []


def test_a_pattern_of_no_decay_that_matches_nothing(smoke_config):
    """One in a file is enough, for recipes share theirs; one that was given must match."""
    smoke_config.optimizer.no_decay = ("bias$", "layer_norm/weight$")
    assert check(smoke_config) == []
    with pytest.raises(InputError, match=r"optimizer.no_decay: 'layer_norm/weight\$' matches no parameter"):
        check(smoke_config, ["optimizer.no_decay"])
    smoke_config.optimizer.no_decay = ("gamma", "beta")
    with pytest.raises(InputError, match=r"optimizer.no_decay: 'gamma' matches no parameter"):
        check(smoke_config)
    smoke_config.optimizer.weight_decay = 0.0
    assert check(smoke_config) == []


def test_the_number_of_steps_is_looked_at_again_where_the_data_told_it(smoke_config):
    smoke_config.optimizer.warmup_share, smoke_config.optimizer.warmup_steps = 0.0, 20
    with pytest.raises(InputError, match=r"optimizer.warmup_steps=20 leaves no step after the warmup"):
        check(smoke_config)


def test_words_to_mask_that_never_occur_teach_nothing(smoke_config, tmp_path, monkeypatch):
    (tmp_path / "words.txt").write_text("zzz\n")
    smoke_config.data.selective_words = str(tmp_path / "words.txt")
    with pytest.raises(
        InputError, match=r"no word of data.selective_words=.*words.txt occurs in .*: the masked LM would"
    ):
        check(smoke_config)
    monkeypatch.setattr(begin, "LOOKED_AT", 2)
    (line,) = check(smoke_config)
    assert line.startswith("the first 2 batches of ")
    smoke_config.data.selective_share = 0.5  # the others are masked at random
    assert check(smoke_config) == []


def test_a_batch_larger_than_the_data_is_warned_of(smoke_config, tiny_store):
    from tx_jax import sharding

    smoke_config.training.batch_size = 4000
    config = from_config_dict(smoke_config)
    task = MaskedLM(config, tiny_store)
    mesh = sharding.make_mesh(config.mesh)
    examples = task.batches("train", batch_size=8, repeat=True).num_examples
    expected = f"{examples} training examples: every step goes through them {4000 / examples:.1f} times"
    with pytest.warns(InputWarning, match=expected):
        run._train_batches(config, task, mesh)


def test_a_run_of_a_former_version_is_restored_whatever_its_patterns_are(smoke_config, tiny_store):
    """The optimizer's state of a run whose `no_decay` matches nothing is what it was."""
    smoke_config.optimizer.no_decay = ("gamma",)
    config = from_config_dict(smoke_config)
    task = MaskedLM(config, tiny_store)
    import jax

    assert jax.eval_shape(Optimizer(config).init, jax.eval_shape(task.objective.init, jax.random.key(0)))


def test_a_best_metric_that_is_none_is_refused_before_anything_is_made(smoke_config):
    smoke_config.training.best_metric = "masked_ml_loss"
    smoke_config.training.keep_best = 1
    with pytest.raises(InputError, match=r"best_metric='masked_ml_loss' is not among .* Did you mean 'masked_lm_loss'"):
        check(smoke_config)
    smoke_config.training.keep_best = 0  # then it decides nothing
    assert check(smoke_config) == []

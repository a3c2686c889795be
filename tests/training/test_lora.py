"""LoRA through the loop: a run that starts from another, its checkpoints, and what is made of them."""

import copy

import jax
import numpy as np
import pytest

from configs import bert_base
from tx_jax import sharding, tree
from tx_jax.config import from_config_dict
from tx_jax.convert import from_hf, to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError
from tx_jax.evaluation.evaluate import evaluate_model
from tx_jax.evaluation.fill_mask import fill_mask
from tx_jax.models import forward, lora
from tx_jax.runs import metrics_log, trained
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.start import open_start
from tx_jax.tasks.registry import open_task
from tx_jax.training import begin, loop
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import abstract_state


class Silent:
    """A display that may break off after a step."""

    def __init__(self, fail_at=None):
        self.fail_at = fail_at

    def start(self, *_):
        pass

    def evaluation(self, *_):
        pass

    def pace(self, *_):
        pass

    def train(self, step, values):
        if step == self.fail_at:
            raise RuntimeError("power cut")


def train(c, workdir, display=None):
    """As experiments.train does; the configuration and the last evaluation."""
    values, start = open_start(c.to_dict(), workdir)
    task = open_task(from_config_dict(values), tokenizer=start and start.tokenizer)
    return task.config, loop.train(task.config, task, workdir, display or Silent(), start)


@pytest.fixture(scope="module")
def runs(tiny_store, tmp_path_factory):
    """A run of four steps, and one with LoRA that starts from it."""
    c = bert_base.get_config("smoke")
    c.model.update(vocab_size=200, num_layers=1)
    c.data.store = str(tiny_store.path)
    c.training.update(num_steps=4, checkpoint_every=2, eval_every=0, eval_batches=0, log_every=1)
    folder = tmp_path_factory.mktemp("runs")
    train(c, folder / "base")
    adapted = copy.deepcopy(c)
    adapted.start_from = str(folder / "base")
    adapted.lora.update(rank=2, dropout=0.1)
    adapted.optimizer.learning_rate = 1e-2
    config, result = train(adapted, folder / "lora")
    return folder, adapted, config, result


@pytest.fixture(scope="module")
def stored(runs):
    """The parameters in the last checkpoint with LoRA, by path."""
    folder, _, config, _ = runs
    target = sharding.with_sharding(sharding.make_mesh(config.mesh), forward.param_shapes(config.model, config.lora))
    with Checkpoints(folder / "lora/checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore_params(4, target)


def test_only_adapters_and_the_new_rooms_move(runs, stored):
    before = tree.flatten(trained.load(runs[0] / "base").params)
    for path, x in tree.flatten(stored).items():
        if path.startswith("lora/"):
            assert np.abs(x).max() > 1e-3, path
        else:
            assert np.array_equal(x, before[path]) != path.startswith("pooler/"), path


def test_the_optimizer_and_the_checkpoint_hold_what_trains(runs):
    folder, _, config, _ = runs
    task = open_task(config)
    state = abstract_state(task.objective, Optimizer(config), sharding.make_mesh(config.mesh))
    moments = [path for path, leaf in tree.flatten(state.opt_state).items() if leaf.ndim]
    # a and b for query and value, the pooler's kernel and bias; two moments of each.
    assert len(moments) == 2 * (4 + 2)
    assert all("lora/" in path or "pooler/" in path for path in moments)

    def size(run):
        return sum(file.stat().st_size for file in (folder / run / "checkpoints/4").rglob("*") if file.is_file())

    # Without the moments of frozen parameters a third is left, and what so small a checkpoint has beside its arrays.
    assert size("lora") < 0.6 * size("base")


def test_what_is_loaded_is_merged_and_evaluates_as_the_run_did(runs, stored):
    folder, _, config, result = runs
    run = trained.load(folder / "lora")
    jax.tree.map(np.testing.assert_array_equal, run.params, lora.merged(stored, config.lora))
    batches = open_task(config).batches("validation", batch_size=8, repeat=False)
    again = evaluate_model(run, open_task(config), map(batches.batch_at, range(len(batches))))
    assert again == pytest.approx(result, rel=1e-6)
    base = trained.load(folder / "base")
    assert evaluate_model(base, open_task(config), map(batches.batch_at, range(len(batches)))) != pytest.approx(
        again, rel=1e-3
    )
    assert len(fill_mask(run, "abcd [MASK].", top=3)[0]) == 3


def test_it_goes_to_hugging_face_as_a_plain_model(runs, tmp_path):
    run = trained.load(runs[0] / "lora")
    params = {path: np.asarray(x) for path, x in tree.flatten(run.params).items()}
    to_hf.write(Model(run.model, params, run.tokenizer, None), tmp_path / "hf")
    again = from_hf.read(tmp_path / "hf")[0].params
    assert again.keys() == params.keys()
    assert all(np.array_equal(again[path], x) for path, x in params.items())


def test_it_resumes_bitwise_and_only_with_the_same_adapters(runs, tmp_path):
    folder, c, _, _ = runs
    with pytest.raises(RuntimeError, match="power cut"):
        train(c, tmp_path, Silent(fail_at=3))
    wider = copy.deepcopy(c)
    wider.lora.rank = 4
    with pytest.raises(InputError, match=r"a different configuration: lora\.rank: 2 -> 4"):
        train(wider, tmp_path)
    train(c, tmp_path)
    losses = [
        [r["loss"] for r in metrics_log.read(path) if r["split"] == "train"] for path in (folder / "lora", tmp_path)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_a_new_room_that_does_not_exist_is_refused(runs, tmp_path):
    c = copy.deepcopy(runs[1])
    c.lora.also_train = ("^masked_ln/",)
    with pytest.raises(
        InputError, match=r"lora.also_train: '\^masked_ln/' matches no parameter. Did you mean 'masked_lm'"
    ):
        train(c, tmp_path)


def test_what_does_not_train_anyway_cannot_be_frozen(runs, tmp_path):
    """A run that froze it goes on: it is asked where one begins."""
    c = copy.deepcopy(runs[1])
    c.optimizer.frozen = ("^masked_lm/", "^embeddings/")

    def check(c):
        values, start = open_start(c.to_dict(), tmp_path)
        begin.check_patterns(open_task(from_config_dict(values), tokenizer=start.tokenizer).objective)

    with pytest.raises(InputError, match=r"optimizer.frozen: '\^masked_lm/' matches no parameter that lora.rank=2 tra"):
        check(c)
    c.optimizer.frozen = ("layer_0/attention/query",)
    check(c)

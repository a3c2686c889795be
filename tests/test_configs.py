"""Every configuration: its full form has the published size, its smoke form trains."""

import dataclasses
import functools
import importlib.util
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests import labeled_files
from tests.conftest import write_corpus
from tests.data.translation import pairs
from tx_jax.config import LabeledDataConfig, from_config_dict, to_dict
from tx_jax.config.further import experiment_values
from tx_jax.models import registry
from tx_jax.nn.dropout import dropout_key
from tx_jax.runs.start import open_start
from tx_jax.tasks.registry import TASKS, open_task
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import TrainState
from tx_jax.training.step import jit_train_step

FOLDER = Path(importlib.util.find_spec("configs").submodule_search_locations[0])
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")

# Configuration, variant -> parameters as transformers counts them, or by the paper's sizes.
PARAMETERS = {
    ("bert_base", ""): 110_106_428,
    ("bert_large", ""): 336_226_108,
    ("roberta_base", ""): 124_697_433,
    ("roberta_base", "fairseq"): 124_697_433,
    ("roberta_large", ""): 355_412_057,
    ("kantaibert", ""): 83_504_416,
    ("beto", ""): 109_883_418,  # BERT base with 480 tokens more and no pooler or next-sentence head
    ("xlm_roberta_base", ""): 278_295_186,
    ("deberta_v3_base", ""): 184_944_996,  # 393,216 of them the mask decoder's positions
    ("gpt2_small", ""): 124_439_808,
    ("gpt2_medium", ""): 354_823_168,
    ("gpt2_large", ""): 774_030_080,
    ("gpt2_xl", ""): 1_557_611_200,
    ("quickstart", ""): 579_586,
    ("distilbert", ""): 66_985_530,
    ("transformer_base", ""): 63_082_496,
    ("transformer_big", ""): 214_245_376,
}


def get_config(name, variant=""):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()


@pytest.mark.parametrize(("name", "variant"), PARAMETERS, ids="{}".format)
def test_the_full_form_has_the_published_size(name, variant):
    assert registry.num_params(from_config_dict(get_config(name, variant)).model) == PARAMETERS[name, variant]


def gpt_params(layers, dim, vocab_size=50_257, context=2048):
    """Tables, 12 D^2 + 13 D a layer, and the closing norm."""
    return (vocab_size + context) * dim + layers * (12 * dim**2 + 13 * dim) + 2 * dim


@pytest.mark.parametrize("variant", ["125m", "350m", "760m", "1.3b", "2.7b", "6.7b", "13b", "175b"])
def test_gpt3_has_the_papers_sizes(variant):
    config = from_config_dict(get_config("gpt3", variant))
    model = config.model
    one, two = (registry.num_params(dataclasses.replace(model, num_layers=layers)) for layers in (1, 2))
    params = one + (model.num_layers - 1) * (two - one)
    assert params == gpt_params(model.num_layers, model.dim)
    billions = float(variant.removesuffix("b")) if variant.endswith("b") else float(variant.removesuffix("m")) / 1000
    assert math.isclose(params, billions * 1e9, rel_tol=0.06)
    tokens = config.training.num_steps * config.training.batch_size * config.data.sequence_length
    assert math.isclose(tokens, 260e9, rel_tol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_every_key_can_be_given_on_the_command_line(name):
    """What the dataclasses know and the configuration does not list could not be overridden."""
    c = get_config(name)
    listed = to_dict(from_config_dict(experiment_values(c.to_dict())))
    for group, values in listed.items():
        if isinstance(values, dict):
            assert set(c[group]) == set(values), group


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match=r"unknown variant 'nonsense'; known: .*smoke"):
        get_config(name, "nonsense")


@pytest.fixture(scope="module")
def causal_store(tmp_path_factory):
    from tx_jax.data.corpus.prepare import PrepareConfig, prepare
    from tx_jax.data.corpus.sources import SourceConfig

    folder = tmp_path_factory.mktemp("causal")
    write_corpus(folder / "text.txt", documents=150)
    source = SourceConfig(specs=(str(folder / "text.txt"),))
    config = PrepareConfig(
        store=folder / "store",
        source=source,
        tokenizer_kind="gpt2_bpe",
        vocab_size=300,
        validation_fraction=0.15,
        workers=1,
    )
    prepare(config)
    return folder / "store"


def labeled(name):
    return "train" in get_config(name).data


@pytest.fixture(scope="module")
def pair_store(tmp_path_factory):
    return pairs.store(tmp_path_factory.mktemp("pairs"))


PRETRAINING = [name for name in NAMES if not labeled(name)]
FINE_TUNING = [name for name in NAMES if labeled(name)]
# One of each kind of batch is compiled and trained in the short form of the tests; of all others, the step is traced.
TRAINED = ("bert_base", "gpt2_small", "transformer_base", "classification", "swag", "squad", "tagging")


def trained(names):
    return [name if name in TRAINED else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.fixture
def pretraining_task(tiny_store, causal_store, pair_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return functools.partial(open_pretraining, tiny_store, causal_store, pair_store, tmp_path)


def open_pretraining(tiny_store, causal_store, pair_store, tmp_path, name):
    """The task of a smoke form, on a small store of the kind that it needs."""
    c = get_config(name, "smoke")
    c.data.store = str(causal_store if "causal_lm" in c.model.heads else tiny_store.path)
    if c.task == "translation":
        c.data.store = str(pair_store.path)
    c.model.vocab_size = 300
    if c.start_from:
        labeled_files.write_model(tmp_path / c.start_from, tiny_store.tokenizer(), heads=("masked_lm",))
    values, _ = open_start(c.to_dict(), tmp_path / "run")
    return open_task(from_config_dict(values))


@pytest.mark.parametrize("name", [name for name in PRETRAINING if name not in TRAINED])
def test_a_step_of_the_smoke_form_is_a_program(name, pretraining_task):
    task = pretraining_task(name)
    assert {"loss", task.config.training.best_metric} <= traced_metrics(task)


@pytest.mark.parametrize("name", trained(PRETRAINING))
def test_the_smoke_form_trains(name, pretraining_task):
    task = pretraining_task(name)
    config = task.config
    losses = train_two_steps(task, config.training.best_metric)
    # Untrained, so near even odds over the vocabulary.
    assert all(abs(loss - math.log(config.model.vocab_size)) < 0.5 for loss in losses)
    assert losses[0] != losses[1]


def first_state(task):
    adam = Optimizer(task.config)
    params = task.objective.init(jax.random.key(0))
    return TrainState(jnp.zeros((), jnp.int32), params, adam.init(params))


def step_and_batches(task):
    config = task.config
    batches = task.batches("train", batch_size=config.training.batch_size, repeat=True)
    return jit_train_step(config, task.objective, Optimizer(config)), batches


def traced_metrics(task):
    """The names of the metrics of a train step, which is traced and not compiled."""
    step, batches = step_and_batches(task)
    state = jax.eval_shape(functools.partial(first_state, task))
    return jax.eval_shape(step, state, batches.batch_at(0), dropout_key(0))[1].keys()


def train_two_steps(task, loss_name):
    step, batches = step_and_batches(task)
    state = jax.jit(functools.partial(first_state, task))()
    losses = []
    for i in range(2):
        state, metrics = step(state, batches.batch_at(i), dropout_key(0))
        losses.append(metrics[loss_name].mean())
    return losses


@pytest.fixture
def fine_tuning_task(tiny_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return functools.partial(open_fine_tuning, tiny_store, tmp_path)


def open_fine_tuning(tiny_store, tmp_path, name):
    """The task of a smoke form, on files of the names and the form that the configuration gives them."""
    c = get_config(name, "smoke")
    data = from_config_dict(c).data
    for split in (data.train, data.validation, data.test):
        if split:
            labeled_files.write(tmp_path / split, data, numbers=c.task == "regression")
    labeled_files.write_model(tmp_path / c.start_from, tiny_store.tokenizer())
    values, start = open_start(c.to_dict(), tmp_path / "run")
    return open_task(from_config_dict(values), tokenizer=start.tokenizer)


@pytest.mark.parametrize("name", [name for name in FINE_TUNING if name not in TRAINED])
def test_a_step_of_the_smoke_form_of_fine_tuning_is_a_program(name, fine_tuning_task):
    assert "loss" in traced_metrics(fine_tuning_task(name))


@pytest.mark.parametrize("name", trained(FINE_TUNING))
def test_the_smoke_form_fine_tunes(name, fine_tuning_task):
    task = fine_tuning_task(name)
    losses = train_two_steps(task, "loss")
    # Untrained, so near even odds over the labels; in question answering, over the tokens.
    choices = task.config.data.labels or range(round(task.split("train").table.lengths.mean()))
    assert all(abs(loss - math.log(len(choices))) < 0.3 for loss in losses)
    assert losses[0] != losses[1]


VARIANTS = {
    "glue": [
        f"{prefix}{task}"
        for prefix in ("", "tfds_")
        for task in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
    ],
    "xnli": ["ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"],
    "pawsx": ["de", "en", "es", "fr", "ja", "ko", "zh"],
    "mldoc": ["english", "french", "german", "italian", "japanese", "russian", "spanish", "chinese"],
}


@pytest.mark.parametrize(("name", "variant"), [(name, variant) for name in VARIANTS for variant in VARIANTS[name]])
def test_every_variant_is_a_configuration(name, variant):
    config = from_config_dict(get_config(name, variant))
    assert config.training.best_metric == config.data.metrics[0]
    assert isinstance(config.data, LabeledDataConfig)
    assert bool(config.data.labels) == (config.task == "classification")


@pytest.mark.parametrize(
    ("name", "variant"),
    [("tagging", name) for name in ("", "conll2003", "conll2002_es", "conll2002_nl", "ud_pos", "ud_pos_en")]
    + [("squad", "v1"), ("squad", "v2")],
)
def test_every_variant_reads_the_files_that_it_names(name, variant, tiny_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = from_config_dict(get_config(name, variant))
    for source in (config.data.train, config.data.validation, config.data.test):
        if source:
            labeled_files.write(tmp_path / source, config.data)
    task = open_task(config, tokenizer=tiny_store.tokenizer())
    for split in ("train", *config.data.evaluation_splits):
        assert len(task.split(split).table)
    assert task.config.training.best_metric == task.score_names[0]
    assert (task.score_names[0] == "entity_f1") == (name == "tagging")  # all are B-PER, I-PER, O here


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_the_task_of_texts_is_all_that_must_be_given(task):
    """Metrics and what decides are then those of the task: neither stands in the configuration."""
    c = get_config("classification", "")
    c.task = task
    assert not c.data.metrics
    assert c.training.best_metric == "auto"
    usual = TASKS[task].usual_metrics
    assert usual
    assert set(usual) <= TASKS[task].known_scores.keys()

"""What users add from outside: the examples of docs/extending.md as they stand there, and what is refused."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import tx_jax
from configs import classification
from tests import documented, labeled_files, programs
from tests.convert import folders
from tests.models import small
from tx_jax import added, extend, sharding, tree
from tx_jax.config import MeshConfig, from_config_dict, heads, to_dict
from tx_jax.convert import families, model_dir, roberta
from tx_jax.data.pretraining.masking import Choice, Masking
from tx_jax.data.pretraining.targets import UNITS, MaskedTargets, RateSchedule
from tx_jax.data.rng import RowRandom, keys
from tx_jax.errors import InputError
from tx_jax.evaluation import report
from tx_jax.models import registry
from tx_jax.nn.heads import MODULES
from tx_jax.runs.left_open import fill_in
from tx_jax.runs.run_dir import RunDir
from tx_jax.tasks.classification import Classification
from tx_jax.tasks.registry import TASKS, open_task, task_class
from tx_jax.tasks.supervised import Supervised, SupervisedObjective

PAGE = documented.ROOT / "docs/extending.md"
TABLES = (
    heads.HEADS,
    heads.HEAD_OF_MODULE,
    heads.ADDED,
    MODULES,
    TASKS,
    UNITS,
    families.OF_MODEL_TYPE,
    added._module_of,
    added._absent,
)


@pytest.fixture
def forget():
    """Puts all tables back as another process has them, now and after the test."""
    before = [table.copy() for table in TABLES]
    loaded = set(sys.modules)

    def back():
        for table, was in zip(TABLES, before, strict=True):
            table.clear()
            table.update(was)
        for name in set(sys.modules) - loaded:
            if name.startswith("my_"):
                del sys.modules[name]
        registry.forget()

    yield back
    back()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The modules of the page, as a user writes them."""
    folder = tmp_path_factory.mktemp("modules")
    assert documented.modules(PAGE, folder) == ["my_masking", "my_ordinal", "my_family"]
    return folder


@pytest.fixture
def modules(folder, forget, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    return forget


def test_a_block_of_neighbors_is_masked(modules):
    added.load(["my_masking"])
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 99, (200, 40)).astype(np.int32)
    tokens[:, [0, 20, 39]] = 2, 3, 3
    masking = Masking(0.15, 8, 0.8, 0.1, mask_id=4, vocab_size=99, special_ids=(0, 1, 2, 3, 4))
    valid = np.arange(40)[None] < rng.integers(20, 41, (200, 1))
    choice = UNITS["block"](None, tokens, valid, masking, RowRandom(keys(np.arange(200))))
    candidates = masking.candidates(tokens, valid)
    wanted = masking.wanted(valid, candidates)
    np.testing.assert_array_equal(choice.chosen_BT.sum(axis=1), wanted)
    assert not (choice.chosen_BT & ~candidates).any()
    for chosen, may in zip(choice.chosen_BT, candidates, strict=True):
        assert len({*np.diff(np.flatnonzero(chosen[may]))} - {1}) == 0
    begins = choice.chosen_BT.argmax(axis=1)
    assert begins.min() == 1  # anywhere, from the first token on
    assert begins.max() > 20


def test_a_configuration_names_the_module_of_its_masking(modules, smoke_config):
    values = smoke_config.to_dict()
    assert "extensions" not in fill_in(values)[0]
    added.load(["my_masking"])
    values["data"]["mask_unit"] = "block"
    filled, told = fill_in(values)
    assert filled["extensions"] == ("my_masking",)
    assert told == ["extensions=('my_masking',), which add what the configuration names"]
    modules()
    task = open_task(from_config_dict(filled))
    batch = task.batches("train", batch_size=4, repeat=True).batch_at(0)
    places, count = batch["masked_positions"][0], int(batch["masked_weights"][0].sum())
    assert count == places[count - 1] - places[0] + 1 > 1


@pytest.mark.parametrize(
    ("choose", "problem"),
    [
        (
            lambda *given: Choice(given[2], np.zeros(2, int)),
            "'wrong' chooses 40 tokens of a row, but there is room",
        ),
        (lambda *given: Choice(given[1], np.zeros(2, int)), "'wrong' must return a Choice whose chosen_BT is bool"),
        (lambda *given: None, r"chosen_BT is bool \[B, T\], not None"),
    ],
)
def test_a_wrong_choice_is_told(choose, problem, monkeypatch):
    """More than there is room for would become predictions of the next row."""
    monkeypatch.setitem(UNITS, "wrong", choose)
    masking = Masking(0.15, 8, 0.8, 0.1, mask_id=4, vocab_size=99, special_ids=(0, 1, 2, 3, 4))
    targets = MaskedTargets(masking, RateSchedule(0.15, 0.15, 0), unit="wrong")
    batch = {"tokens": np.full((2, 40), 9, np.int32), "valid": np.arange(40)[None] < np.array([[40], [3]])}
    with pytest.raises(InputError, match=problem):
        targets(batch, RowRandom(keys(np.arange(2))), 0)


def test_a_run_that_goes_on_keeps_the_module(modules, smoke_config, tmp_path):
    """Without it in the configuration, and in a process that has not imported it."""
    values = smoke_config.to_dict()
    values["data"]["mask_unit"] = "block"
    added.load(["my_masking"])
    config = from_config_dict(fill_in(values)[0])
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    modules()
    assert fill_in(values, begun=tmp_path)[0]["extensions"] == ("my_masking",)


def test_a_run_is_read_without_the_module_of_its_masking(forget, smoke_config, tmp_path):
    """But not continued, nor are its masks drawn."""
    values = smoke_config.to_dict() | {"extensions": ("my_gone",)}
    with pytest.raises(InputError, match=r"the module 'my_gone', .* cannot be imported: start in the folder"):
        from_config_dict(values)
    values["data"]["mask_unit"] = "block"
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = RunDir(tmp_path).load_config()
    assert config.extensions == ("my_gone",)
    with pytest.raises(InputError, match=r"'block' is not one of .* missing here: the module 'my_gone', .*my_gone\.py"):
        open_task(config).batches("train", batch_size=4, repeat=True)
    with pytest.raises(InputError, match="the module 'my_gone', which adds"):
        fill_in(smoke_config.to_dict(), begun=tmp_path)


def test_a_model_without_the_module_of_its_head(modules, tmp_path):
    added.load(["my_ordinal"])
    config = small.config(heads=("ordinal",), num_labels=5)
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    model_dir.save(model_dir.Model(config, params, None, None), tmp_path / "model")
    modules()
    assert "ordinal" in tx_jax.load(tmp_path / "model").model.heads
    modules()
    sys.path.pop(0)  # the folder of the modules, put back by the fixture
    with pytest.raises(InputError, match=r"'ordinal' is not one of .* missing here: the module 'my_ordinal'"):
        tx_jax.load(tmp_path / "model")


WRONG = {
    "raises": ("raise KeyError('block')", r"what my_wrong adds cannot be used \(choose, line 6 of .*\): KeyError: 'b"),
    "none": ("return None", r"masking unit 'wrong' \(of my_wrong\) must return a Choice"),
    "two lines": ("raise ValueError('one\\ntwo')", "ValueError: one$"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_masking_that_fails_leaves_no_run(forget, smoke_config, tmp_path, monkeypatch, wrong):
    body, problem = WRONG[wrong]
    (tmp_path / "my_wrong.py").write_text(
        "from tx_jax import extend\n\n\n"
        f"def choose(how, tokens, valid, masking, rng):\n    del how\n    {body}\n\n\n"
        "extend.mask_unit('wrong', choose)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    smoke_config.extensions, smoke_config.data.mask_unit = ("my_wrong",), "wrong"
    with pytest.raises(InputError, match=problem):
        tx_jax.train(smoke_config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_head_of_a_wrong_shape_leaves_no_run(forget, stars, tmp_path, monkeypatch):
    (tmp_path / "my_wrong.py").write_text(
        "import flax.linen as nn\n\n"
        "from tx_jax import extend\n"
        "from tx_jax.tasks.classification import Classification, ClassificationObjective\n\n\n"
        "class Wrong(nn.Module):\n"
        "    @nn.compact\n    def __call__(self, x, *, deterministic):\n        return x[:, None, :2]\n\n\n"
        "class Objective(ClassificationObjective):\n    head = 'wrong'\n\n\n"
        "class Task(Classification):\n    objective_class = Objective\n\n\n"
        "extend.head('wrong', extend.Head('pooled', 'labels', supervised=True), lambda config: Wrong())\n"
        "extend.task('wrong', Task)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    stars.extensions, stars.task, stars.model.heads = ("my_wrong",), "wrong", ("wrong",)
    with pytest.raises(InputError, match="what my_wrong adds cannot be used: "):
        tx_jax.train(stars, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["my_masking.py", "mine/my_masking.py", "mine/my_masking"])
def test_a_file_is_no_module(name):
    with pytest.raises(InputError, match=f"extensions='{name}' is a file: give its module, 'my_masking'"):
        added.load([name])


@pytest.mark.long
def test_a_run_names_the_module_of_its_masking(modules, smoke_config, tmp_path, monkeypatch):
    c = smoke_config
    c.data.mask_unit = "block"
    with pytest.raises(InputError, match=r"token, whole_word, span\. If it is one of your own, .* --extensions=MODULE"):
        tx_jax.train(c, tmp_path / "run", progress=False)
    c.extensions = ("my_masking",)
    c.training.update(num_steps=2, eval_every=0, checkpoint_every=2, keep_best=0)
    c.model.num_layers = 1
    first = tx_jax.train(c, tmp_path / "run", progress=False)
    modules()
    del c["extensions"]  # the run has it
    assert tx_jax.load(tmp_path / "run").step == 2
    modules()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sys, "path", sys.path[1:])
        model = tx_jax.load(tmp_path / "run")
        assert model.fill_mask("abcd [MASK]")
        assert model.to_hf(tmp_path / "hf") == "BertForPreTraining"
        with pytest.raises(InputError, match="missing here: the module 'my_masking'"):
            report.evaluate_run(tmp_path / "run")
    c.data.mask_unit = "block"
    assert tx_jax.train(c, tmp_path / "run", progress=False) == first


@pytest.fixture
def stars(tiny_store, tmp_path):
    """A configuration that learns ordered labels."""
    c = classification.get_config("smoke")
    c.task, c.model.heads = "ordinal", ("ordinal",)
    c.data.update(train=str(tmp_path / "stars.csv"), labels=("1", "2", "3", "4", "5"), validation_fraction=0.3)
    labeled_files.write(tmp_path / "stars.csv", from_config_dict(classification.get_config()).data, count=40)
    lines = (tmp_path / "stars.csv").read_text().splitlines()
    (tmp_path / "stars.csv").write_text(
        "\n".join([lines[0], *(f"{x[:-1]}{i % 5 + 1}" for i, x in enumerate(lines[1:]))])
    )
    labeled_files.write_model(tmp_path / "model", tiny_store.tokenizer())
    c.start_from = str(tmp_path / "model")
    c.training.update(num_steps=2, num_epochs=0.0, eval_every=0, checkpoint_every=2, keep_best=0)
    return c


def test_a_head_of_ones_own_gives_probabilities_in_order(modules):
    added.load(["my_ordinal"])
    config = small.config(heads=("ordinal",), num_labels=5)
    params, tokens = small.params(config), np.array([[2, 9, 3], [2, 7, 3]])
    valid = np.ones_like(tokens, bool)

    def chances(shift):
        score = params["ordinal"]["score"] | {"bias": params["ordinal"]["score"]["bias"] + shift}
        changed = params | {"ordinal": params["ordinal"] | {"score": score}}
        output = registry.build(config).apply({"params": changed}, tokens, valid_BT=valid, deterministic=True)
        return np.exp(output.logits["ordinal"])

    np.testing.assert_allclose(chances(0.0).sum(axis=1), 1, rtol=1e-5)
    means = [(chances(shift) * np.arange(5)).sum(axis=1) for shift in (-1.0, 0.0, 1.0)]
    assert (np.diff(means, axis=0) > 0).all()  # a higher score, more stars
    assert TASKS["ordinal"].objective_class.head == "ordinal"


@pytest.mark.long
def test_ordered_labels_on_a_head_of_ones_own(modules, stars, tmp_path):
    added.load(["my_ordinal"])
    found = tx_jax.train(stars, tmp_path / "run", progress=False)
    assert {"loss", "accuracy", "labels_off"} <= found["validation"].keys()
    assert json.loads((tmp_path / "run/config.json").read_text())["extensions"] == ["my_ordinal"]
    modules()
    model = tx_jax.load(tmp_path / "run")
    assert "classify" in model.can
    (one,) = model.classify(["cat dog"])
    assert sum(one[f"probability_{n}"] for n in range(1, 6)) == pytest.approx(1, abs=1e-6)
    assert {path for path in tree.flatten(model.params) if path.startswith("ordinal/")} == {
        "ordinal/score/kernel",
        "ordinal/score/bias",
        "ordinal/gaps",
    }
    model.save(tmp_path / "saved")
    modules()
    again = tx_jax.load(tmp_path / "saved")
    tokens = np.array([[2, 9, 3]])
    np.testing.assert_array_equal(
        again.apply(again.params, tokens).logits["ordinal"], model.apply(model.params, tokens).logits["ordinal"]
    )
    with pytest.raises(InputError, match=r"transformers has no class .* head 'ordinal'"):
        again.to_hf(tmp_path / "hf")


def test_every_device_holds_such_a_head_whole(modules):
    added.load(["my_ordinal"])
    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=-1, tensor=1))
    for path in ("ordinal/score/kernel", "0/mu/ordinal/gaps"):
        assert sharding.param_sharding(mesh, path, (7,)).is_fully_replicated


def test_a_family_of_ones_own(modules, tmp_path):
    added.load(["my_family"])
    family = families.OF_MODEL_TYPE["roberta-prelayernorm"]
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    config = family.read_config(sizes | {"vocab_size": 50, "max_position_embeddings": 20}, heads=("masked_lm",))
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    model_dir.save(model_dir.Model(config, params, None, None), tmp_path / "model")
    model = tx_jax.load(tmp_path / "model")
    assert model.to_hf(tmp_path / "hf") == "RobertaPreLayerNormForMaskedLM"
    names = set(folders.tensors(tmp_path / "hf"))
    assert {  # as transformers names them
        "roberta_prelayernorm.embeddings.LayerNorm.weight",
        "roberta_prelayernorm.encoder.layer.1.attention.LayerNorm.bias",
        "roberta_prelayernorm.encoder.layer.1.attention.output.dense.weight",
        "roberta_prelayernorm.encoder.layer.1.intermediate.LayerNorm.weight",
        "roberta_prelayernorm.encoder.layer.1.output.dense.bias",
        "roberta_prelayernorm.LayerNorm.weight",
        "lm_head.layer_norm.weight",
    } <= names
    assert not any(name.startswith("roberta.") for name in names)
    back = tx_jax.load(tmp_path / "hf")
    assert back.model == model.model
    for path, value in tree.flatten(back.params).items():
        np.testing.assert_array_equal(value, params[path])
    modules()
    with pytest.raises(InputError, match="'roberta-prelayernorm', which is not supported"):
        tx_jax.load(tmp_path / "hf")


def test_what_a_notebook_added_is_missed_elsewhere(forget, smoke_config):
    values = smoke_config.to_dict() | {"task": "mine", "extensions": ("__main__",)}
    with pytest.raises(InputError, match=r"task='mine' is not one of .* It was added in a notebook or a script"):
        task_class(from_config_dict(values))


class NoLoss(SupervisedObjective):
    head = "sequence_classification"


class Bare(Supervised):
    objective_class = NoLoss


class OtherHead(Classification):
    objective_class = type("Objective", (Classification.objective_class,), {"head": "ordnal"})


class NoObjective(Classification):
    objective_class = "loss"


def family(**changes):
    extend.family(dataclasses.replace(roberta.FAMILY, **({"model_types": {"mine": "Mine"}} | changes)))


def three(a, b, c): ...


def five(a, b, c, d, e): ...


HEAD = extend.Head("pooled", 3)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: extend.mask_unit("span", five), "masking unit 'span': tx_jax has one with this name"),
        (lambda: extend.mask_unit("mine", three), r"must take \(how, tokens, valid, masking, rng\)"),
        (lambda: extend.mask_unit("two words", five), "a name is a text without spaces"),
        (lambda: extend.head("pooled", HEAD), "head 'pooled': tx_jax has one"),
        (lambda: extend.head("encoder", HEAD), "other than embeddings, encoder"),
        (lambda: extend.head("mine", HEAD, "Dense"), "head 'mine': 'Dense' is no Flax module"),
        (lambda: extend.head("mine", "pooled"), "head 'mine': 'pooled' is no tx_jax.extend.Head"),
        (lambda: extend.head("mine", extend.Head("first", 3)), "reads='first' must be 'pooled' or 'tokens'"),
        (lambda: extend.head("mine", extend.Head("pooled", "vocabulary")), "must be a number or 'labels'"),
        (lambda: extend.head("mine", extend.Head("pooled", 3, ("cnn",))), "must be some of 'encoder', 'decoder'"),
        (lambda: extend.task("classification", Classification), "task 'classification': tx_jax has one"),
        (lambda: extend.task("mine", HEAD), "must be a subclass of tx_jax.tasks.supervised.Supervised"),
        (lambda: extend.task("mine", Bare), "task 'mine': Bare lacks baselines, encode, predictions, scores"),
        (lambda: extend.task("mine", OtherHead), r"Objective\.head='ordnal' is no head: there are .*extend\.head"),
        (lambda: extend.family("bert"), "'bert' is no tx_jax.convert.family.Family"),
        (lambda: extend.family(families.FAMILIES[0]), "model family 'bert': tx_jax has one"),
        (lambda: extend.mask_unit("mine", 5), r"5 must take \(how, tokens, valid, masking, rng\)"),
        (lambda: extend.mask_unit("mine", min), "must take"),
        (lambda: extend.mask_unit(5, five), "masking unit 5: a name is a text"),
        (lambda: extend.head("mine", extend.Head("pooled", 0)), "outputs=0 must be a number or 'labels'"),
        (lambda: extend.head("mine", extend.Head("pooled", True)), "outputs=True must be a number or 'labels'"),
        (
            lambda: extend.head("mine", extend.Head("pooled", 3, ["encoder"])),
            r"\['encoder'\] must be tuple\[str, \.\.\.\]",
        ),
        (lambda: extend.head("mine", extend.Head("pooled", 3, supervised="yes")), "supervised='yes' must be bool"),
        (lambda: extend.head("mine", HEAD, five), "must take one argument, the model's configuration"),
        (lambda: extend.task("mine", NoObjective), r"NoObjective\.objective_class='loss' must be a subclass of"),
        (lambda: family(model_types=["mine"]), r"model_types=\['mine'\] must be Mapping\[str, str\]"),
        (lambda: family(model_types={"mine": 3}), r"model_types=\{'mine': 3\} must be Mapping\[str, str\]"),
        (
            lambda: family(classes={"masked_lm": "ForMaskedLM"}),
            r"classes=.* must be Mapping\[tuple\[str, \.\.\.\], str\]",
        ),
        (lambda: family(prefix=None), "prefix=None must be str"),
        (lambda: family(fields=[*roberta.FAMILY.fields]), r"fields=\[.* must be tuple\[Field, \.\.\.\]"),
        (lambda: family(rules=[]), r"rules=\[\] must be a function"),
        (lambda: family(renames=("a", "b")), r"renames=.* must be tuple\[tuple\[str, str\], \.\.\.\]"),
        (lambda: family(model_types={"mine": "Mine", "bert": "Bert"}), "model family 'bert': tx_jax has one"),
    ],
)
def test_what_is_refused(forget, call, problem):
    before = [table.copy() for table in TABLES]
    with pytest.raises(InputError, match=problem):
        call()
    assert [table.copy() for table in TABLES] == before


def test_a_name_belongs_to_one_module(forget, tmp_path, monkeypatch):
    for name in ("my_one", "my_other"):
        text = "from tx_jax import extend\nextend.mask_unit('mine', lambda a, b, c, d, e: None)\n"
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "my_broken.py").write_text("import tx_jax.nothing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    added.load(["my_one"])
    first = UNITS["mine"]
    with pytest.raises(InputError, match=r"'my_other' .*: masking unit 'mine': my_one has one with this name"):
        added.load(["my_other"])
    del sys.modules["my_one"]
    added.load(["my_one"])  # as a notebook's cell that runs again
    assert UNITS["mine"] is not first
    with pytest.raises(
        InputError, match=r"'my_gone', .* cannot be imported: start in the folder that holds my_gone\.py"
    ):
        added.load(["my_gone"])
    with pytest.raises(InputError, match=r"'my_broken', .*: ModuleNotFoundError: No module named 'tx_jax\.nothing'"):
        added.load(["my_broken"])
    (tmp_path / "my_exit.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(InputError, match=r"'my_exit', .*: SystemExit: 0"):
        added.load(["my_exit"])
    with pytest.raises(InputError, match="a file that other processes cannot import"):
        exec(text.replace("mine", "theirs"), {"__name__": "config_under_check"})


def test_a_head_that_is_added_again_counts(forget):
    for outputs in (3, 5):
        extend.head("mine", extend.Head("pooled", outputs))
        config = small.config(heads=("mine",))
        assert registry.param_shapes(config)["mine"]["kernel"].shape[1] == outputs


@pytest.mark.long
def test_another_process_finds_the_module_or_says_which(folder, stars, tmp_path):
    """Trains, predicts and evaluates by commands."""
    where = {"PYTHONPATH": str(folder)}
    flags = [f"--config.data.{key}={getattr(stars.data, key)}" for key in ("train", "labels", "validation_fraction")]
    train = [
        "--config=configs/classification.py:smoke",
        "--config.task=ordinal",
        "--config.model.heads=('ordinal',)",
        f"--config.start_from={stars.start_from}",
        *flags,
        "--config.training.num_steps=4",
        "--config.training.eval_every=4",
        "--config.training.checkpoint_every=4",
        f"--workdir={tmp_path / 'run'}",
    ]
    done = programs.run("experiments.train", *train, "--extensions=my_ordinal", environment=where)
    assert done.returncode == 0, done.stderr
    assert "extensions=('my_ordinal',)" in done.stdout
    files = f"--input={stars.data.train}", f"--output={tmp_path / 'predicted.csv'}"
    predict = f"--model={tmp_path / 'run'}", *files
    done = programs.run("experiments.predict", *predict, environment=where)
    assert done.returncode == 0, done.stderr
    assert "probability_5" in (tmp_path / "predicted.csv").read_text()
    done = programs.run("experiments.predict", *predict)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the module 'my_ordinal', which adds what is asked for (extensions), cannot be imported" in done.stderr


def test_the_library_says_of_its_own_what_it_asks_of_others():
    for of in families.FAMILIES:
        extend._check_fields("family", of)
    for row in heads.HEADS.values():
        extend._check_fields("head", row)

"""The front door: each method does what the functions of the library do, and says what it cannot."""

import dataclasses
import inspect
import subprocess
import sys

import jax
import numpy as np
import pytest

import tx_jax
from tests import labeled_files
from tests.decoding import models as decoders
from tests.interpret import models as small
from tx_jax import api, decoding, tree
from tx_jax.config import from_config_dict
from tx_jax.convert import model_dir
from tx_jax.errors import InputError
from tx_jax.evaluation.fill_mask import fill_mask

TEXT = "the cat sits by the river"


def saved(path, trained):
    """The model as a folder, opened again by the front door."""
    params = {name: np.asarray(x) for name, x in tree.flatten(trained.params).items()}
    model_dir.save(model_dir.Model(trained.model, params, trained.tokenizer, None), path)
    return tx_jax.load(path)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("bert") / "model", small.model("BERT"))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("gpt") / "model", decoders.model("gpt2"))


def labeled(folder, tokenizer, head, **changes):
    labeled_files.write_model(folder / head, tokenizer, heads=(head,), **changes)
    return tx_jax.load(folder / head)


def test_importing_it_imports_no_jax():
    code = "import sys, tx_jax, tx_jax.text; assert 'load' in dir(tx_jax); print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'lod'; it has Model, get_config, load, train"):
        _ = tx_jax.lod


def test_every_name_says_what_it_does():
    for name in tx_jax.__all__:
        assert inspect.getdoc(getattr(tx_jax, name))
    for name, method in vars(tx_jax.Model).items():
        assert name.startswith("_") or inspect.getdoc(method), name


def test_masks_and_vectors(bert):
    assert bert.can == ("fill_mask", "encode", "capture")
    assert bert.fill_mask("the [MASK] sits", top=3) == fill_mask(bert, "the [MASK] sits", top=3)
    vectors = bert.encode([TEXT, "a dog", TEXT])
    assert vectors.shape == (3, bert.model.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-5)
    names = ["encoder/layer_0/attention/probabilities", "encoder/output"]
    (found,) = bert.capture([TEXT], names)
    np.testing.assert_allclose(found[names[0]].sum(-1), 1, rtol=1e-5)
    mean = found["encoder/output"].mean(0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)


def test_it_is_a_pure_function_of_its_parameters(bert):
    ids = np.array([[2, 6, 7, 3]])
    step = jax.jit(lambda params: bert.apply(params, ids).hidden.sum())
    assert step(bert.params) != step(jax.tree.map(lambda x: x * 1.1, bert.params))


@pytest.mark.parametrize(
    ("tokens", "inputs", "problem"),
    [
        ([[2, 6], [2]], {}, r"tokens_BT is no array: give \[B, T\], rows of equal length, padded, with valid_BT"),
        ([2, 6], {}, r"tokens_BT has the shape \(2,\): give \[B, T\]"),
        (np.zeros((1, 0), int), {}, "tokens_BT has rows without a token"),
        ([[2.0, 6.0]], {}, "tokens_BT is of float64: give int32"),
        (["the cat"], {}, r"tokens_BT has the shape \(1,\)"),
        ([[2, -1]], {}, r"tokens_BT\[0, 1\]=-1 must be from 0 to"),
        ([[2, 6], [999, 6]], {}, r"tokens_BT\[1, 0\]=999 must be from 0 to .* \(model\.vocab_size="),
        (np.full((1, 999), 6), {}, "tokens_BT has rows of 999 tokens, but the model takes at most"),
        ([[2, 6]], {"valid_BT": [[True]]}, r"valid_BT has the shape \(1, 1\), but tokens_BT \(1, 2\): give one for"),
        ([[2, 6]], {"valid_BT": [[1, 1]]}, r"valid_BT is of int64: give bool, .* valid_BT\.astype\(bool\)"),
        ([[2, 6]], {"segments_BT": [[0, 2]]}, r"segments_BT\[0, 1\]=2 must be from 0 to 1 \(model\.num_segments=2"),
        ([[2, 6]], {"segments_BT": [[0.0, 1.0]]}, "segments_BT is of float64: give int32"),
        ([[2, 6]], {"positions_BT": [[0, 999]]}, r"positions_BT\[0, 1\]=999 must be"),
        ([[2, 6]], {"masked_positions_BP": [[2]]}, r"masked_positions_BP\[0, 0\]=2 must be from 0 to 1 \(the rows'"),
        ([[2, 6]], {"masked_positions_BP": [0]}, r"masked_positions_BP has the shape \(1,\): give \[1, P\]"),
        ([[2, 6]], {"valid": [[True, True]]}, "the model takes no 'valid', but .* Did you mean 'valid_BT'"),
    ],
)
def test_what_a_model_is_not_applied_to(bert, tokens, inputs, problem):
    with pytest.raises(InputError, match=f"^apply: {problem}"):
        bert.apply(bert.params, tokens, **inputs)
    if isinstance(tokens, np.ndarray):  # shapes are known under jit too
        with pytest.raises(InputError, match=f"^apply: {problem}"):
            jax.eval_shape(lambda ids: bert.apply(bert.params, ids), tokens)


def test_values_that_are_traced_are_not_checked(bert):
    found = jax.jit(lambda ids: bert.apply(bert.params, ids).hidden)(np.array([[2, 6, 999]]))
    last = np.array([[2, 6, bert.model.vocab_size - 1]])
    np.testing.assert_allclose(found, bert.apply(bert.params, last, valid_BT=None).hidden, rtol=1e-5, atol=1e-6)


def test_a_decoder_goes_on(gpt):
    assert gpt.can == ("generate", "encode", "capture")
    options = {"max_new_tokens": 5, "temperature": 0}
    (expected,) = decoding.generate(gpt, ["the cat"], decoding.Options(**options))
    assert gpt.generate("the cat", **options) == expected.text
    with pytest.raises(InputError, match="generate: there is no option 'max_tokens'; there are"):
        gpt.generate("the cat", max_tokens=5)
    with pytest.raises(InputError, match="gives one sequence"):
        gpt.generate("the cat", num_return_sequences=2)


def test_an_encoder_decoder_translates(tmp_path):
    model = saved(tmp_path / "model", decoders.model("seq2seq_pre", "unigram"))
    assert model.can == ("translate", "encode", "capture")
    beams = decoding.Options(num_beams=4, length_penalty=0.6, length_normalization="gnmt", max_new_tokens=4)
    assert model.translate("the cat", max_new_tokens=4) == decoding.generate(model, ["the cat"], beams)[0].text
    greedy = decoding.Options(temperature=0, max_new_tokens=4)
    found = model.translate("the cat", num_beams=1, max_new_tokens=4)
    assert found == decoding.generate(model, ["the cat"], greedy)[0].text
    source, valid = np.array([[5, 6]]), np.ones((1, 2), bool)
    with pytest.raises(InputError, match="an encoder-decoder needs target_tokens_BT, target_valid_BT as well"):
        model.apply(model.params, source, valid_BS=valid)
    two = {"target_tokens_BT": np.ones((2, 3), int), "target_valid_BT": np.ones((2, 3), bool)}
    with pytest.raises(InputError, match="tokens_BS has 1 rows, but target_tokens_BT 2"):
        model.apply(model.params, source, valid_BS=valid, **two)
    wrong = {"target_tokens_BT": np.array([[9999]]), "target_valid_BT": np.ones((1, 1), bool)}
    with pytest.raises(InputError, match=r"target_tokens_BT\[0, 0\]=9999 must be"):
        model.apply(model.params, source, valid_BS=valid, **wrong)
    with pytest.raises(InputError, match=r"prompts='the cat' is one text: give a list"):
        decoding.generate(model, "the cat", greedy)
    with pytest.raises(InputError, match="batch_size=0: give a number of sequences"):
        decoding.generate(model, ["the cat"], greedy, batch_size=0)


def test_labels_of_texts_words_and_answers(tiny_store, tmp_path):
    tokenizer = tiny_store.tokenizer()
    classifier = labeled(tmp_path, tokenizer, "sequence_classification", num_labels=3)
    one, two = classifier.classify(["abcd efgh", "b"])
    assert one["prediction"] in ("LABEL_0", "LABEL_1", "LABEL_2")
    assert sum(one[f"probability_LABEL_{i}"] for i in range(3)) == pytest.approx(1)
    assert one != two
    (pair,) = classifier.classify([("abcd efgh", "b")])
    assert pair != one
    tagger = labeled(tmp_path, tokenizer, "token_classification", num_labels=3)
    assert [word for word, _, _ in tagger.tag(["abcd", "efgh"])] == ["abcd", "efgh"]
    reader = labeled(tmp_path, tokenizer, "question_answering")
    answer = reader.answer("abcd?", "efgh abcd efgh")
    assert answer["prediction"] in "efgh abcd efgh"


class Series:
    """What pandas' has of a column of texts."""

    ndim = 1

    def __init__(self, values):
        self.values = values

    def tolist(self):
        return list(self.values)


@pytest.mark.parametrize("kind", [np.array, tuple, Series])
def test_columns_of_tables_are_lists(bert, tiny_store, tmp_path, kind):
    texts = ["abcd", "efgh"]
    np.testing.assert_array_equal(bert.encode(kind(texts)), bert.encode(texts))
    names = ["encoder/output"]
    assert len(bert.capture(kind(texts), kind(names), targets=kind([]) if kind is tuple else ())) == 2
    classifier = labeled(tmp_path, tiny_store.tokenizer(), "sequence_classification", num_labels=2)
    assert classifier.classify(kind(texts)) == classifier.classify(texts)
    pairs = [("abcd", "b"), ("efgh", "b")]
    assert classifier.classify(np.array(pairs)) == classifier.classify(pairs)


def test_what_is_saved_has_the_present_parameters(bert, tmp_path):
    changed = dataclasses.replace(bert, params=jax.tree.map(lambda x: x * 0.5, bert.params))
    changed.save(tmp_path / "saved")
    again = tx_jax.load(tmp_path / "saved")
    for path, value in tree.flatten(again.params).items():
        np.testing.assert_array_equal(value, np.asarray(tree.flatten(bert.params)[path]) * np.float32(0.5))
    with pytest.raises(InputError, match="exists"):
        changed.save(tmp_path / "saved")
    assert changed.to_hf(tmp_path / "hf").startswith("Bert")
    back = tx_jax.load(tmp_path / "hf")
    np.testing.assert_allclose(back.encode([TEXT]), again.encode([TEXT]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "arguments", "problem"),
    [
        ("classify", (["a"],), "cannot classify: its heads are .*; it can fill_mask, encode, capture"),
        ("fill_mask", (["a [MASK]"],), r"fill_mask takes a text, not \['a \[MASK\]'\] \(list\)"),
        ("fill_mask", (None,), r"fill_mask takes a text, not None \(NoneType\)"),
        ("encode", ("a text",), r"encode takes a list, not 'a text' \(str\): give \[...\]"),
        ("encode", ([],), "encode: the list is empty"),
        ("encode", (["a", "b \ud800"],), r"encode, text 2: '\\ud800' at 2 is half a character"),
        ("fill_mask", ("\ud800 [MASK]",), r"fill_mask: '\\ud800' at 0 is half a character"),
        ("encode", (["a", None],), r"encode, text 2: None is no text"),
        ("capture", (["cat"], ["encoder/layer_9/output"]), "there is no activation 'encoder/layer_9/output'"),
        ("capture", (["cat"], ["encoder/layer_1/outputs"]), "Did you mean 'encoder/layer_1/output'"),
        ("fill_mask", ("word " * 1000,), r"^no \[MASK\] in .{80}$"),
        ("capture", (["cat"], "encoder/layer_0/output"), "capture, names takes a list, not 'encoder/layer_0/output'"),
        ("capture", (["cat"], [3]), r"capture, names, text 1: 3 is no text \(int\)"),
        ("encode", (iter(["a"]),), r"encode takes a list, not .* \(list_iterator\): give list\(\.\.\.\) of it"),
        ("encode", ({"a": 1},), r"encode takes a list, not \{'a': 1\} \(dict\): give \[\.\.\.\]"),
        ("encode", (np.array([["a", "b"]]),), "encode takes a list, .*with 2 axes: give one column of it"),
        ("encode", (np.array("a"),), r"encode takes a list, not array\('a'"),
        ("encode", (np.array(["a", None]),), "encode, text 2: None is no text"),
        ("encode", (np.array([]),), "encode: the list is empty"),
        ("save", (None,), r"path=None is no path \(NoneType\): give a text or a pathlib.Path"),
    ],
)
def test_bad_input(bert, method, arguments, problem):
    with pytest.raises(InputError, match=problem):
        getattr(bert, method)(*arguments)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pooling": "max"}, "pooling='max': there are mean, first, last"),
        ({"layers": -1}, r"layers=-1: give a list of numbers, such as \[-1\]"),
        ({"layers": ()}, r"layers=\(\): give a list of numbers"),
        ({"layers": [9]}, "there is no layer 9"),
        ({"layers": [True]}, r"layers=\[True\]: give a list of numbers"),
        ({"batch_size": 0}, "batch_size=0: give a number of rows, 1 or more"),
        ({"batch_size": -1}, "batch_size=-1: give a number"),
        ({"batch_size": 1.5}, r"batch_size=1\.5: give a number"),
        ({"batch_size": True}, "batch_size=True: give a number"),
    ],
)
def test_what_is_no_vector(bert, options, problem):
    with pytest.raises(InputError, match=problem):
        bert.encode(["cat"], **options)


@pytest.mark.parametrize("top", [0, -1, "3", 2.5, True])
def test_how_many_tokens_fill_a_mask(bert, top):
    with pytest.raises(InputError, match="give a number of tokens, 1 or more"):
        bert.fill_mask("a [MASK]", top=top)


@pytest.mark.parametrize("text", [None, ["a", "b", "c"], 3, "\udfff"])
def test_a_text_to_classify_must_be_one_or_two(tiny_store, tmp_path, text):
    classifier = labeled(tmp_path, tiny_store.tokenizer(), "sequence_classification", num_labels=2)
    with pytest.raises(InputError, match="classify, text 2"):
        classifier.classify(["a", text])


def test_no_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"it has no config\.json and no model\.json"):
        tx_jax.load(tmp_path)


@pytest.mark.parametrize("name", [None, ["bert"], 3, ""])
def test_what_is_no_name_of_a_model(name):
    with pytest.raises(InputError, match=r"^model="):
        tx_jax.load(name)


def test_one_head_is_given_in_a_list(tmp_path):
    with pytest.raises(InputError, match=r"heads='masked_lm': give a list, such as \['masked_lm'\]"):
        tx_jax.load(tmp_path, heads="masked_lm")


@pytest.mark.parametrize("average", [0, -1, "5", True, 2.0])
def test_a_mean_is_of_some_checkpoints(average, tmp_path):
    """Of none it would be NaN."""
    with pytest.raises(InputError, match=f"average={average!r}: give the number"):
        tx_jax.load(tmp_path, average=average)


@pytest.mark.parametrize("step", ["3", True, 2.0])
def test_what_is_no_step(step, tmp_path):
    with pytest.raises(InputError, match=f"step={step!r}: give the number of a checkpoint's step"):
        tx_jax.load(tmp_path, step=step)


def test_a_configuration_to_train_is_whole(tmp_path):
    with pytest.raises(InputError, match="the configuration lacks data, model, training"):
        tx_jax.train({}, tmp_path)


@pytest.mark.parametrize("config", [None, "bert_base"])
def test_what_is_no_configuration_to_train(config, tmp_path):
    with pytest.raises(InputError, match=f"train takes a configuration, not {config!r}"):
        tx_jax.train(config, tmp_path)


@pytest.mark.parametrize("workdir", ["file", "file/run"])
def test_a_run_needs_a_folder(bert, smoke_config, tmp_path, workdir):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"^workdir=.*/file is not a folder: give another folder"):
        tx_jax.train(smoke_config, tmp_path / workdir, progress=False)
    for write in (bert.save, bert.to_hf):
        with pytest.raises(InputError, match=r"file is not a folder: give another|file exists and is not empty"):
            write(tmp_path / workdir)
    assert (tmp_path / "file").read_text() == "mine"


def test_training_from_python(smoke_config, tmp_path):
    smoke_config.training.update(num_steps=4, eval_every=2, checkpoint_every=2)
    smoke_config.model.num_layers = 1
    whole = tx_jax.train(smoke_config, tmp_path / "run", progress=False)
    assert {"masked_lm_loss", "next_sentence_accuracy"} <= whole["validation"].keys()
    assert (tmp_path / "run/loss.png").stat().st_size
    assert tx_jax.load(tmp_path / "run").step == 4
    assert tx_jax.train(smoke_config.to_dict(), tmp_path / "run", progress=False) == whole  # it is complete
    smoke_config.optimizer.frozen = ("nothing/",)
    with pytest.raises(InputError, match=r"optimizer\.frozen"):
        tx_jax.train(smoke_config, tmp_path / "bad", progress=False)
    assert not (tmp_path / "bad/config.json").exists()


def test_the_bar_is_a_line_that_few_updates_write_over(capsys):
    losses = {"causal_lm_loss": 0.5, "translation_loss": 1.0, "word_loss": 2.0, "bleu": 30.0}
    with api._Progress(4, shown=True) as bar:
        for step in (2, 4):
            bar.train(step, {"loss": 1.5})
            bar.evaluation(step, losses)
    shown = capsys.readouterr().err.strip().split("\r")
    assert "loss=1.5, held-out causal_lm_loss=0.5" in shown[-1]
    assert "word_loss" not in shown[-1]
    assert len(shown) <= 4  # at the start, at each of two steps, at the end
    with api._Progress(4, shown=True) as bar:
        bar.evaluation(4, {"loss": 0.25, "accuracy": 1.0})
    assert "held-out loss=0.25" in capsys.readouterr().err


def test_fine_tuning_from_python_gives_every_split(tiny_store, tmp_path, monkeypatch):
    from configs import classification

    monkeypatch.chdir(tmp_path)
    c = classification.get_config("smoke")
    c.data.update(train="train.csv", validation="validation.csv", test="")
    for split in ("train", "validation"):
        labeled_files.write(tmp_path / f"{split}.csv", from_config_dict(c).data)
    labeled_files.write_model(tmp_path / "model", tiny_store.tokenizer())
    c.start_from = str(tmp_path / "model")
    c.training.update(num_steps=2, num_epochs=0.0)
    found = tx_jax.train(c, "run", progress=False)
    assert found.keys() == {"validation"}
    assert "accuracy" in found["validation"]
    (one,) = tx_jax.load("run").classify(["abcd"])
    assert one["prediction"] in tx_jax.load("run").labels

"""`experiments.interpret` and `experiments.embed` as a user runs them, on small models with random parameters."""

import csv
import json

import numpy as np
import pytest

from tests import programs
from tests.interpret import models
from tx_jax import tree
from tx_jax.convert import model_dir
from tx_jax.interpret import store


def run(module, *arguments, **options):
    return programs.run(f"experiments.{module}", *arguments, **options)


def save(path, name, **changes):
    made = models.model(name, **changes)
    params = {key: np.asarray(value) for key, value in tree.flatten(made.params).items()}
    model_dir.save(model_dir.Model(made.model, params, made.tokenizer, None), path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "bert", "BERT")


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "gpt", "GPT")


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "pooled", "BERT", heads=("pooled",))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "short.jsonl"
    path.write_text('{"words": ["the", "cat"], "tags": ["DET"]}\n' * 2)
    return path


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def done(word, *arguments, cwd):
    result = run("interpret", word, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("source", ["in.csv", pytest.param("in.jsonl", marks=pytest.mark.long)])
def test_texts_become_vectors_in_their_order(bert, source, tmp_path):
    texts = ["the cat", "the old dog stands by the river", "a bank", "the old dog stands by the river", "the cat"]
    with (tmp_path / "in.csv").open("w") as file:
        csv.writer(file).writerows([["body"], *[[text] for text in texts]])
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    arguments = [f"--model={bert}", f"--input={source}", "--text=body", "--output=v.npy"]
    result = run("embed", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "5 vectors of width 16: v.npy" in result.stdout
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:2], found[:2:-1], atol=1e-6)
    assert np.linalg.norm(found[1:3] - found[:2], axis=1).min() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_a_file_without_names_of_columns_and_one_with_an_empty_line(bert, tmp_path):
    """Row N of the vectors is line N of the file, or it is an error."""
    (tmp_path / "in.csv").write_text("1,the cat\n0,a dog\n")
    arguments = [f"--model={bert}", "--input=in.csv", "--text=body", "--output=v.npy"]
    assert run("embed", *arguments, "--columns=label,body", cwd=tmp_path).returncode == 0
    assert np.load(tmp_path / "v.npy").shape == (2, 16)
    (tmp_path / "in.txt").write_text("the cat\n\na dog\n")
    result = run("embed", f"--model={bert}", "--input=in.txt", "--output=w.npy", cwd=tmp_path)
    assert result.returncode == 2
    assert "take them out, so that row N of w.npy is line N of in.txt" in result.stderr
    assert not (tmp_path / "w.npy").exists()


@pytest.mark.long
def test_a_text_that_is_too_long_is_refused_before_anything_is_written(bert, tmp_path):
    (tmp_path / "long.txt").write_text("the cat\n" + "the cat " * 20 + "\n")
    result = run("embed", f"--model={bert}", "--input=long.txt", "--output=w.npy", cwd=tmp_path)
    assert result.returncode == 2
    assert "text 2 has 42 tokens, but the model takes at most 24" in result.stderr
    assert not (tmp_path / "w.npy").exists()
    result = run("embed", f"--model={bert}", "--input=long.txt", "--output=w.npy", "--truncate", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "w.npy").shape == (2, 16)


@pytest.mark.long
def test_neighbors(bert, tmp_path):
    said = done(
        "neighbors", f"--model={bert}", "--text=the cat", "--text=a dog", "--text=the cat sits", "--top=1", cwd=tmp_path
    )
    assert "Written: neighbors.png, neighbors.csv" in said
    rows = table(tmp_path / "neighbors.csv")
    assert [(row["text"], row["rank"]) for row in rows] == [("the cat", "1"), ("a dog", "1"), ("the cat sits", "1")]
    assert all(row["neighbor"] != row["text"] for row in rows)


@pytest.mark.long
def test_positions_need_no_model(tmp_path):
    said = done("positions", "--length=12", "--out=p.svg,p.npz", cwd=tmp_path)
    assert "0.8600" in said
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    assert np.load(tmp_path / "p.npz")["the paper's formula"].shape == (12, 512)


@pytest.mark.long
def test_attention_as_a_page_a_picture_and_numbers(bert, tmp_path):
    pair = ["--text=the cat sits", "--text_pair=a dog"]
    done("attention", f"--model={bert}", *pair, "--out=view.html,heads.png,w.npz", cwd=tmp_path)
    assert (tmp_path / "view.html").read_text().startswith("<!doctype html>")
    assert np.load(tmp_path / "w.npz")["encoder, self-attention/weights"].shape == (2, 2, 8, 8)
    done("attention", f"--model={bert}", *pair, "--layers=1", "--heads=0", "--out=head.svg", cwd=tmp_path)
    assert "layer 1, head 0" in (tmp_path / "head.svg").read_text()


TREEBANK = """\
1\tthe\tthe\tDET\t_\t_\t2\tdet\t_\t_
2\tcat\tcat\tNOUN\t_\t_\t3\tnsubj\t_\t_
3\tsits\tsit\tVERB\t_\t_\t0\troot\t_\t_

1\told\told\tADJ\t_\t_\t2\tamod\t_\t_
2\tdog\tdog\tNOUN\t_\t_\t0\troot\t_\t_
"""


@pytest.fixture
def treebank(tmp_path):
    (tmp_path / "t.conllu").write_text(TREEBANK)
    return "t.conllu"


def test_heads_of_a_treebank(bert, treebank, tmp_path):
    said = done("heads", f"--model={bert}", f"--data={treebank}", cwd=tmp_path)
    assert "baseline, always the word at +1: 1.0000" in said
    rows = table(tmp_path / "heads.csv")
    assert [(row["layer"], row["head"]) for row in rows] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert {"syntactic head", "entropy", "previous"} <= rows[0].keys()


@pytest.mark.long
def test_the_lens_of_a_decoder(gpt, tmp_path):
    said = done("lens", f"--model={gpt}", "--text=the cat sits", "--top=2", cwd=tmp_path)
    assert "3 predictions" in said
    rows = table(tmp_path / "lens.csv")
    assert len(rows) == 3 * 3
    assert {row["rank of the last's word"] for row in rows if row["layer"] == "2"} == {"1"}
    assert all(len(row["likeliest"].split()) == 2 for row in rows)


@pytest.mark.long
def test_patching_a_pair(bert, tmp_path):
    pair = ["--text=the cat [MASK] on", "--donor=the dog [MASK] on", "--answer=sits", "--wrong=stands"]
    said = done("patch", f"--model={bert}", *pair, "--out=p.png,p.npz", cwd=tmp_path)
    assert "logit of the answer less the wrong one's" in said
    assert np.load(tmp_path / "p.npz")["scores"].shape == (1, 3, 6)


@pytest.mark.long
def test_ablation_and_attribution(bert, tmp_path):
    text = "--text=the cat [MASK] on"
    said = done("patch", f"--model={bert}", text, "--ablate=heads", "--out=a.csv", cwd=tmp_path)
    assert "hurts most: heads without layer" in said
    assert len(table(tmp_path / "a.csv")) == 4
    said = done("attribute", f"--model={bert}", text, "--method=gradients", "--method=rollout", cwd=tmp_path)
    assert "integrated gradients: " in said
    rows = table(tmp_path / "attribute.csv")
    assert [row["token"] for row in rows] == ["[CLS]", "the", "cat", "[MASK]", "on", "[SEP]"]
    assert rows[0].keys() == {"token", "gradients", "rollout"}
    done("bias", f"--model={bert}", "--input=pairs.json", cwd=pairs(tmp_path))
    said = done("heads", f"--model={bert}", "--text=the cat sits", "--importance=gradient", cwd=tmp_path)
    assert "loss with all heads" in said
    assert "importance by gradient" in table(tmp_path / "heads.csv")[0]


@pytest.mark.long
def test_activations_in_a_folder(bert, tmp_path):
    arguments = [
        f"--model={bert}",
        "--text=the cat",
        "--text=a dog sits",
        "--activations=layer_1/output,^encoder/input",
    ]
    said = done("capture", *arguments, "--out=found", cwd=tmp_path)
    assert "2 activations of 2 texts" in said
    found = store.Captured(tmp_path / "found")
    assert found.names == ("encoder/input", "encoder/layer_1/output")
    assert found.get("encoder/input", 1).shape == (5, 16)
    again = run("interpret", "capture", *arguments, "--out=found", cwd=tmp_path)
    assert again.returncode == 2
    assert "found exists and is not empty" in again.stderr


def pairs(folder):
    (folder / "pairs.json").write_text(
        '{"templates": ["the [TARGET] sits by the [ATTRIBUTE]"], "targets": [["cat", "dog"]],'
        ' "groups": {"A": ["river", "bank"], "B": ["red", "old"]}}'
    )
    return folder


@pytest.mark.long
def test_words_layers_and_probes(bert, gpt, treebank, tmp_path):
    contexts = ["--text=the bank by the river", "--text=money in the bank", "--text=the old bank", "--text=a bank"]
    senses = ["--sense=shore", "--sense=money", "--sense=money", "--sense=money"]
    for show in ("cosine", "pca", "tsne"):
        said = done("words", f"--model={bert}", "--word=bank", *contexts, *senses, f"--show={show}", cwd=tmp_path)
        assert "different senses" in said
    assert len(table(tmp_path / "words.csv")) == 3 * 6
    said = done("cka", f"--model={bert}", f"--before={gpt}", *contexts, cwd=tmp_path)
    assert "each layer with the same layer of the other model" in said
    assert len(table(tmp_path / "cka.csv")) == 9
    arguments = [f"--data={treebank}", f"--test={treebank}", "--label=upos", "--probe=both", "--mdl"]
    said = done("probe", f"--model={bert}", *arguments, cwd=tmp_path)
    assert "baseline, most frequent label of the word: 1.0000" in said
    rows = table(tmp_path / "probe.csv")
    assert [row["probe"] for row in rows[:6]] == ["linear"] * 3 + ["mlp"] * 3
    (tmp_path / "texts.csv").write_text("text,mood\n" + "the cat sits,good\na dog,bad\n" * 4)
    arguments = ["--data=texts.csv", "--label=mood", "--out=texts.npz"]
    done("probe", f"--model={bert}", *arguments, cwd=tmp_path)
    assert np.load(tmp_path / "texts.npz")["linear/accuracy"].shape == (3,)


BAD = {
    "an activation that is not there": (
        ["capture", "--model={bert}", "--text=a", "--activations=layer_9"],
        "'layer_9' matches no activation: the model has encoder/layer_0 to layer_1",
    ),
    "no activations": (["capture", "--model={bert}", "--text=a"], "--activations is needed"),
    "seed without lime": (
        ["attribute", "--model={bert}", "--text=a [MASK]", "--seed=1", "--method=rollout"],
        "--seed does nothing without --method=lime",
    ),
    "layers of a curve": (
        ["words", "--model={bert}", "--text=a", "--text=the", "--word=a", "--layers=1"],
        "--layers does nothing for --show=cosine",
    ),
    "a limit of texts": (["heads", "--model={bert}", "--text=a", "--limit=3"], "--limit does nothing without --data"),
    "a seed of patterns": (
        ["heads", "--model={bert}", "--text=a", "--seed=3"],
        "--seed does nothing without --importance",
    ),
    "a step of no run": (["positions", "--step=3"], "--step does nothing without --model"),
    "a head of another kind": (
        ["lens", "--model={pooled}", "--text=a"],
        "predicts nothing to look at: its heads are pooled; needed: masked_lm or causal_lm",
    ),
    "a word that is not there": (
        ["words", "--model={bert}", "--word=sun", "--text=the cat", "--text=a dog"],
        "text 1: 'sun' is not in the text: 'the cat'",
    ),
    "too few labels": (
        ["probe", "--model={bert}", "--data={short}", "--label=tags", "--column=words"],
        "example 1: 1 labels for 2 words: each word needs one",
    ),
    "no donor": (["patch", "--model={bert}", "--text=a [MASK]", "--answer=cat"], "each --text needs a --donor"),
    "a donor of another length": (
        ["patch", "--model={bert}", "--text=a [MASK]", "--donor=the old [MASK]", "--answer=cat"],
        "patching needs texts of the same number of tokens: 4",
    ),
    "ablation with a donor": (
        ["patch", "--model={bert}", "--text=a [MASK]", "--donor=a [MASK]", "--ablate=heads"],
        "give one of them",
    ),
    "no such head": (
        ["attention", "--model={bert}", "--text=a", "--layers=0", "--heads=9", "--out=a.png"],
        "there is no head 9: each layer has heads 0 to 1",
    ),
    "heads of a page": (
        ["attention", "--model={bert}", "--text=a", "--heads=1"],
        "--heads is for a picture of one head",
    ),
    "two texts": (["attention", "--model={bert}", "--text=a", "--text=the"], "give each once"),
    "an empty text": (["attention", "--model={bert}", "--text= "], "text 1 is empty"),
    "no word": ([], "needed: a word, "),
    "another word": (["neighbor"], "Did you mean 'neighbors'?"),
    "two words": (["neighbors", "bias"], "'bias': give one word"),
    "an idle flag": (["positions", "--top=3"], "--top does nothing for 'positions', which takes --length"),
    "another ending": (["positions", "--out=p.txt"], "--out=p.txt: its ending must say what to write: .png"),
    "no folder": (["positions", "--out=gone/p.png"], "there is no folder gone"),
    "no position": (["positions", "--compare=2,200"], "there is no position 200: there are 0 to 127"),
    "one position": (["positions", "--compare=2"], "give two positions"),
    "no model": (["neighbors", "--text=a"], "--model is needed"),
    "one text": (["neighbors", "--model={bert}", "--text=a"], "needed: 2 texts, by --text"),
    "no layer": (["neighbors", "--model={bert}", "--text=a", "--text=the", "--layers=7"], "there is no layer 7: 0 is"),
    "no expression": (
        ["capture", "--model={bert}", "--text=a", "--activations=("],
        "'(' is no regular expression: missing ), unterminated subpattern",
    ),
    "too few for t-SNE": (
        ["words", "--model={bert}", "--word=cat", "--text=the cat", "--text=a cat", "--show=tsne", "--out=w.csv,w.png"],
        "2 contexts: a picture by tsne needs 4 at least",
    ),
    "layers backwards": (
        ["neighbors", "--model={bert}", "--text=a", "--text=the", "--layers=0,1-0"],
        "'1-0' goes backwards and names none",
    ),
    "no number": (["neighbors", "--model={bert}", "--text=a", "--text=the", "--layers=x"], "'x' is no number"),
}


# Those for which no model is opened, and some others.
SHORT = (
    "no expression",
    "too few for t-SNE",
    "layers backwards",
    "no word",
    "another word",
    "an idle flag",
    "another ending",
    "no model",
    "a word that is not there",
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name not in SHORT)) for name in BAD])
def test_bad_input_is_one_line(name, bert, pooled, short, tmp_path):
    arguments, said = BAD[name]
    places = {"bert": bert, "pooled": pooled, "short": short}
    result = run("interpret", *(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

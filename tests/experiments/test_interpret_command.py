"""`experiments.interpret` and `experiments.embed` as a user runs them, on small models with random parameters."""

import csv

import numpy as np
import pytest

from tests import programs
from tests.interpret import models
from tx_jax import tree
from tx_jax.convert import model_dir


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


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def done(word, *arguments, cwd):
    result = run("interpret", word, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_texts_become_vectors_in_their_order(bert, tmp_path):
    texts = ["the cat", "the old dog stands by the river", "a bank", "the sun"]
    with (tmp_path / "in.csv").open("w") as file:
        csv.writer(file).writerows([["body"], *[[text] for text in texts]])
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    found = []
    for source in ("in.csv", "in.txt"):
        result = run(
            "embed",
            f"--model={bert}",
            f"--input={source}",
            "--text=body",
            "--output=v.npy",
            "--batch_size=1",
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        assert "4 vectors of width 16: v.npy" in result.stdout
        found.append(np.load(tmp_path / "v.npy"))
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (4, 16)
    assert found[0].dtype == np.float32
    (tmp_path / "long.txt").write_text("the cat\n" + "the cat " * 20 + "\n")
    arguments = [f"--model={bert}", "--input=long.txt", "--output=w.npy"]
    result = run("embed", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "text 2 has 42 tokens, but the model takes at most 24" in result.stderr
    assert not (tmp_path / "w.npy").exists()
    assert run("embed", *arguments, "--truncate", cwd=tmp_path).returncode == 0


def test_neighbors(bert, tmp_path):
    said = done(
        "neighbors", f"--model={bert}", "--text=the cat", "--text=a dog", "--text=the cat sits", "--top=1", cwd=tmp_path
    )
    assert "Written: neighbors.png, neighbors.csv" in said
    rows = table(tmp_path / "neighbors.csv")
    assert [(row["text"], row["rank"]) for row in rows] == [("the cat", "1"), ("a dog", "1"), ("the cat sits", "1")]
    assert all(row["neighbor"] != row["text"] for row in rows)


def test_positions_need_no_model(tmp_path):
    said = done("positions", "--length=12", "--out=p.svg,p.npz", cwd=tmp_path)
    assert "0.8600" in said
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
    assert np.load(tmp_path / "p.npz")["the paper's formula"].shape == (12, 512)


def test_attention_as_a_page_a_picture_and_numbers(bert, tmp_path):
    pair = ["--text=the cat sits", "--text_pair=a dog"]
    done("attention", f"--model={bert}", *pair, "--out=view.html,heads.png,w.npz", cwd=tmp_path)
    assert (tmp_path / "view.html").read_text().startswith("<!doctype html>")
    assert np.load(tmp_path / "w.npz")["encoder, self-attention/weights"].shape == (2, 2, 8, 8)
    done("attention", f"--model={bert}", *pair, "--layers=1", "--heads=0", "--out=head.svg", cwd=tmp_path)
    assert "layer 1, head 0" in (tmp_path / "head.svg").read_text()


BAD = {
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
    "no number": (["neighbors", "--model={bert}", "--text=a", "--text=the", "--layers=x"], "'x' is no number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, bert, tmp_path):
    arguments, said = BAD[name]
    result = run("interpret", *(argument.format(bert=bert) for argument in arguments), cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []

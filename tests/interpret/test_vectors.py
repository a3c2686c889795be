"""Vectors of texts, positions and associations of words."""

import json

import numpy as np
import pytest

from tests.interpret import models
from tx_jax.errors import InputError
from tx_jax.interpret import bias, capture, positions, texts, vectors

TEXTS = ["the cat sits", "the old dog stands by the river in the sun", "a bank"]


@pytest.mark.parametrize("name", ["BERT", pytest.param("GPT", marks=pytest.mark.long)])
def test_vectors_are_pooled_hidden_states(name):
    model = models.model(name)
    rows = texts.rows_of_texts(model, TEXTS)
    names = vectors.hidden_sites(model.model, (0, -1))
    states = capture.collect(model, rows, names)
    pools = {"mean": lambda x: x.mean(0), "first": lambda x: x[0]}
    if name == "GPT":
        pools = {"mean": lambda x: x.mean(0), "last": lambda x: x[-1]}
    for pooling, pool in pools.items():
        found = vectors.embed(model, rows, pooling=pooling, layers=(0, -1), normalize=False, batch_size=1)
        expected = [pool((values[names[0]] + values[names[1]]) / 2) for values in states]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    unit = vectors.embed(model, rows, layers=(0, -1))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


def test_layers_and_poolings_that_do_not_exist():
    with pytest.raises(InputError, match=r"no layer 3: 0 is the embeddings, 1 to 2 are the layers of the encoder"):
        vectors.hidden_sites(models.BERT, [3])
    with pytest.raises(InputError, match="first token of a decoder sees nothing"):
        vectors.require_pooling(models.CONFIGS["GPT"], "first")


def test_the_nearest_are_found_in_blocks_too():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 8))
    queries = np.repeat(base[:20] * 3, 20, axis=0) + 0.01 * rng.normal(size=(400, 8))
    best, cosines = vectors.nearest(base, queries, 3)
    assert best.shape == (400, 3)
    np.testing.assert_array_equal(best[:, 0], np.repeat(np.arange(20), 20))
    np.testing.assert_allclose(cosines, np.sort(vectors.similarities(queries, base))[:, :-4:-1], atol=1e-12)


def test_positions_by_the_paper_and_by_the_listing():
    """The figures of the course: 0.8600 comes from an index that is doubled twice."""
    paper, listing = positions.sinusoidal(16, 512), positions.doubled_index(16, 512)
    assert positions.cosine(listing, 2, 10) == pytest.approx(0.8600, abs=5e-5)
    assert positions.cosine(paper, 2, 10) == pytest.approx(0.72252, abs=5e-5)
    i = 7
    assert paper[5, 2 * i] == pytest.approx(np.sin(5 / 10_000 ** (2 * i / 512)), abs=1e-6)
    assert listing[5, 2 * i] == pytest.approx(np.sin(5 / 10_000 ** (4 * i / 512)), abs=1e-12)
    curve = positions.by_distance(paper)
    assert curve[0] == pytest.approx(1)
    assert (np.diff(curve[:4]) < 0).all()
    with pytest.raises(InputError, match="no position 16: there are 0 to 15"):
        positions.cosine(paper, 2, 16)
    with pytest.raises(InputError, match="must be even"):
        positions.sinusoidal(4, 3)


def test_learned_positions_are_the_rows_of_the_table():
    model = models.model("BERT", position_offset=2)
    table = np.asarray(model.params["embeddings"]["position"]["embedding"])
    np.testing.assert_array_equal(positions.learned(model), table[2:])
    with pytest.raises(InputError, match="has no table of positions: it has rotary angles"):
        positions.learned(models.model("ModernBERT"))


PAIRS = bias.Pairs(
    ("the [TARGET] sits by the [ATTRIBUTE]", "by the [ATTRIBUTE] stands the [TARGET]"),
    (("cat", "dog"),),
    {"A": ("river", "bank", "sun"), "B": ("red", "old", "new")},
)


def test_associations_are_those_of_filled_masks():
    """Of the target's mask, before or behind the attribute, given it and given nothing."""
    model = models.model("BERT")
    found = bias.associations(model, PAIRS)
    assert len(found) == 2 * 6
    one = next(a for a in found if a.attribute == "river" and a.template == PAIRS.templates[1])
    tokenizer = model.tokenizer
    ratios = []
    for text in ("by the river stands the [MASK]", "by the [MASK] stands the [MASK]"):
        (row,) = texts.rows_of_texts(model, [text], masks=True)
        (log_p,) = capture.outputs(model, [row], bias._log_probabilities)
        ratios.append(log_p[len(row.ids) - 2])
    for word, value in (("cat", one.first), ("dog", one.second)):
        (index,) = tokenizer.encode(word)
        assert value == pytest.approx(ratios[0][index] - ratios[1][index], abs=1e-5)


def test_statistics_find_a_planted_difference_and_none_in_noise():
    def planted(shift):
        rng = np.random.default_rng(0)
        return [
            bias.Association(group, f"{group}{n}", "t", ("x", "y"), rng.normal() + shift * (group == "A"), 0.0)
            for group in "AB"
            for n in range(6)
        ]

    clear, noise = bias.statistics(planted(6.0)), bias.statistics(planted(0.0))
    assert clear.permutations == 924  # all of them
    assert clear.p_value == pytest.approx(2 / 924)
    assert clear.effect_size > 1.5
    assert noise.p_value > 0.05


def test_bad_pairs(tmp_path):
    model = models.model("BERT")
    with pytest.raises(InputError, match="the target 'catdog' is not one token"):
        bias.associations(model, bias.Pairs(PAIRS.templates, (("cat", "catdog"),), PAIRS.groups))
    with pytest.raises(InputError, match="no masked_lm head"):
        bias.associations(models.model("GPT"), PAIRS)
    path = tmp_path / "pairs.json"
    for values, said in (
        ({"templates": []}, "it must be {"),
        (
            {"templates": ["[TARGET]"], "targets": [["a", "b"]], "groups": {"A": ["x", "y"], "B": ["z", "w"]}},
            "one .ATTR",
        ),
        ({"templates": ["[TARGET]"], "targets": [["a", "b"]], "groups": {"A": ["x"]}}, "two groups"),
    ):
        path.write_text(json.dumps(values))
        with pytest.raises(InputError, match=said):
            bias.read(path)

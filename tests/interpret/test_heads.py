"""What heads do and how much they matter."""

import dataclasses

import numpy as np
import pytest

from tests.interpret import models
from tx_jax.errors import InputError
from tx_jax.interpret import capture, heads, texts

TEXTS = ["the cat sits on the bank", "the old dog stands by the river in the sun"]


def test_patterns_of_heads_that_are_known():
    """One head looks at the previous token, one at all alike."""
    length = 5
    previous = np.eye(length, k=-1)
    previous[0, 0] = 1
    p = np.stack([previous, np.full((length, length), 1 / length)])[None]
    found = heads._of_row(p, np.array([True, False, False, False, True]))
    np.testing.assert_array_equal(found["previous"][0, 0], [0, 1, 1, 1, 1])
    np.testing.assert_allclose(found["entropy"][0], [[0] * 5, [np.log(5)] * 5])
    np.testing.assert_allclose(found["distance"][0, 0], [0, 1, 1, 1, 1])
    np.testing.assert_allclose(found["special"][0, 1], 0.4)
    np.testing.assert_allclose(found["next"][0, 1], [0.2, 0.2, 0.2, 0.2, 0])
    np.testing.assert_allclose(found["first"][0, 0], [1, 1, 0, 0, 0])
    assert found.keys() == heads.PATTERNS.keys()


def test_patterns_are_means_over_the_tokens_that_are_not_special():
    model = models.model("BERT")
    rows = texts.rows_of_texts(model, TEXTS)
    found = heads.patterns(model, rows)
    names = [f"encoder/layer_{i}/attention/probabilities" for i in range(2)]
    entropies = []
    for row, values in zip(rows, capture.collect(model, rows, names), strict=True):
        p = np.stack([values[name] for name in names])[:, :, ~np.array(row.special)]
        entropies.append(-(p * np.log(p)).sum(-1))
    np.testing.assert_allclose(found["entropy"], np.concatenate(entropies, axis=2).mean(-1), atol=1e-5)


def test_attention_between_words_is_a_sum_over_pieces_and_a_mean_from_them():
    row = texts.Row((1,) * 4, ("[CLS]", "a", "##b", "c"), (0,) * 4, (True, False, False, False), (-1, 0, 0, 1))
    p = np.arange(16.0).reshape(1, 1, 4, 4)
    expected = [[[(p[0, 0, 1, 1:3].sum() + p[0, 0, 2, 1:3].sum()) / 2, (7 + 11) / 2], [13 + 14, 15]]]
    np.testing.assert_allclose(heads.between_words(p, row)[0], expected)


def test_a_head_that_looks_at_the_syntactic_head_is_found(monkeypatch):
    """Of two heads the second looks at each word's parent, and most of all at itself, which does not count."""
    model = models.model("BERT", num_layers=1)
    sentences = [["the", "cat", "sits"], ["old", "dog"]]
    parents, relations = [[1, 2, -1], [1, -1]], [["det", "nsubj", "root"], ["amod", "root"]]
    rows = texts.rows_of_words(model, sentences)

    def stream(_, rows, names, **options):
        for index, row in enumerate(rows):
            p = np.full((2, len(row.ids), len(row.ids)), 0.01)
            for word, parent in enumerate(parents[index]):
                p[1, word + 1, word + 1] = 5
                p[1, word + 1, max(parent, 0) + 1] += 1
            yield index, {names[0]: p}, None

    monkeypatch.setattr(heads.capture, "stream", stream)
    found = heads.syntax(model, rows, parents, relations)
    assert found.words == 3
    assert found.to_head[0, 1] == 1
    assert found.to_head[0, 0] < 1
    assert found.baseline == (1, 1.0)
    assert found.relations["nsubj"][:4] == (1, 0, 1, "to head")
    with pytest.raises(InputError, match="sentence 1 has 3 words, but 2 heads"):
        heads.syntax(model, rows, [[1, -1], [1, -1]], relations)
    with pytest.raises(InputError, match="no word has a syntactic head"):
        heads.syntax(model, rows, [[-1, -1, -1], [-1, -1]], relations)


def test_a_head_whose_output_goes_nowhere_does_not_matter():
    """By gradient and by ablation; the others do."""
    model = models.model("BERT")
    kernel = model.params["encoder"]["layer_0"]["attention"]["out"]["kernel"]
    model.params["encoder"]["layer_0"]["attention"]["out"]["kernel"] = kernel.at[8:].set(0)  # of head 1
    rows = texts.rows_of_texts(model, [*TEXTS, TEXTS[0]])
    losses = []
    for method in ("gradient", "ablation"):
        scores, loss = heads.importance(model, rows, method=method)
        losses.append(loss)
        assert scores[0, 1] == 0
        assert np.abs(np.delete(scores.ravel(), 1)).min() > 1e-5
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert 0 < losses[0] < 10


@pytest.mark.long
def test_rows_that_fill_a_batch_up_do_not_count(monkeypatch):
    """Whatever their number, as on other numbers of devices."""
    model = models.model("BERT", num_layers=1)
    rows = texts.rows_of_texts(model, [*TEXTS, TEXTS[0]])
    found = []
    for multiple in (1, 8):
        monkeypatch.setattr(heads, "batches", lambda *a, m=multiple, **k: texts.batches(*a[:3], m))
        found.append(heads.importance(model, rows, method="gradient"))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


def test_importance_needs_a_language_model():
    model = models.model("BERT", heads=("pooled",))
    with pytest.raises(
        InputError, match="predicts nothing to look at: its heads are pooled; needed: masked_lm or causal"
    ):
        heads.importance(model, texts.rows_of_texts(model, TEXTS), method="gradient")
    untrained = dataclasses.replace(models.model("BERT"), untrained=("masked_lm",))
    with pytest.raises(InputError, match="its masked_lm head is untrained"):
        heads.importance(untrained, texts.rows_of_texts(untrained, TEXTS), method="gradient")

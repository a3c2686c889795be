"""What layers know: lens, CKA, probes, a word in its contexts."""

import numpy as np
import pytest

from tests.interpret import models
from tx_jax.errors import InputError, InputWarning
from tx_jax.interpret import cka, contexts, lens, probes, texts


@pytest.mark.parametrize(
    ("name", "head"), [("BERT", "masked_lm"), pytest.param("GPT", "causal_lm", marks=pytest.mark.long)]
)
def test_at_the_last_layer_the_lens_is_the_model(name, head):
    model = models.model(name)
    (row,) = texts.rows_of_texts(
        model, ["the cat [MASK] on" if name == "BERT" else "the cat sits"], masks=name == "BERT"
    )
    seen = lens.look(model, row)
    assert seen.places == ((3,) if name == "BERT" else tuple(range(len(row.ids))))
    whole = models.plain(model.model, model.params, texts.arrays([row], model.model, 16)).logits[head]
    np.testing.assert_allclose(seen.logits[-1], np.asarray(whole)[0, list(seen.places)], atol=1e-6)
    assert len(seen.logits) == 3
    np.testing.assert_allclose(seen.divergences()[-1], 0, atol=1e-9)
    assert (seen.divergences()[:-1] > 0).all()
    best = seen.logits[-1].argmax(-1)
    assert (seen.ranks(best)[-1] == 1).all()
    np.testing.assert_allclose(np.exp(seen.log_probabilities()).sum(-1), 1)


def test_models_and_texts_without_a_lens():
    model = models.model("BERT")
    with pytest.raises(InputError, match=r"no \[MASK\] in the text"):
        lens.look(model, texts.rows_of_texts(model, ["the cat"])[0])
    deberta = models.model("DeBERTa")
    with pytest.raises(InputError, match="mask decoder reads two layers"):
        lens.look(deberta, texts.rows_of_texts(deberta, ["the [MASK]"], masks=True)[0])
    with pytest.raises(InputError, match="has two stacks"):
        lens.look(models.model("Transformer"), texts.rows_of_texts(models.model("Transformer"), ["a"], ["the"])[0])


def test_cka_of_a_rotated_copy_is_1_and_of_strangers_small():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 12)) * np.arange(1, 13)[None] + 3
    rotation, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    assert cka.linear_cka(x, 5 * x @ rotation - 2) == pytest.approx(1, abs=1e-9)
    y = rng.normal(size=(400, 20))
    assert cka.linear_cka(x, y) < 0.1
    few = slice(0, 10)  # fewer examples than dimensions: by the other formula
    centered = [z[few] - z[few].mean(0) for z in (x, y)]
    products = [np.linalg.norm(a.T @ b) ** 2 for a, b in ((centered[1], centered[0]), *((z, z) for z in centered))]
    assert cka.linear_cka(x[few], y[few]) == pytest.approx(products[0] / np.sqrt(products[1] * products[2]))
    matrix = cka.matrix([x, y], [y, x, y])
    assert matrix.shape == (2, 3)
    assert matrix[1, 0] == pytest.approx(1)
    with pytest.warns(InputWarning, match="CKA of 10 tokens or texts of width 20 is too large"):
        cka.matrix([x[few]], [y[few]])
    with pytest.raises(InputError, match="different numbers"):
        cka.matrix([x], [y[few]])


def test_states_of_the_same_tokens_in_two_models(monkeypatch):
    monkeypatch.setattr(cka, "MOST", 6)
    one, other = models.model("BERT"), models.model("BERT", num_layers=1)
    given = ["the cat sits", "a dog stands by the river"]
    found = [cka.states(model, texts.rows_of_texts(model, given)) for model in (one, other)]
    assert [len(states) for states in found] == [3, 2]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)  # the embeddings are equal
    assert found[0][0].shape == (6, 16)
    assert cka.states(one, texts.rows_of_texts(one, given), of_texts=True)[0].shape == (2, 16)


def planted(seed, count=600, labels=3):
    """A layer from whose states the labels are read linearly, and one of noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(labels, size=count)
    direction = np.random.default_rng(7).normal(size=(labels, 10))
    signal = direction[y] * 2 + 0.3 * rng.normal(size=(count, 10))
    states = np.stack([signal, rng.normal(size=signal.shape)]).astype(np.float32)
    return probes.Labeled(states, y, tuple(f"word{i}" for i in range(count)))


@pytest.fixture(scope="module")
def probed():
    return probes.probe(planted(0), planted(1), "linear", description_length=True)


def test_a_probe_recovers_a_planted_signal_and_fails_on_the_control_task(probed):
    assert probed.accuracy[0] > 0.97
    assert probed.accuracy[1] < 0.45
    assert (probed.control < 0.45).all()
    assert probed.selectivity[0] > 0.5


def test_what_is_easily_read_costs_few_bits(probed):
    assert probed.description_length[0] < 0.4 * probed.uniform_length
    assert probed.description_length[1] > 0.95 * probed.uniform_length
    assert probed.uniform_length == pytest.approx(600 * np.log2(3))


@pytest.mark.long
def test_an_mlp_reads_what_no_linear_probe_can():
    def xor(seed):
        x = np.random.default_rng(seed).normal(size=(1, 800, 2)).astype(np.float32)
        return probes.Labeled(x, (x[0, :, 0] * x[0, :, 1] > 0).astype(int), ("w",) * 800)

    assert probes.probe(xor(0), xor(1), "mlp").accuracy[0] > 0.9
    assert probes.probe(xor(0), xor(1), "linear").accuracy[0] < 0.65


def test_control_labels_and_baselines():
    words = ("a", "b", "a", "c")
    train = probes.Labeled(np.zeros((1, 4, 1)), np.array([0, 1, 0, 1]), words)
    test = probes.Labeled(np.zeros((1, 4, 1)), np.array([0, 1, 0, 1]), ("c", "a", "b", "a"))
    first, second = probes.control_labels(train, test, seed=3)
    of = dict(zip(words, first, strict=True))
    assert [of[word] for word in test.types] == second.tolist()
    assert probes.baselines(train, test) == {"most frequent label": 0.5, "most frequent label of the word": 0.0}
    with pytest.warns(InputWarning, match="1 of 2 test examples have labels that the training data lacks, such as Z"):
        assert probes.numbered(["X", "Y"], ["Z", "Y"])[1].tolist() == [-1, 1]
    with pytest.raises(InputError, match="all labels are 'X'"):
        probes.numbered(["X", "X"], ["X"])


def test_states_of_words_and_texts():
    model = models.model("BERT")
    rows = texts.rows_of_words(model, [["the", "catdog"], ["sun"]])
    found = probes.states_of_words(model, rows)
    assert found.shape == (3, 3, 16)
    alone = probes.states_of_words(model, rows[1:])
    np.testing.assert_allclose(found[:, 2:], alone, atol=1e-5)
    assert probes.states_of_texts(model, rows).shape == (3, 2, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "LARGEST", 3 * 2 * 16 * 4)
        with pytest.raises(InputError, match=r"hidden states of 3 examples would take .*such as --limit=1"):
            probes.states_of_words(model, rows)


def test_a_word_in_its_contexts():
    model = models.model("BERT")
    given = ["the bank by the river", "money in the bank", "the old bank"]
    found = contexts.look(model, given, ["bank"])
    assert found.vectors.shape == (3, 3, 16)
    cosines = found.cosines()
    np.testing.assert_allclose(np.diagonal(cosines, axis1=1, axis2=2), 1, atol=1e-6)
    within, across = found.within_and_across(["shore", "money", "money"])
    np.testing.assert_allclose(within, cosines[:, 1, 2])
    np.testing.assert_allclose(across, cosines[:, 0, 1:].mean(-1))
    assert (np.abs(found.baseline) < 1).all()
    assert contexts.plane(found.vectors[1], "pca").shape == (3, 2)
    with pytest.raises(InputError, match="needs 4 at least"):
        contexts.plane(found.vectors[1], "tsne")
    with pytest.raises(InputError, match="text 1: 'money' is not in the text"):
        contexts.look(model, given, ["money"])
    with pytest.raises(InputError, match="3 texts and 2 words"):
        contexts.look(model, given, ["bank", "money"])


def test_the_plane_of_pca_keeps_what_varies_most():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 2)) @ np.array([[5.0, 0], [0, 2]])
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    high = np.pad(points, ((0, 0), (0, 6))) @ rotation
    found = contexts.plane(high, "pca")
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (points, found)]
    np.testing.assert_allclose(*distances, atol=1e-9)


def test_the_layers_are_read_once(monkeypatch):
    """All layers come from one pass over the texts."""
    calls = []
    stream = probes.capture.stream
    monkeypatch.setattr(probes.capture, "stream", lambda *args, **options: calls.append(1) or stream(*args, **options))
    model = models.model("BERT")
    probes.states_of_words(model, texts.rows_of_words(model, [["the", "cat"]]))
    assert calls == [1]

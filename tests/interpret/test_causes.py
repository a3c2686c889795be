"""Patching, ablation and attribution."""

import dataclasses

import numpy as np
import pytest

from tests import certain_models
from tests.interpret import models
from tx_jax import tree
from tx_jax.errors import InputError
from tx_jax.interpret import ablation, attribution, patching, predictions, texts

TEXT, DONOR = "the cat [MASK] on the bank", "the dog [MASK] on the river"


@pytest.fixture(scope="module")
def asked():
    """A model, a question, and a donor."""
    model = models.model("BERT")
    (question,) = predictions.ask(model, [TEXT], ["sits"], ["stands"])
    (donor,) = texts.rows_of_texts(model, [DONOR], masks=True)
    return model, question, donor


@pytest.mark.parametrize("part", ["hidden", pytest.param("heads", marks=pytest.mark.long)])
def test_patching_nothing_changes_nothing_bit_for_bit(asked, part):
    model, question, donor = asked
    layers, units = (3, 8) if part == "hidden" else (2, 2)
    found = patching.run(model, question, donor, part, np.zeros((layers, 1, units), bool))
    np.testing.assert_array_equal(found, patching.score_rows(model, [question]))


def test_patching_everything_reproduces_the_donor_bit_for_bit(asked):
    model, question, donor = asked
    found = patching.run(model, question, donor, "hidden", np.ones((3, 1, 8), bool))
    expected = patching.score_rows(model, [dataclasses.replace(question, row=donor)])
    np.testing.assert_array_equal(found, expected)
    assert expected != patching.score_rows(model, [question])


def test_a_patch_moves_what_lies_behind_it(asked):
    """Of the embeddings only those that differ matter; of the last layer only the mask's."""
    model, question, donor = asked
    found = patching.patch(model, question, donor, "hidden")
    differ = np.array(question.row.ids) != np.array(donor.ids)
    assert found.scores.shape == (3, len(differ))
    np.testing.assert_allclose(found.scores[0, ~differ], found.base, atol=1e-6)
    assert np.abs(found.scores[0, differ] - found.base).min() > 1e-5
    at_mask = np.arange(len(differ)) == question.place
    np.testing.assert_allclose(found.scores[2, ~at_mask], found.base, atol=1e-6)
    assert found.scores[2, question.place] == pytest.approx(found.donor, abs=1e-5)
    assert found.restored[2, question.place] == pytest.approx(1, abs=1e-4)
    heads = patching.patch(model, question, donor, "heads")
    assert heads.scores.shape == (2, 2)
    assert heads.base == pytest.approx(found.base, abs=1e-6)


def test_texts_of_different_lengths_cannot_be_patched(asked):
    model, question, _ = asked
    (donor,) = texts.rows_of_texts(model, ["the [MASK]"], masks=True)
    with pytest.raises(InputError, match=r"same number of tokens: 8 \(\[CLS\] the cat .* and 4"):
        patching.patch(model, question, donor, "hidden")
    with pytest.raises(InputError, match="'logits' cannot be patched: hidden, attention, mlp, heads can"):
        patching.patch(model, question, question.row, "logits")


def test_without_a_head_whose_output_goes_nowhere_nothing_changes():
    model = models.model("BERT")
    out = model.params["encoder"]["layer_1"]["attention"]["out"]
    out["kernel"] = out["kernel"].at[:8].set(0)  # of head 0
    questions = predictions.ask(model, [TEXT, "the [MASK] by the river"])
    changes, base = ablation.ablate(model, questions, "heads")
    assert changes.shape == (2, 2, 2)
    np.testing.assert_array_equal(changes[:, 1, 0], 0)
    assert np.abs(changes[:, 0]).min() > 1e-6
    assert (base < 0).all()
    layers, again = ablation.ablate(model, questions, "layers")
    assert layers.shape == (2, 2)
    np.testing.assert_array_equal(base, again)
    with pytest.raises(InputError, match="'norms' cannot be ablated"):
        ablation.ablate(model, questions, "norms")


def test_gradients_occlusion_and_lime_agree_on_a_linear_model():
    rng = np.random.default_rng(0)
    weights, x, baseline = rng.normal(size=(3, 5, 4))

    def score(points):
        return (points * weights[None]).sum((1, 2))

    def gradient(points):
        return np.broadcast_to(weights[None], points.shape)

    expected = (weights * (x - baseline)).sum(-1)
    np.testing.assert_allclose(attribution.integrated_gradients(gradient, x, baseline, 7), expected)
    np.testing.assert_allclose(attribution.occlusion(score, x, baseline), expected)
    np.testing.assert_allclose(attribution.lime(score, x, baseline, ridge=1e-9), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["BERT", pytest.param("GPT", marks=pytest.mark.long)])
def test_integrated_gradients_are_complete(name):
    model = models.model(name)
    (question,) = predictions.ask(model, [TEXT if name == "BERT" else "the cat sits on"])
    embedded = attribution.Embedded(model, question)
    score = patching.score_rows(model, [question])[0]
    ends = embedded.score(np.stack([embedded.x, embedded.baseline]))
    assert ends[0] == pytest.approx(score, abs=1e-5)  # the embeddings are the text's
    found, missed, steps = attribution.complete(embedded)
    assert missed < 0.01
    assert found.sum() == pytest.approx(ends[0] - ends[1], rel=0.01)
    special = np.array(question.row.special)
    assert not found[special].any()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "TOLERANCE", 0.0)
        patch.setattr(attribution, "MOST_STEPS", 2 * steps)
        assert attribution.complete(embedded)[2] == 2 * steps
    occluded = attribution.occlusion(embedded.score, embedded.x, embedded.baseline)
    assert np.corrcoef(occluded, found)[0, 1] > 0.5


def test_rollout_is_a_distribution_over_the_tokens():
    model = models.model("BERT")
    (row,) = texts.rows_of_texts(model, ["the cat sits"])
    found = attribution.rollout(model, row)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert (found > 0).all()


@pytest.mark.long
def test_a_classifier_is_explained_by_the_word_that_decides():
    made = certain_models.tokenizer()
    certain = certain_models.certain(made, "sequence_classification", certain_models.LABELS)
    model = models.ready(certain.config, tree.nest(certain.params), made, labels=certain.labels)
    (question,) = predictions.ask(model, ["cat of it"])
    assert predictions.answer_text(model, question) == "no"
    embedded = attribution.Embedded(model, question)
    found = attribution.complete(embedded)[0]
    assert question.row.tokens[int(found.argmax())] == "cat"
    with pytest.raises(InputError, match="no label 'maybe': the model has no, perhaps, yes"):
        predictions.ask(model, ["cat"], ["maybe"])


BAD = {
    "no mask": (lambda m: predictions.ask(m, ["the cat"]), r"text 1 has 0 times \[MASK\]"),
    "two masks": (lambda m: predictions.ask(m, ["[MASK] [MASK]"]), r"text 1 has 2 times \[MASK\]"),
    "an answer of two tokens": (
        lambda m: predictions.ask(m, [TEXT], ["catdog"]),
        "the answer 'catdog' is not one token",
    ),
    "answers for some": (lambda m: predictions.ask(m, [TEXT, TEXT], ["sits"]), "2 texts and 1 answers"),
    "wrong without right": (lambda m: predictions.ask(m, [TEXT], [], ["sits"]), "give the answer too"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_questions(name):
    act, said = BAD[name]
    with pytest.raises(InputError, match=said):
        act(models.model("BERT"))

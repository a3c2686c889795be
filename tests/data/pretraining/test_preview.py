"""The preview of the data: hand-made batches exactly, every format by its statistics."""

import numpy as np
import pytest

from tests.data.pretraining.test_batches import ALL_FORMATS, CONFIG, make, one, stores  # noqa: F401 - two are fixtures
from tx_jax import text
from tx_jax.data.pretraining import preview

TEXT = ["the red fox sees the reddish foxes", "a niño sees a cat."] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return text.train("wordpiece", iter(TEXT), vocab_size=100)


@pytest.fixture
def batch(tokenizer):
    """Two rows of 8: [CLS] the red fox sees [SEP], three of them chosen, and one that only fills the batch up."""
    the, red, fox, sees, cat = (tokenizer.encode(word)[0] for word in ("the", "red", "fox", "sees", "cat"))
    row = [tokenizer.cls_id, tokenizer.mask_id, red, cat, sees, tokenizer.sep_id, tokenizer.pad_id, tokenizer.pad_id]
    return {
        "tokens": np.array([row, row], np.int32),
        "segments": np.array([[0, 0, 0, 1, 1, 1, 0, 0]] * 2, np.int32),
        "valid": np.array([[True] * 6 + [False] * 2] * 2),
        "example_weights": np.array([1, 0], np.float32),
        "masked_positions": np.array([[1, 2, 3, 0]] * 2, np.int32),
        "masked_targets": np.array([[the, red, fox, 0]] * 2, np.int32),
        "masked_weights": np.array([[1, 1, 1, 0], [0, 0, 0, 0]], np.float32),
        "masked_dropped": np.array([1, 0], np.float32),
        "next_sentence_labels": np.array([1, 0], np.int32),
    }


def test_an_example_is_shown_token_by_token(batch, tokenizer):
    (example,) = preview.examples(batch, tokenizer)
    assert [(p.text, p.seen, p.kind, p.segment) for p in example.pieces] == [
        (" [CLS]", " [CLS]", "special", 0),
        (" the", " [MASK]", "mask", 0),
        (" red", " red", "kept", 0),
        (" fox", " cat", "random", 1),
        (" sees", " sees", "text", 1),
        (" [SEP]", " [SEP]", "special", 1),
    ]
    assert (example.padding, example.unknown, example.follows) == (0.25, 0.0, False)


def test_statistics_by_hand(batch, tokenizer):
    values = preview.statistics([batch, batch], tokenizer)
    bytes_of_text = len(" the red fox sees")
    assert values == pytest.approx(
        {
            "examples": 2,
            "length": 6,
            "padding": 0.25,
            "unknown": 0,
            "tokens_per_byte": 4 / bytes_of_text,
            "chosen": 0.5,
            "mask": 1 / 3,
            "random": 1 / 3,
            "kept": 1 / 3,
            "dropped": 0.25,
            "follows": 0.0,
        }
    )


def test_unknown_tokens_are_counted(batch, tokenizer):
    batch["tokens"][:, 4] = tokenizer.unk_id
    assert preview.examples(batch, tokenizer)[0].unknown == pytest.approx(1 / 6)
    assert preview.statistics([batch], tokenizer)["unknown"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("kind", text.KINDS)
def test_tokens_join_to_the_text(kind):
    sizes = {"unigram": 45, "sentencepiece_bpe": 45, "wordpiece": 45}
    tokenizer = text.train(kind, iter(TEXT), vocab_size=sizes.get(kind, 275))
    for line in set(TEXT):
        pieces = [preview.token_text(tokenizer, token) for token in tokenizer.encode(line)]
        assert len(pieces) > len(line.split()), "pieces inside of words are what is tested"
        joined = "".join(pieces).removeprefix(" ")
        spelled = {"wordpiece": "n", "byte_bpe": "\u00c3\u00b1", "gpt2_bpe": "\u00c3\u00b1"}  # no accents; two bytes
        assert joined == line.replace("ñ", spelled.get(kind, "ñ"))


@pytest.mark.parametrize(("maker", "changes"), ALL_FORMATS)
def test_every_format_shows_what_it_is(one, maker, changes):  # noqa: F811
    batches = [make(maker, one, changes).batch_at(step) for step in range(30)]
    tokenizer = one.tokenizer()
    values = preview.statistics(batches, tokenizer)
    shown = [example for batch in batches for example in preview.examples(batch, tokenizer)]
    pieces = [piece for example in shown for piece in example.pieces]
    assert values["examples"] == len(shown) == 480
    assert values["length"] == pytest.approx(len(pieces) / 480)
    assert values["padding"] == pytest.approx(np.mean([example.padding for example in shown]))
    assert 0.1 < values["tokens_per_byte"] < 1
    packing = changes.get("packing", CONFIG.packing)
    assert ("documents" in values) == (packing == "packed_documents")
    assert ("follows" in values) == (packing in ("pairs", "sentence_pairs"))
    if "follows" in values:
        assert values["follows"] == pytest.approx(np.mean([example.follows for example in shown]))
        assert 0.4 < values["follows"] < 0.6
    if "documents" in values:
        assert values["documents"] == np.mean([max(p.document for p in example.pieces) for example in shown])
    if "masked" in maker.__name__:
        assert values["mask"] == pytest.approx(0.8, abs=0.06)
        assert values["random"] == pytest.approx(0.1, abs=0.04)
        assert values["mask"] + values["random"] + values["kept"] == pytest.approx(1)
        chosen = [piece for piece in pieces if piece.kind in ("mask", "random", "kept")]
        assert values["chosen"] == pytest.approx(len(chosen) / len(pieces))
    else:
        assert "chosen" not in values
        assert {piece.kind for piece in pieces} <= {"text", "special"}

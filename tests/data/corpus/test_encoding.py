import json

import numpy as np
import pytest

from tx_jax import text
from tx_jax.data.corpus.encoding import (
    Digest,
    Encoder,
    TextBlock,
    encode_in_order,
    join_long_documents,
    text_blocks,
)
from tx_jax.errors import InputError

DOCUMENTS = [f"Document {i} begins. It says {'more ' * (i % 7)}and ends." for i in range(200)]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(text.train("wordpiece", DOCUMENTS, vocab_size=100), "punctuation", max_characters=40)


def cut(documents, characters=500, fraction=0.2, **options):
    return text_blocks(documents, block_characters=characters, validation_fraction=fraction, **options)


def test_blocks_hold_all_documents_in_order():
    blocks = list(cut(DOCUMENTS))
    assert [document for block in blocks for document in block.texts] == DOCUMENTS
    assert all(sum(map(len, block.texts)) <= 500 for block in blocks)
    assert [block.documents for block in blocks] == np.cumsum([len(block.texts) for block in blocks]).tolist()


def test_blocks_continue_after_consumed_documents():
    blocks = list(cut(DOCUMENTS))
    consumed, digest = blocks[2].documents, Digest()
    for document in DOCUMENTS[:consumed]:
        digest.update(document)
    assert digest.hexdigest() == blocks[2].digest
    assert list(cut(DOCUMENTS[consumed:], consumed=consumed, digest=digest)) == blocks[3:]


def test_the_split_depends_on_content_alone():
    def held_out(documents):
        return {
            document
            for block in cut(documents)
            for document, is_validation in zip(block.texts, block.is_validation, strict=True)
            if is_validation
        }

    chosen = held_out(DOCUMENTS)
    assert 20 <= len(chosen) <= 60  # 40 expected, standard deviation 5.7
    assert held_out(DOCUMENTS[::-1]) == chosen
    copies = [f"\n{document} \n" for document in DOCUMENTS]
    assert {document.strip() for document in held_out(copies)} == chosen
    assert not any(any(block.is_validation) for block in cut(DOCUMENTS, fraction=0.0))


def test_nothing_is_read_ahead_of_a_block():
    taken = []

    def documents():
        for document in DOCUMENTS:
            taken.append(document)
            yield document

    block = next(cut(documents()))
    assert len(taken) <= len(block.texts) + 1


@pytest.mark.parametrize("mark", ["\n\n", "\n", " ", ""])
def test_a_long_document_comes_in_parts(mark):
    document = mark.join(["abcdefghi"] * 50)
    blocks = list(cut(["Before.", document, "After."], characters=100))
    assert [block.is_part for block in blocks] == [False, *[True] * (len(blocks) - 2), False]
    assert [block.is_last_part for block in blocks[1:-1]] == [*[False] * (len(blocks) - 3), True]
    assert "".join(block.texts[0] for block in blocks[1:-1]) == document
    if mark:
        assert all(block.texts[0].endswith(mark) for block in blocks[1:-2])


def test_long_documents_are_put_together_again(encoder):
    lines = [f"Line {i} of the document says more." for i in range(60)]
    documents = ["Before. It begins.", "\n".join(lines), "After. It ends.", " \n" * 300]
    in_parts = list(join_long_documents((block, encoder(block)) for block in cut(documents, characters=300)))
    (whole,) = [encoder(block) for block in cut(documents, characters=10_000)]
    for name in ("train", "validation"):
        for field in ("tokens", "sentence_lengths", "document_lengths"):
            parts = np.concatenate([getattr(encoded.splits[name], field) for _, encoded in in_parts])
            np.testing.assert_array_equal(parts, getattr(whole.splits[name], field))
    assert sum(encoded.counts["documents_empty"] for _, encoded in in_parts) == whole.counts["documents_empty"] == 1


def test_encoding_counts_and_drops(encoder):
    long = "word " * 30  # 150 characters, of which a sentence may have 40
    block = TextBlock(["One. It it.", "\u200b\x01", long, "\x02\nSays"], [False, False, True, False], 4, "")
    encoded = encoder(block)
    train, validation = encoded.splits["train"], encoded.splits["validation"]
    assert train.document_lengths.tolist() == [2, 1]
    assert len(train.sentence_lengths) == 3
    assert encoder.tokenizer.decode(train.tokens) == "one. it it. says"
    assert train.tokens.dtype == np.uint16
    assert validation.document_lengths.tolist() == [4]
    assert encoded.counts == {"characters": sum(map(len, block.texts)), "documents_empty": 1, "sentences_cut": 1}


def test_workers_keep_the_order_and_a_bounded_window(encoder):
    taken = []

    def blocks():
        for block in cut(DOCUMENTS, characters=200):
            taken.append(block)
            yield block

    total = len(list(cut(DOCUMENTS, characters=200)))
    assert total > 30
    results = []
    for block, encoded in encode_in_order(encoder, blocks(), workers=2):
        assert len(taken) - len(results) <= 4
        results.append((block, encoded))
    assert len(results) == total
    for block, encoded in results:
        expected = encoder(block)
        for name in ("train", "validation"):
            np.testing.assert_array_equal(encoded.splits[name].tokens, expected.splits[name].tokens)


class Killed:
    """Stands for an encoder whose process the system kills."""

    def __call__(self, block):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_an_error_that_says_so():
    with pytest.raises(InputError, match="a worker process was killed, most likely for lack of memory"):
        list(encode_in_order(Killed(), cut(DOCUMENTS), workers=2))


def test_sentences_keep_the_space_before_them_where_the_tokenizer_has_a_token_for_it():
    """So that the tokens of a document are those of its text, as byte-level models were trained on."""
    document = "It rains. It pours! 雨。雨です。 So it goes."
    with_space = text.train("gpt2_bpe", [document] * 9, vocab_size=300)
    definition = json.loads(json.dumps(with_space._definition))
    definition["pre_tokenizer"]["add_prefix_space"] = False
    published = type(with_space)(definition, with_space._names)
    assert published.add_prefix_space is False
    block = TextBlock([document, "Again. And again."], [False, False], 2, "")
    encoded = Encoder(published, "punctuation", max_characters=40)(block).splits["train"]
    # The line has a space after the second full stop of the Japanese, which a splitter by rules cannot know to keep.
    expected = ["It rains. It pours! 雨。雨です。So it goes.", "Again. And again."]
    ends = np.cumsum(encoded.sentence_lengths)[np.cumsum(encoded.document_lengths) - 1]
    assert [published.decode(tokens) for tokens in np.split(encoded.tokens, ends[:-1])] == expected
    assert published.encode(expected[1]) == encoded.tokens[ends[0] :].tolist()
    always = Encoder(with_space, "punctuation", max_characters=40)(block).splits["train"]
    first = with_space.encode("It rains.")
    assert always.tokens[: len(first)].tolist() == first
    assert with_space.decode(always.tokens[: always.sentence_lengths[:2].sum()]) == "It rains. It pours!"

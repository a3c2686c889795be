"""Stores and journals of former versions: found complete, or continued, unless files were misread."""

import json
import warnings
from dataclasses import replace

import pytest

from tests.data.corpus.test_prepare import Interrupted, contents, interrupt_at, settings, write_text
from tx_jax.data.corpus.prepare import prepare
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.errors import InputError, InputWarning

NEW_SETTINGS = ("format", "delimiter", "quote")


def as_formerly(path):
    """Makes of meta.json or journal.json what the former version wrote, which decided by the ending of names."""
    content = json.loads(path.read_text())
    for name in ("taken_for", "by_content"):
        content.pop(name, None)
    for name in NEW_SETTINGS:
        del content["settings"][name]
    path.write_text(json.dumps(content))
    return content


@pytest.fixture
def corpus_file(tmp_path):
    return write_text(tmp_path / "a.txt")


def test_a_store_of_a_former_version_is_found_complete(corpus_file, tmp_path):
    config = settings(tmp_path / "store", corpus_file)
    prepare(config)
    meta = as_formerly(config.store / "meta.json")
    assert meta["settings"] == {
        "specs": [str(corpus_file)],
        "documents": "blank_line",
        "field": "text",
        "encoding_errors": "error",
        "tokenizer": "trained on the source",
        "lowercase": True,
        "sentences": "punctuation",
        "validation_fraction": 0.05,
        "max_sentence_characters": 4096,
        "block_characters": 2_000,
        "shard_tokens": 1_500,
        "vocab_size": 120,
        "strip_accents": None,
        "tokenizer_characters": 200_000_000,
    }
    before = contents(config.store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare(config).was_complete
        assert prepare(replace(config, overwrite=True)).was_complete
    assert contents(config.store) == before
    with pytest.raises(InputError, match=r"different settings \(format 'auto', now 'text'\)"):
        prepare(replace(config, source=replace(config.source, format="text")))


def test_a_journal_of_a_former_version_is_continued_to_the_same_bytes(corpus_file, tmp_path):
    config = settings(tmp_path / "store", corpus_file)
    prepare(replace(config, store=tmp_path / "whole"))
    with pytest.raises(Interrupted):
        prepare(config, interrupt_at("encode", 150))
    as_formerly(config.store / "journal.json")
    stages = []
    prepare(config, lambda progress: stages.append(progress.stage))
    assert "resume" in stages
    assert contents(config.store) == contents(tmp_path / "whole")


def misread(tmp_path, progress=lambda _: None):
    """What the former version made of JSON lines named .json: the lines as text."""
    path = tmp_path / "a.json"
    path.write_text("\n\n".join(json.dumps({"text": f"Bake nare {i}. Lo vi."}) for i in range(50)))
    config = settings(tmp_path / "store", path)
    as_text = replace(config, source=replace(config.source, format="text"))
    prepare(as_text, progress)
    return config


def test_a_store_in_which_files_were_misread_is_kept_with_a_warning_until_it_is_replaced(tmp_path):
    config = misread(tmp_path)
    as_formerly(config.store / "meta.json")
    before = contents(config.store)
    with pytest.warns(InputWarning, match=r"it took \S+a.json for plain text, but that is JSON lines.*--over"):
        assert prepare(config).was_complete
    assert contents(config.store) == before
    meta = prepare(replace(config, overwrite=True)).meta
    assert [(taken["kind"], taken["documents"]) for taken in meta["taken_for"]] == [("jsonl", 50)]
    store = TokenStore.open(config.store)
    split = store.split("train")
    assert store.tokenizer().decode(split.read([0], [split.sentence_offsets[1]])) == "bake nare 0."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare(config).was_complete


def test_a_journal_of_misread_files_is_not_continued(tmp_path):
    with pytest.raises(Interrupted):
        misread(tmp_path, interrupt_at("encode", 30))
    as_formerly(tmp_path / "store" / "journal.json")
    config = settings(tmp_path / "store", tmp_path / "a.json")
    with pytest.raises(InputError, match=r"was begun by an earlier version: it took \S+a.json for plain text.*--over"):
        prepare(config)
    assert prepare(replace(config, overwrite=True)).meta["documents_read"] == 50


def test_a_file_that_cannot_be_used_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("<html><p>x</p></html>")
    with pytest.raises(InputError, match="HTML or XML"):
        prepare(settings(tmp_path / "store", tmp_path / "a.txt"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("content", ["lines", "array", "table"])
def test_other_kinds_continue_after_an_interruption_to_the_same_bytes(tmp_path, content):
    records = [{"text": f"Bake nare {i}. Lo vi so."} for i in range(200)]
    text = {
        "lines": "\n".join(map(json.dumps, records)),
        "array": json.dumps(records),
        "table": "text,n\n" + "".join(f"{record['text']},1\n" for record in records),
    }[content]
    (tmp_path / "a").write_text(text)
    config = settings(tmp_path / "store", tmp_path / "a")
    whole = prepare(replace(config, store=tmp_path / "whole")).meta
    assert [taken["documents"] for taken in whole["taken_for"]] == [200]
    with pytest.raises(Interrupted):
        prepare(config, interrupt_at("encode", 100))
    prepare(config)
    assert contents(config.store) == contents(tmp_path / "whole")

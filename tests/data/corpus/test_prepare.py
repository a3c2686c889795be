import itertools
import json
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tx_jax import text
from tx_jax.data.corpus import index
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.data.pretraining.packing import FullSentences
from tx_jax.errors import InputError
from tx_jax.text import Tokenizer
from tx_jax.text.wordpiece import WordPiece

WORDS = [a + b for a in ("ba", "ke", "lo", "mu", "ti") for b in ("na", "re", "so", "vi")]


def write_text(path, documents=300, seed=0):
    """Documents of one to six sentences."""
    chosen = random.Random(seed)
    texts = []
    for _ in range(documents):
        lengths = [chosen.randint(3, 9) for _ in range(chosen.randint(1, 6))]
        texts.append("\n".join(" ".join(chosen.choices(WORDS, k=k)).capitalize() + "." for k in lengths))
    path.write_text("\n\n".join(texts) + "\n")
    return path


def settings(store, *specs, **options):
    """Small blocks and shards, and a journal written after every block."""
    source_options = {key: options.pop(key) for key in ("documents", "encoding_errors") if key in options}
    small = {"vocab_size": 120, "workers": 1, "block_characters": 2_000, "shard_tokens": 1_500, "journal_seconds": 0.0}
    return PrepareConfig(store, SourceConfig(tuple(map(str, specs)), **source_options), **{**small, **options})


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Interrupted(Exception):
    pass


def interrupt_at(stage, documents):
    def progress(progress):
        if progress.stage == stage and progress.documents >= documents:
            raise Interrupted

    return progress


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "a.txt")


@pytest.fixture(scope="module")
def made(tmp_path_factory, corpus_file):
    """The store of `corpus_file`, made without interruption."""
    store = tmp_path_factory.mktemp("made") / "store"
    prepare(settings(store, corpus_file))
    return store


def test_the_store_is_that_of_whole_sentences_encoded_by_the_library(made, corpus_file, tmp_path, monkeypatch):
    monkeypatch.setattr(WordPiece, "encode_batch", lambda self, texts: [x.ids for x in self.encode_aligned(texts)])
    monkeypatch.setattr(WordPiece, "encode_flat", Tokenizer.encode_flat)  # nothing is remembered
    prepare(settings(tmp_path / "store", corpus_file))
    assert TokenStore.open(tmp_path / "store").fingerprint == TokenStore.open(made).fingerprint


def test_counts_add_up(made):
    store = TokenStore.open(made)
    store.verify()
    splits = {name: store.split(name) for name in ("train", "validation")}
    assert sum(split.num_documents for split in splits.values()) == store.meta["documents_read"] == 300
    assert 3 <= splits["validation"].num_documents <= 30  # 15 expected, standard deviation 3.8
    for name, split in splits.items():
        lengths = np.diff(split.document_offsets)
        assert store.meta["splits"][name]["single_sentence_documents"] == (lengths == 1).sum()
        assert store.meta["splits"][name]["unknown_tokens"] == 0
    assert len(store.meta["splits"]["train"]["shards"]) > 3


def test_the_number_of_workers_does_not_change_the_store(made, corpus_file, tmp_path):
    prepare(settings(tmp_path / "store", corpus_file, workers=2))
    assert contents(tmp_path / "store") == contents(made)


@pytest.mark.parametrize(("stage", "documents"), [("tokenizer", 0), ("encode", 1), ("encode", 150), ("encode", 300)])
def test_an_interrupted_call_continues_to_the_same_bytes(made, corpus_file, tmp_path, stage, documents):
    config = settings(tmp_path / "store", corpus_file)
    with pytest.raises(Interrupted):
        prepare(config, interrupt_at(stage, documents))
    with pytest.raises(InputError, match="is unfinished: run the same"):
        TokenStore.open(config.store)
    stages = []
    prepared = prepare(config, lambda progress: stages.append((progress.stage, progress.documents)))
    assert not prepared.was_complete
    assert contents(config.store) == contents(made)
    if stage == "encode":
        assert "tokenizer" not in dict(stages)
        again = [count for stage, count in stages if stage == "encode"]
        assert all(count > documents for count in again)  # and only what was missing is encoded


def test_a_killed_process_leaves_nothing_running_and_continues_to_the_same_bytes(made, corpus_file, tmp_path):
    script = """
import sys
from pathlib import Path
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig

if __name__ == "__main__":
    config = PrepareConfig(Path(sys.argv[1]), SourceConfig((sys.argv[2],)), vocab_size=120, workers=2,
                           block_characters=2_000, shard_tokens=1_500, journal_seconds=0.0)
    prepare(config, lambda progress: print(progress.stage, progress.documents, flush=True))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "store"), str(corpus_file)]
    for documents in (40, 170):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                stage, count = line.split()
                if stage == "encode" and int(count) >= documents:
                    process.send_signal(signal.SIGKILL)
                    break
            process.stdout.read()  # ends when the workers are gone as well: they hold the other end of the pipe
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "store" / "meta.json").exists()
    assert json.loads((tmp_path / "store" / "journal.json").read_text())["documents"] >= 170
    prepare(settings(tmp_path / "store", corpus_file))
    assert contents(tmp_path / "store") == contents(made)


def test_a_finished_store_is_left_as_it_is(made, corpus_file):
    before = contents(made)
    prepared = prepare(settings(made, corpus_file, workers=2))
    assert prepared.was_complete
    assert prepared.meta == TokenStore.open(made).meta
    assert contents(made) == before


def test_a_store_made_otherwise_is_refused_and_replaced_only_on_request(corpus_file, tmp_path, monkeypatch):
    config = settings(tmp_path / "store", corpus_file)
    prepare(config)
    other = text.train("wordpiece", ["another text " * 9], vocab_size=40)
    other.save(tmp_path / "other")
    before = contents(config.store)
    with pytest.raises(
        InputError, match=r"different settings \(vocab_size 120, now 130\); choose another --store, or pass --over"
    ):
        prepare(replace(config, vocab_size=130))
    with pytest.raises(InputError, match=rf"tokenizer 'trained on the source', now '{other.fingerprint}'"):
        prepare(replace(config, tokenizer=str(tmp_path / "other")))
    assert contents(config.store) == before
    (config.store / "notes.txt").write_text("mine")
    monkeypatch.setattr(index, "SMALL", 0)
    FullSentences(TokenStore.open(config.store).split("train"), sequence_length=16, pad_id=0, cls_id=1, sep_id=2)
    assert (config.store / "index").is_dir()
    prepare(replace(config, tokenizer=str(tmp_path / "other"), overwrite=True))
    assert TokenStore.open(config.store).tokenizer().fingerprint == other.fingerprint
    assert (config.store / "notes.txt").read_text() == "mine"
    assert not (config.store / "index").exists()
    # With the same settings there is nothing to replace, until something is damaged.
    replaced = replace(config, tokenizer=str(tmp_path / "other"), overwrite=True)
    assert prepare(replaced).was_complete
    shard = config.store / "train" / "tokens-00000.npy"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"\xff")
    assert not prepare(replaced).was_complete
    assert shard.read_bytes() == good


def test_a_changed_source_is_noticed(tmp_path):
    path = write_text(tmp_path / "a.txt")
    config = settings(tmp_path / "store", path)
    with pytest.raises(Interrupted):
        prepare(config, interrupt_at("encode", 150))
    path.write_text("A new beginning.\n\n" + path.read_text())
    with pytest.raises(InputError, match=r"source changed since .* was interrupted; .*--overwrite"):
        prepare(config)
    assert not prepare(replace(config, overwrite=True)).was_complete
    path.write_text(path.read_text() + "\nAnd a new end.\n")
    with pytest.raises(InputError, match=r"files of the source changed since .*--overwrite"):
        prepare(config)
    assert not prepare(replace(config, overwrite=True)).was_complete


def test_after_invalid_utf8_another_policy_continues(tmp_path):
    path = write_text(tmp_path / "a.txt", documents=200)
    path.write_bytes(path.read_bytes() + b"\nThe caf\xe9.\n\nBake lore.\n")
    text.train("wordpiece", [path.read_text(errors="ignore")], vocab_size=120).save(tmp_path / "tokenizer")
    config = settings(tmp_path / "store", path, tokenizer=str(tmp_path / "tokenizer"))
    with pytest.raises(InputError, match=r"a.txt, line \d+, byte \d+: not valid UTF-8"):
        prepare(config)
    stages = []
    skipping = replace(config, source=replace(config.source, encoding_errors="skip"))
    prepare(skipping, lambda progress: stages.append(progress.stage))
    assert "resume" in stages
    prepare(replace(skipping, store=tmp_path / "whole"))
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_what_was_cleaned_is_counted(tmp_path):
    lines = [
        b"\xef\xbb\xbfBake na\0re.\r\n",
        b"Lo vi. Ti\r\n",
        b"\r\n",
        b"Caf\xe9\r\n",
        b"\r\n",
        b"\xe2\x80\x8b\r\n",
        b"\r\n",
    ]
    (tmp_path / "a.txt").write_bytes(b"".join(lines) + b"so " * 100 + b"\n\nBake [MASK] nare.")
    options = {"encoding_errors": "skip", "max_sentence_characters": 200, "validation_fraction": 0.0, "vocab_size": 60}
    meta = prepare(settings(tmp_path / "store", tmp_path / "a.txt", **options)).meta
    assert meta["cleaned"] == {"documents_empty": 1, "invalid_utf8": 1, "nul": 1, "sentences_cut": 1}
    assert meta["splits"]["train"]["documents"] == 3
    assert meta["splits"]["train"]["sentences"] == 3 + 2 + 1
    store = TokenStore.open(tmp_path / "store")
    split, tokenizer = store.split("train"), store.tokenizer()
    assert tokenizer.decode(split.read([0], [split.sentence_offsets[1]])) == "bake nare."
    last = split.read(split.sentence_offsets[-2:-1], split.sentence_offsets[-1:])
    assert tokenizer.decode(last) == "bake [ mask ] nare."
    assert not set(last.tolist()) & set(tokenizer.special_ids)


def test_copies_share_a_split_and_unknown_words_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(["Same text here.", "Ж here."] * 50))
    text.train("wordpiece", ["same text here. "], vocab_size=40).save(tmp_path / "tokenizer")
    config = settings(
        tmp_path / "store", tmp_path / "a.txt", tokenizer=str(tmp_path / "tokenizer"), validation_fraction=0.3
    )
    splits = prepare(config).meta["splits"]
    assert [splits[name]["documents"] for name in ("train", "validation")] == [50, 50]
    assert [splits[name]["unknown_tokens"] for name in ("train", "validation")] == [50, 0]


@pytest.mark.parametrize("content", ["", "\n\n  \n\t\n", "\u200b\x01\n"])
@pytest.mark.parametrize("given", [False, True])
def test_a_corpus_without_text_is_an_error_and_leaves_nothing(tmp_path, content, given):
    (tmp_path / "a.txt").write_text(content)
    text.train("wordpiece", ["some text"], vocab_size=40).save(tmp_path / "tokenizer")
    config = settings(tmp_path / "store", tmp_path / "a.txt", tokenizer=str(tmp_path / "tokenizer") if given else None)
    with pytest.raises(InputError, match="no text"):
        prepare(config)
    (tmp_path / "a.txt").write_text("Now there is text.")
    prepare(replace(config, validation_fraction=0.0))


def test_bad_settings_are_errors(corpus_file, tmp_path):
    for options, message in (
        ({"validation_fraction": 1.0}, "validation_fraction=1.0: expected 0 <= fraction < 1"),
        ({"workers": 0}, "workers=0: expected 1 or more"),
        ({"shard_tokens": 0}, "shard_tokens=0: expected 1 or more"),
        ({"sentences": "lines"}, "unknown sentence mode 'lines'.*Did you mean 'line'"),
    ):
        with pytest.raises(InputError, match=message):
            settings(tmp_path / "store", corpus_file, **options)
    with pytest.raises(InputError, match="no tokenizer folder at"):
        prepare(settings(tmp_path / "store", corpus_file, tokenizer=str(tmp_path / "none")))
    with pytest.raises(InputError, match="no file matches"):
        prepare(settings(tmp_path / "store", tmp_path / "*.text"))
    assert not (tmp_path / "store").exists()
    (tmp_path / "one.txt").write_text("Bake nare.")
    with pytest.raises(InputError, match="all 1 documents fell into the validation split: lower validation_fraction"):
        prepare(settings(tmp_path / "store", tmp_path / "one.txt", validation_fraction=0.999999, vocab_size=30))


def test_a_folder_of_something_else_is_left_alone(corpus_file, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "precious.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is not a token store but contains train: choose another --store"):
            prepare(settings(tmp_path, corpus_file, overwrite=overwrite))
    assert contents(tmp_path) == {"train/precious.txt": b"mine"}
    with pytest.raises(InputError, match=r"precious\.txt is a file"):
        prepare(settings(tmp_path / "train" / "precious.txt", corpus_file))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
def test_one_line_of_20_megabytes_stays_small(tmp_path):
    (tmp_path / "a.txt").write_text("bake nare " * 1_000_000 + "letters" * 1_430_000)
    text.train("wordpiece", ["bake nare"], vocab_size=40).save(tmp_path / "tokenizer")
    script = """
import re, sys
from pathlib import Path
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig

source, tokenizer, store = sys.argv[1:]
config = PrepareConfig(Path(store), SourceConfig((source,)), tokenizer=tokenizer, validation_fraction=0.0, workers=1)
cut = prepare(config).meta["cleaned"]["sentences_cut"]
# Not getrusage's figure: a child's begins at that of the process that started it.
print(cut, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    command = [sys.executable, "-c", script, *(str(tmp_path / name) for name in ("a.txt", "tokenizer", "store"))]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    sentences_cut, kilobytes = map(int, run.stdout.split())
    assert sentences_cut > 30  # once in every part of the line
    assert kilobytes < 500_000


def test_a_verbatim_store_holds_the_texts_themselves(tmp_path):
    """Line ends, indents and blank characters; only the blank lines between documents are not in one."""
    documents = ["First:\n  Before we\tgo,\nhear me.", "Second:\nSpeak,  speak."] * 4
    (tmp_path / "a.txt").write_text("\n\n".join(documents))
    options = {"tokenizer_kind": "gpt2_bpe", "vocab_size": 270, "sentences": "verbatim", "validation_fraction": 0.0}
    prepare(settings(tmp_path / "store", tmp_path / "a.txt", **options, max_sentence_characters=20))
    store = TokenStore.open(tmp_path / "store")
    split = store.split("train")
    bounds = split.sentence_offsets[split.document_offsets]
    pairs = itertools.pairwise(bounds)
    found = [store.tokenizer().decode(split.read(np.array([a]), np.array([b]))) for a, b in pairs]
    assert [text.strip() for text in found] == documents
    with pytest.raises(InputError, match="sentences=verbatim keeps line ends, which tokenizer_kind=wordpiece does not"):
        settings(tmp_path / "other", tmp_path / "a.txt", sentences="verbatim")

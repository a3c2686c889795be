import re

import pytest

from tx_jax.data.corpus import embedded
from tx_jax.data.corpus.sources import Source, SourceConfig
from tx_jax.text import sentences


@pytest.fixture(scope="module")
def documents():
    return embedded.documents()


@pytest.mark.long
def test_it_is_a_corpus_to_learn_from(documents):
    assert len(documents) > 300
    assert sum(map(len, documents)) > 2_000_000
    counts = [len(list(sentences.split(document, "punctuation"))) for document in documents]
    assert sum(count >= 4 for count in counts) > 0.95 * len(counts)
    assert list(Source(SourceConfig(("embedded",)))) == list(documents)


@pytest.mark.long
def test_no_paragraph_occurs_twice(documents):
    paragraphs = [paragraph for document in documents for paragraph in document.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs))


@pytest.mark.long
def test_it_is_prose(documents):
    text = "\n".join(documents)
    assert ">>>" not in text
    assert "::=" not in text
    assert not re.search(r"^[=*~-]{3,}$", text, re.MULTILINE)
    words = re.findall(r"[A-Za-z]+", text.lower())
    # The commonest words of English make up about a third of prose, and next to nothing of code.
    common = {
        "the",
        "of",
        "and",
        "a",
        "to",
        "in",
        "is",
        "that",
        "it",
        "for",
        "be",
        "are",
        "with",
        "as",
        "this",
        "or",
        "not",
    }
    assert sum(word in common for word in words) > 0.25 * len(words)


def test_markup_is_removed():
    text = """Title
=====

Call :meth:`~list.sort` with ``key=None`` or *reverse* here.

.. note::
   Only **one** of 2 * 3 * 4.
"""
    stripped = embedded._strip_markup(text)
    assert "Call list.sort with key=None or reverse here." in stripped
    assert "Only one of 2 * 3 * 4." in stripped
    assert "==" not in stripped


@pytest.mark.parametrize(
    ("paragraph", "is_prose"),
    [
        ("Return the size of the file, or None if it is missing.", True),
        ('The "assert" statement (see above) is useful; don\'t overuse it.', True),
        ("Assignment statements", False),
        ("for i in range(10): print(i, x[i] + 1) if i % 2 else y = f(i)", False),
        ("classdef ::= [decorators] 'class' classname [inheritance] ':' suite", False),
        (">>> this is a line of a session at the prompt", False),
    ],
)
def test_what_counts_as_prose(paragraph, is_prose):
    assert embedded._is_prose(paragraph) == is_prose


def test_files_are_parsed_not_run_and_those_that_do_not_parse_passed_over(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("def :")
    (tmp_path / "nul.py").write_bytes(b"x = '\0'")
    (tmp_path / "latin.py").write_bytes(b"'\xe9'")
    prose = "This module does one thing, and it does that one thing well for all of us. "
    (tmp_path / "raising.py").write_text("raise SystemExit('nothing here is to be run')")
    (tmp_path / "good.py").write_text(
        '"""' + "\n\n".join(f"In part {w}: {prose}" for w in ("one", "two", "three", "four")) + '\n"""'
    )
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text('"""' + 10 * prose + '"""')
    monkeypatch.setattr(embedded.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    documents = embedded.documents.__wrapped__()
    assert len(documents) == 1
    assert documents[0].startswith("In part one: This module")


def test_block_comments_are_read_and_other_uses_of_the_sign_are_not(tmp_path, monkeypatch):
    (tmp_path / "commented.py").write_text(
        "# The first comment goes on over two lines, and it is\n"
        "# therefore read as one paragraph of text, which is what its author meant.\n"
        'x = """\n# This line stands inside of a string and is no comment of anybody at all.\n"""\n'
        "y = 1  # This one stands behind code on its line and is not read, whatever it says.\n"
        "def f():\n"
        "    # The second comment is indented, as most comments are, and stands alone here.\n"
        "    #\n"
        "    # The third is a paragraph of its own, because an empty comment line ends the one before. "
        "More words are needed to make this a document, so here are some of them. "
        "More words are needed to make this a document, so here are some of them. \n"
        "    return y\n"
        "z = ('one'\n"
        "     # The fourth stands between strings that make one, and is a comment all the same.\n"
        '     f"""\n# And this line is a part of that string again, so that nobody ever reads it.\n""")\n'
    )
    monkeypatch.setattr(embedded.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    (document,) = embedded.documents.__wrapped__()
    paragraphs = document.split("\n\n")
    assert [paragraph.split()[1] for paragraph in paragraphs] == ["first", "second", "third", "fourth"]
    assert "and it is therefore read" in paragraphs[0]

"""The embedded corpus: real English text from the Python installation, for a first run without a download.

Two kinds of documents: the chapters of the language reference in `pydoc_data.topics`, and the docstrings and block
comments of each module of the standard library. All are read from the source files with `ast` and `tokenize`; nothing
is imported. Only prose is kept, one paragraph per line, with a blank line between paragraphs: sentence modes
"punctuation" and "wrapped" give the same result on it. Only the first occurrence of a paragraph is kept, so that no
document repeats another.
"""

import ast
import bisect
import functools
import io
import itertools
import os
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# Not documentation, or missing from some installations.
_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "pydoc_data"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_MIN_CHARACTERS = 300  # per document: about four sentences
_MIN_WORDS = 5  # per paragraph: anything shorter is a heading
_MIN_PROSE = 0.8  # share of a paragraph's words that look like English words

_RULE = re.compile(r"^[ \t]*([^\w\s])\1{2,}[ \t]*$", re.MULTILINE)
_ROLE = re.compile(r":[a-z]+(?::[a-z]+)?:`~?\.?([^`]*)`")
_DIRECTIVE = re.compile(r"^[ \t]*\.\. [\w-]+::", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\w)(\*\*|\*|``|`)(?=\S)([^*`\n]*[^*`\s])\1(?!\w)")
_BULLET = re.compile(r"^[ \t]*(?:[-*+•]|\(?\w{1,2}[.)])[ \t]+", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_WORD = re.compile(r"[(\"'“‘`]*[A-Za-z]+(?:['’/-][A-Za-z]+)*['’]?(?:[,.;:!?)\"'”’`]|\(\))*")


@functools.cache
def documents() -> tuple[str, ...]:
    """The documents of the embedded corpus, about 2.5 million characters, in an order that depends only on the Python
    installation. They are read once per process, which takes a few seconds."""
    root = Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    candidates = (list(_new_prose(texts, seen)) for texts in itertools.chain(_topics(root), _modules(root)))
    return tuple("\n\n".join(paragraphs) for paragraphs in candidates if sum(map(len, paragraphs)) >= _MIN_CHARACTERS)


def _topics(root: Path) -> Iterator[list[str]]:
    """The chapters of the language reference, shortest first, because the long ones repeat some of the others."""
    tree = _parse(root / "pydoc_data" / "topics.py")
    dictionary = next((node.value for node in getattr(tree, "body", ()) if isinstance(node, ast.Assign)), None)
    if dictionary is not None:
        for topic in sorted(ast.literal_eval(dictionary).values(), key=lambda topic: (len(topic), topic)):
            yield [topic]


def _modules(root: Path) -> Iterator[list[str]]:
    """The docstrings of every module of the standard library, in source order, then its block comments."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - _SKIPPED_FOLDERS)  # os.walk visits the rest in this order
        for file in sorted(files):
            path = Path(folder, file)
            if file.endswith(".py") and (tree := _parse(path)) is not None:
                yield [*_docstrings(tree), *_block_comments(tree, path)]


def _parse(path: Path) -> ast.Module | None:
    """The syntax tree of a source file; None if there is no such file or it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings do not matter here
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _docstrings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _DOCUMENTED) and (docstring := ast.get_docstring(node)):
        yield docstring
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.ExceptHandler)):  # no need to look into expressions
            yield from _docstrings(child)


def _block_comments(tree: ast.Module, path: Path) -> Iterator[str]:
    """Comments on lines of their own; consecutive lines form one text.

    A line that begins with # is one unless it belongs to a string. Only strings that hold such a line are tokenized,
    since Python's tokenizer takes most of the time that all of this takes.
    """
    with tokenize.open(path) as file:
        lines = [line.strip() for line in file]
    comments = [row for row, line in enumerate(lines, 1) if line.startswith("#")]
    for node in _strings_across(tree, comments):
        inside = set(_within(node, comments))
        inside -= _comments_between_strings(path, node)
        comments = [row for row in comments if row not in inside]
    texts: dict[int, list[str]] = {}  # keyed by the number of the line after the text
    for row in comments:
        texts[row + 1] = [*texts.pop(row, []), lines[row - 1].lstrip("#").strip()]
    return map("\n".join, texts.values())


def _within(node: ast.AST, rows: Sequence[int]) -> Sequence[int]:
    """Those of sorted rows that a node has after its first one."""
    return rows[bisect.bisect_right(rows, node.lineno) : bisect.bisect_right(rows, node.end_lineno)]


def _strings_across(node: ast.AST, rows: Sequence[int]) -> Iterator[ast.Constant | ast.JoinedStr]:
    """The strings below a node that go on in any of these rows."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno") and not _within(child, rows):
            continue
        if isinstance(child, ast.Constant | ast.JoinedStr):
            yield child
        else:
            yield from _strings_across(child, rows)


def _comments_between_strings(path: Path, node: ast.Constant | ast.JoinedStr) -> set[int]:
    """The rows of the comments among strings that are written one after another and make one."""
    with tokenize.open(path) as file:
        segment = ast.get_source_segment(file.read(), node)
    tokens = tokenize.generate_tokens(io.StringIO(f"({segment})").readline)
    return {node.lineno - 1 + token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def _new_prose(texts: Iterable[str], seen: set[str]) -> Iterator[str]:
    """The paragraphs of prose in `texts` that are not in `seen`; they are added to it."""
    for text in texts:
        for paragraph in _BLANK_LINES.split(_strip_markup(text)):
            paragraph = " ".join(paragraph.split())
            if paragraph not in seen and _is_prose(paragraph):
                seen.add(paragraph)
                yield paragraph


def _strip_markup(text: str) -> str:
    """Remove reStructuredText markup, and put every list item and text before a rule in its own paragraph."""
    text = _RULE.sub("\n", text)
    text = _DIRECTIVE.sub("\n", text)
    text = _ROLE.sub(r"\1", text)
    text = _EMPHASIS.sub(r"\2", text)
    text = _BULLET.sub("\n", text)
    return text


def _is_prose(paragraph: str) -> bool:
    """Whether most words of a paragraph are English, and it is not code, a table, or a heading."""
    words = paragraph.split()
    if len(words) < _MIN_WORDS or ">>>" in paragraph:
        return False
    return sum(_WORD.fullmatch(word) is not None for word in words) >= _MIN_PROSE * len(words)

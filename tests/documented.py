"""The code blocks of README and docs."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    ROOT / "benchmarks/README.md",
]


class Block(NamedTuple):
    """A fenced block: its language as it is given, "" without one, the number of its first line, and its text."""

    language: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, without the indentation that all of their lines have."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.M | re.S)
    return [
        Block(one[2], text.count("\n", 0, one.start(3)) + 1, re.sub(rf"^{one[1]}", "", one[3], flags=re.M))
        for one in found
    ]


def modules(page: Path, folder: Path) -> list[str]:
    """Writes the Python blocks that begin with their file's name, such as "# my_masking.py". Returns the modules."""
    found = []
    for block in blocks(page):
        if block.language == "python" and (name := re.match(r"# (\w+)\.py\n", block.text)):
            (folder / f"{name[1]}.py").write_text(block.text)
            found.append(name[1])
    return found

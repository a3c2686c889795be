"""Makes the .ipynb of each notebook from the .py beside it (jupytext's percent format), without outputs.

    python -m notebooks.sync            # after editing a .py, whose header it also puts in order
    python -m notebooks.sync --check    # changes nothing; exit code 1 if something would change

`jupytext --sync` does the same for pairs of one's own; this needs Python alone, gives the same cells the same ids every
time, and drops the outputs of notebooks that were run.
"""

import argparse
import dataclasses
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parent
LANGUAGES = ("es", "en")
# Nothing that changes with jupytext's version.
FILTER = "-jupytext.text_representation.format_version,-jupytext.text_representation.jupytext_version"
HEADER = f"""\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: {FILTER}
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
"""
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent", "notebook_metadata_filter": FILTER},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KINDS = {"# %%": "code", "# %% [markdown]": "markdown"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """
    Attributes:
      kind: "code" or "markdown".
      source: its text, without the "# " that a .py has before markdown.
    """

    kind: str
    source: str


def notebooks(language: str) -> list[Path]:
    """The .py of each notebook in a language, sorted."""
    return sorted((FOLDER / language).glob("*.py"))


def with_header(text: str) -> str:
    """A .py with the header that all have, whichever it had."""
    return re.sub(r"\A# ---\n.*?^# ---\n", HEADER, text, count=1, flags=re.DOTALL | re.MULTILINE)


def cells_of_script(text: str) -> list[Cell]:
    """The cells of a .py. Raises ValueError for what only jupytext understands."""
    if not with_header(text).startswith(HEADER):
        raise ValueError("it does not begin with a header of jupytext")
    parts: list[tuple[str, list[str]]] = []
    for number, line in enumerate(with_header(text).removeprefix(HEADER).splitlines(), HEADER.count("\n") + 1):
        if line.startswith("# %%"):
            if line not in KINDS:
                raise ValueError(f"line {number}: a cell begins with one of {', '.join(KINDS)}, not {line!r}")
            parts.append((KINDS[line], []))
        elif parts:
            parts[-1][1].append(line)
        elif line:
            raise ValueError(f"line {number}: text before the first cell")
    return [Cell(kind, _source(kind, lines)) for kind, lines in parts]


def _source(kind: str, lines: list[str]) -> str:
    if kind == "markdown":
        if wrong := [line for line in lines if line and line != "#" and not line.startswith("# ")]:
            raise ValueError(f"a line of markdown without '# ' before it: {wrong[0]!r}")
        lines = [line[2:] for line in lines]
    return "\n".join(lines).strip("\n")


def cells_of_notebook(text: str) -> list[Cell]:
    """The cells of an .ipynb."""
    return [Cell(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]


def notebook(cells: list[Cell]) -> str:
    """The text of an .ipynb."""
    seen: Counter[Cell] = Counter()
    written = []
    for cell in cells:
        seen[cell] += 1
        digest = hashlib.sha256(f"{cell.kind} {seen[cell]} {cell.source}".encode()).hexdigest()
        of_code = {"execution_count": None, "outputs": []} if cell.kind == "code" else {}
        source = cell.source.splitlines(keepends=True)
        written.append({"cell_type": cell.kind, "id": digest[:12], "metadata": {}, "source": source, **of_code})
    content = {"cells": written, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something would change")
    check, changed = parser.parse_args().check, False
    for path in (path for language in LANGUAGES for path in notebooks(language)):
        text = path.read_text(encoding="utf-8")
        try:
            wanted = {path: with_header(text), path.with_suffix(".ipynb"): notebook(cells_of_script(text))}
        except ValueError as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 2
        for target, made in wanted.items():
            if not target.is_file() or target.read_text(encoding="utf-8") != made:
                changed = True
                print(f"{'differs' if check else 'written'}: {target.relative_to(FOLDER.parent)}")
                if not check:
                    target.write_text(made, encoding="utf-8")
    return int(check and changed)


if __name__ == "__main__":
    sys.exit(main())

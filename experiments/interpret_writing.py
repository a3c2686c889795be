"""What the words of `experiments.interpret` share: their texts, their progress, and the files they write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from experiments import command_line


def texts_given(*, least: int = 1) -> list[str]:
    """The texts of --text and --input. Ends the process where there are fewer than `least`."""
    from tx_jax.data.prompt_files import read_prompts
    from tx_jax.files import path_of

    texts = list(flags.FLAGS.text)
    if flags.FLAGS.input:
        texts += read_prompts(path_of(flags.FLAGS.input, "--input", reads=True), "text")
    if len(texts) < least:
        more = "a text" if least == 1 else f"{least} texts"
        command_line.fail(f"needed: {more}, by --text, which may be repeated, or --input=FILE with one a line")
    return texts


def numbers_given(flag: str, default: Sequence[int] | None = None) -> list[int] | None:
    """A flag's whole numbers: "0,3,7" or "0-3,7"."""
    values = flags.FLAGS[flag].value
    if values is None:
        return None if default is None else list(default)
    found: list[int] = []
    for value in values:
        first, dash, last = value.strip().partition("-") if not value.strip().startswith("-") else (value, "", "")
        try:
            found += range(int(first), int(last) + 1) if dash else [int(first)]
        except ValueError:
            command_line.fail(f"--{flag}={','.join(values)}: {value!r} is no number and no range such as 0-3")
    if not found:
        command_line.fail(f"--{flag}={','.join(values)} names none")
    return found


@contextmanager
def progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal that appears where the work takes longer than a moment."""
    from tqdm import tqdm

    with tqdm(unit=unit, dynamic_ncols=True, delay=1, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def write(
    outs: Sequence[Path],
    *,
    picture: Callable[[], Figure] | None = None,
    table: tuple[Sequence[str], Sequence[Sequence[Any]]] | None = None,
    arrays: Mapping[str, Any] | None = None,
    page: Callable[[], str] | None = None,
) -> None:
    """Writes each file in the form that its ending says.

    Args:
      picture, page: are made only where they are wanted.
      table: columns and rows.
    """
    from tx_jax.files import write_atomically
    from tx_jax.interpret import pictures

    for out in outs:
        ending = Path(out.name).suffix.lower()
        if ending == ".csv" and table is not None:
            pictures.write_csv(out, *table)
        elif ending == ".npz" and arrays is not None:
            pictures.write_npz(out, arrays)
        elif ending == ".html" and page is not None:
            write_atomically(out, page())
        elif ending in pictures.FORMATS and picture is not None:
            pictures.save(picture(), out)
        else:
            raise AssertionError(f"{out}: nothing to write")


def show(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Prints a table; numbers with four digits."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None)
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{value:.4f}" if isinstance(value, float) else str(value)) for value in row))
    Console().print(table)

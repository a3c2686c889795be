"""What the words of `experiments.interpret` share: their texts, their progress, and the files they write."""

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, reading_flags


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
            numbers = range(int(first), int(last) + 1) if dash else [int(first)]
        except ValueError:
            command_line.fail(f"--{flag}={','.join(values)}: {value!r} is no number and no range such as 0-3")
        if not numbers:
            command_line.fail(f"--{flag}={','.join(values)}: {value!r} goes backwards and names none")
        found += numbers
    if not found:
        command_line.fail(f"--{flag}={','.join(values)} names none")
    return found


def read_labeled(flag: str, *, column: str = "", label: str = "", more: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """Of each example of the file that a flag names: its words or text, its labels, and the columns `more`.

    Args:
      column, label: by default those of --column and --label.
    """
    from tx_jax.config import LabeledDataConfig
    from tx_jax.data.labeled import readers
    from tx_jax.errors import InputError

    source = flags.FLAGS[flag].value
    if not source:
        command_line.fail(f"--{flag} is needed: a file of labeled texts or words")
    column = column or flags.FLAGS.column or ("form" if ".conllu" in source else "text")
    label = label or flags.FLAGS.label
    if not label:
        command_line.fail("--label is needed: the column of the labels, such as upos")
    config = LabeledDataConfig(
        train=source,
        validation="",
        text=(column,),
        label=label,
        sequence_length=8,
        read_ahead=1,
        metrics=(),
        **reading_flags.options(),
    )
    try:
        records = readers.read(source, config)
    except InputError as error:
        # What is the text there is the column here, where --text holds texts.
        raise InputError(str(error).replace("--config.data.text", "--column").replace("--config.data.", "--")) from None
    if flags.FLAGS.limit:
        records = records[: flags.FLAGS.limit]
    if missing := [name for name in more if name not in records[0]]:
        command_line.fail(f"{source} has no column {missing[0]!r}: give CoNLL-U")
    return [tuple(record[name] for name in (column, label, *more)) for record in records]


@contextmanager
def progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, where the work takes longer than a moment; elsewhere a plain line every few seconds."""
    from tqdm import tqdm

    from experiments.progress import LINE_SECONDS

    if not sys.stderr.isatty():
        shown = time.monotonic()

        def say(done: int, total: int) -> None:
            nonlocal shown
            if time.monotonic() - shown >= LINE_SECONDS and done < total:
                shown = time.monotonic()
                print(f"{unit}: {done:,} of {total:,}", file=sys.stderr, flush=True)

        yield say
        return
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

    writers: list[Callable[[], None]] = []  # nothing is written where something cannot be made
    for out in outs:
        ending = Path(out.name).suffix.lower()
        if ending == ".csv" and table is not None:
            writers.append(functools.partial(pictures.write_csv, out, *table))
        elif ending == ".npz" and arrays is not None:
            writers.append(functools.partial(pictures.write_npz, out, arrays))
        elif ending == ".html" and page is not None:
            writers.append(functools.partial(write_atomically, out, page()))
        elif ending in pictures.FORMATS and picture is not None:
            writers.append(functools.partial(pictures.save, picture(), out))
        else:
            raise AssertionError(f"{out}: nothing to write")
    for writer in writers:
        writer()


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

"""What a recipe should reach beside what a run has reached, at the end of the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from experiments import command_line
from experiments.display import make_console
from tx_jax.reports import expected
from tx_jax.reports.expected import Outcome

STYLES = {"reached": "green", "below": "red", "above": "yellow"}


def show_outcomes(workdir: Path, config: str, given: Sequence[str], final: Mapping[str, Mapping[str, float]]) -> None:
    """Writes expected.json and prints it, if the configuration expects something.

    Args:
      config: FILE:VARIANT, as it was given.
      given: the keys that are set on the command line.
      final: the metrics of the final evaluation by split.
    """
    rows = expected.parse(command_line.expected_of(config), config) if config else []
    if not rows:
        return
    found, changed = expected.outcomes(rows, workdir, final), expected.changes(given)
    expected.write(workdir, config, changed, found)
    show(config, changed, found)


def show(recipe: str, changed: Sequence[str], found: Sequence[Outcome]) -> None:
    """Prints a table."""
    table = Table("metric", "data", title=f"What {recipe} should reach")
    for name in ("reached", "expected"):
        table.add_column(name, justify="right")
    for name in ("", "source", "hardware"):
        table.add_column(name)
    for one in found:
        row, style = one.expected, STYLES.get(one.verdict, "")
        reached = "" if one.reached is None else f"{one.reached:.4f}"
        when = f"{row.split}, step {row.step:,}" if row.step is not None else row.split
        verdict = f"[{style}]{one.verdict}[/]" if style else one.verdict
        table.add_row(row.metric, when, reached, row.text, verdict, row.source, row.hardware)
    make_console().print(table)
    if changed:
        print(f"This run changed the recipe: {', '.join(changed)}.")

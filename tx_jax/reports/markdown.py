"""A report as Markdown; of a curve, its last and lowest and highest values."""

import re
from collections.abc import Sequence

from tx_jax.reports.sections import Chart, Section, Table, number


def text(title: str, sections: Sequence[Section], runs: Sequence[str]) -> str:
    """
    Args:
      runs: the names of the runs, by the numbers in charts.
    """
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for paragraph in section.text if not any(isinstance(part, Chart) for part in section.parts) else ():
            lines += [_escaped(paragraph), ""]
        charts = [part for part in section.parts if isinstance(part, Chart)]
        if charts:
            lines += table(_of_charts(charts, runs))
        for part in section.parts:
            if isinstance(part, Table):
                lines += [f"**{_escaped(part.title)}**", ""] if part.title else []
                lines += table(part)
    return "\n".join(lines).rstrip() + "\n"


def table(content: Table) -> list[str]:
    rule = ["---", *["---:" if content.numeric else "---"] * (len(content.columns) - 1)]
    rows = [_row(content.columns), _row(rule, escape=False), *(_row(row) for row in content.rows)]
    return [*rows, ""]


def _of_charts(charts: Sequence[Chart], runs: Sequence[str]) -> Table:
    rows = []
    for chart in charts:
        for one in chart.series:
            values = [value for _, value in one["points"]]
            cells = [number(value) for value in (values[-1], min(values), max(values))]
            rows.append([chart.title, runs[one["run"]], one["split"], *cells])
    return Table("", ["metric", "run", "split", "last", "lowest", "highest"], rows)


def _row(cells: Sequence[str], escape: bool = True) -> str:
    return "| " + " | ".join(_escaped(cell) if escape else cell for cell in cells) + " |"


def _escaped(content: str) -> str:
    """Without what Markdown would take for its own signs, or a table for the end of a cell."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", content).replace("\n", " ")

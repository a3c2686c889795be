"""A report as one HTML page that needs nothing else: style, script and data are inside, and no address outside."""

import html
from collections.abc import Mapping, Sequence
from importlib import resources

from tx_jax.reports.sections import Chart, Section, Table
from tx_jax.web import page
from tx_jax.web.page import COLORS


def text(title: str, sections: Sequence[Section], runs: Sequence[str]) -> str:
    """
    Args:
      runs: the names of the runs, by the numbers in charts.
    """
    charts = [part for section in sections for part in section.parts if isinstance(part, Chart)]
    data = {"runs": list(runs), "colors": COLORS, "charts": [vars(chart) for chart in charts]}
    style, script = (resources.files(__package__).joinpath(name).read_text() for name in ("page.css", "page.js"))
    body = "\n".join(_section(section) for section in sections)
    return page.text(title, body, data, style=style, script=script)


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.text]
    if any(isinstance(part, Chart) for part in section.parts):
        parts.append('<div id="controls"></div><div id="charts"></div>')
    if section.bars:
        parts.append(_bars(section.bars))
    parts += [_table(part) for part in section.parts if isinstance(part, Table)]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    rows = "\n".join(_row(row, table) for row in table.rows)
    title = f"<h3>{html.escape(table.title)}</h3>\n" if table.title else ""
    classes = "numbers" if table.numeric else "words"
    return (
        f'{title}<div class="wide"><table class="{classes}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>'
        "</table></div>"
    )


def _row(row: Sequence[str], table: Table) -> str:
    first = f'<th scope="row">{html.escape(row[0])}</th>'
    counts = [int(cell.replace(",", "")) for cell in row[1:]] if table.shade else []
    total = sum(counts) or 1
    shades = [f' style="--share: {count / total:.3f}" class="shade"' for count in counts] or [""] * (len(row) - 1)
    cells = "".join(f"<td{shade}>{html.escape(cell)}</td>" for cell, shade in zip(row[1:], shades, strict=True))
    return f"<tr>{first}{cells}</tr>"


def _bars(bars: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for spent in bars.values() for name in spent))
    color = {name: COLORS[place % len(COLORS)] for place, name in enumerate(names)}
    legend = "".join(f'<span><i style="background: {color[name]}"></i>{html.escape(name)}</span>' for name in names)
    lines = []
    for run, spent in bars.items():
        total = sum(spent.values()) or 1.0
        pieces = "".join(
            f'<i style="width: {100 * seconds / total:.2f}%; background: {color[name]}" '
            f'title="{html.escape(name)}: {seconds:,.1f} s"></i>'
            for name, seconds in spent.items()
        )
        lines.append(f'<div class="bar"><b>{html.escape(run)}</b><div>{pieces}</div></div>')
    return f'<div class="legend">{legend}</div>\n' + "\n".join(lines)

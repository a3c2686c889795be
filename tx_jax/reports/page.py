"""A report as one HTML page that needs nothing else: style, script and data are inside, and no address outside."""

import html
from collections.abc import Mapping, Sequence
from importlib import resources

from tx_jax.files import json_text
from tx_jax.reports.sections import Chart, Section, Table

# The browser itself refuses what is not inside the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
# Of colors that differ for most color-blind people (Okabe and Ito 2008), then again in other lightness.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")


def text(title: str, sections: Sequence[Section], runs: Sequence[str]) -> str:
    """
    Args:
      runs: the names of the runs, by the numbers in charts.
    """
    charts = [part for section in sections for part in section.parts if isinstance(part, Chart)]
    data = {"runs": list(runs), "colors": COLORS, "charts": [vars(chart) for chart in charts]}
    style, script = (resources.files(__package__).joinpath(name).read_text() for name in ("page.css", "page.js"))
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{html.escape(title)}</h1>\n{body}\n</main>\n"
        f'<script type="application/json" id="data">{_embedded(data)}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _embedded(data: Mapping) -> str:
    """JSON that no content can end the script element with."""
    return json_text(data).replace("<", "\\u003c")


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

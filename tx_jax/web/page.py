"""The shell of an HTML page that needs nothing else: no address leads outside, and the browser would refuse it."""

import html
from collections.abc import Mapping
from importlib import resources
from typing import Any

from tx_jax.files import json_text

# The browser itself refuses what is not inside the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
# Of colors that differ for most color-blind people (Okabe and Ito 2008), then again in other lightness.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")


def text(title: str, body: str, data: Mapping[str, Any], *, style: str, script: str) -> str:
    """The page.

    Args:
      body: HTML, below the title.
      data: what the script finds as JSON in the element "data".
      style: CSS, after that of all pages.
    """
    base = resources.files(__package__).joinpath("base.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{base}{style}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{html.escape(title)}</h1>\n{body}\n</main>\n"
        f'<script type="application/json" id="data">{_embedded(data)}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that no content can end the script element with."""
    return json_text(data).replace("<", "\\u003c")

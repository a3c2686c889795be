"""The documentation site in a headless browser: every page, light and dark, its search, and nothing from the network.

    make docs-test

Exit code 0 also where there is no browser; it says so.
"""

import functools
import http.server
import sys
import threading

from docs import build
from tests import browser

# What is searched for -> a page that must be among the results.
SEARCHES = {
    "skip_batches": "trouble.html",
    "fill_mask": "api.html",
    "weighted sum": "tasks.html",
    "KantaiBERT": "course.html",
}
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def main() -> None:
    if not browser.CHROMIUM:
        sys.exit(print("skipped: there is no browser; apt-get install chromium"))
    if not (build.SITE / "index.html").is_file():
        sys.exit("error: there is no site: make docs")
    handler = functools.partial(_Quiet, directory=str(build.SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser.page() as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        pages = sorted(path.relative_to(build.SITE).as_posix() for path in build.SITE.rglob("*.html"))
        for name in pages:
            page.open(address + name)
            assert page.value("document.querySelector('h1') !== null"), f"{name} has no title"
            broken = page.value("[...document.images].filter(one => one.complete && !one.naturalWidth).length")
            assert not broken, f"{name}: {broken} pictures are missing"
        _schemes(address)
        _search(page, address)
        outside = sorted({url for url in page.requested if not url.startswith((address, "data:", "blob:", "about:"))})
        assert not outside, f"asked of the network: {outside}"
        assert not page.errors, page.errors
        server.shutdown()
    print(f"{len(pages)} pages, light and dark, {len(SEARCHES)} searches: no error, nothing from the network.")


def _schemes(address: str) -> None:
    """The device's setting decides at first, and the button changes it."""
    for scheme, other in (("light", "dark"), ("dark", "light")):
        with browser.page() as page:
            page.prefer(scheme)
            page.open(f"{address}faq.html")
            page.until(lambda page=page, scheme=scheme: _is(scheme, page.value(BACKGROUND)))
            page.value("document.querySelector('form[data-md-component=palette] label:not([hidden])').click()")
            page.until(lambda page=page, other=other: _is(other, page.value(BACKGROUND)))
            assert not page.errors, page.errors


def _is(scheme: str, color: str) -> bool:
    numbers = [float(part) for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    return sum(numbers) > 600 if scheme == "light" else sum(numbers) < 240


def _search(page: browser.Page, address: str) -> None:
    links = "[...document.activeElement.shadowRoot.querySelectorAll('a')].map(a => a.href).join(' ')"
    for words, expected in SEARCHES.items():
        page.open(f"{address}index.html")
        page.until(lambda: page.value("document.querySelector('.md-search__button') !== null"))
        page.value("document.querySelector('.md-search__button').click()")
        page.until(lambda: page.value("!!document.activeElement.shadowRoot?.querySelector('input')"))
        page.call("Input.insertText", text=words)
        page.until(lambda expected=expected: expected in page.value(links))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


if __name__ == "__main__":
    main()

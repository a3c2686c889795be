"""The page and the Markdown of a report; the page in a real browser is a long test."""

import html.parser
import json
import re
import subprocess

import pytest

from tests import programs
from tests.browser import CHROMIUM
from tests.reports import runs
from tx_jax.reports import facts, markdown, page, sections


@pytest.fixture
def folder(tmp_path):
    for seed in (0, 1):
        runs.write(tmp_path / f"runs/seed_{seed}", seed=seed, score=0.5 + 0.2 * seed)
    return tmp_path / "runs"


def made(folder, form):
    found = facts.find([str(folder)])
    return form.text("A <title>", sections.report(found), [run.name for run in found])


class Reader(html.parser.HTMLParser):
    """Checks that elements are closed, and keeps the addresses that a browser would open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside(folder):
    text = made(folder, page)
    reader = Reader(text)
    assert reader.open == []
    assert reader.addresses == ["data:,"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert "A &lt;title&gt;" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert data["runs"] == ["seed_0", "seed_1"]
    assert [chart["title"] for chart in data["charts"]][:2] == ["macro f1", "loss"]  # what decides comes first
    loss = data["charts"][1]["series"]
    assert [(one["run"], one["split"]) for one in loss] == [(run, s) for run in (0, 1) for s in ("train", "validation")]
    assert loss[1]["points"][0] == [5, 0.4]
    assert "skipped updates" not in text  # which never happened
    for words in (
        "Learning curves",
        "Where the time went",
        "abc1234-dirty",
        "0.6000 ± 0.1414",
        "2 x cpu: cpu",
        "25.0%",
    ):
        assert words in text


def test_labels_have_their_scores_and_cannot_end_a_script(folder, tmp_path):
    text = made(folder, page)
    assert "<b>" not in text.replace("<b>seed_", "")  # of the bars
    assert text.count("&lt;b&gt;&amp;") == 4 * 3
    table = next(part for part in sections.labels(facts.find([str(folder)])).parts if part.columns[0] == "label")
    assert table.rows[0] == ["a", f"{8 / 9:.4f}", "0.8000", f"{2 * 8 / 9 * 0.8 / (8 / 9 + 0.8):.4f}", "10"]
    evil = runs.write(tmp_path / "evil</script><script>alert(1)</script>", label="x</script>")
    text = made(evil, page)
    assert text.count("</script>") == 2


def test_the_markdown_has_the_same_tables(folder):
    text = made(folder, markdown)
    assert text.startswith("# A <title>\n")
    assert "| macro f1 | seed\\_1 | validation | 0.6 | 0.6 | 0.7 |" in text
    assert "0.6000 ± 0.1414" in text
    assert "| \\<b\\>& | 0.8182 | 0.9000 |" in text
    for block in re.split(r"\n\n+", text):
        if block.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_one_run_alone_shows_its_whole_configuration(folder):
    text = made(folder / "seed_0", markdown)
    assert "## Configuration\n" in text
    assert "| optimizer.learning\\_rate | 2e-05 |" in text


def test_long_curves_are_thinned_but_end_where_they_end(folder):
    records = [{"step": step, "split": "train", "loss": 1.0} for step in range(1, 5001)]
    (folder / "seed_0/metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (chart,) = sections.curves(facts.find([str(folder / "seed_0")])).parts
    points = chart.series[0]["points"]
    assert len(points) <= sections.POINTS + 1
    assert (points[0][0], points[-1][0]) == (1, 5000)


def report(*arguments):
    return programs.run("experiments.report", *arguments)


def test_the_command(folder, tmp_path):
    done = report(f"{folder}/seed_0", f"{folder}/seed_1", "--out", tmp_path / "a.html")
    assert done.returncode == 0, done.stderr
    assert "2 runs. Written" in done.stdout
    assert Reader((tmp_path / "a.html").read_text()).open == []
    assert "## Final metrics" in (tmp_path / "a.md").read_text()
    log = folder / "seed_0/metrics.jsonl"
    log.write_text(log.read_text()[:-5])
    done = report(folder, f"--out={tmp_path / 'b.html'}")
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "was cut short" in (tmp_path / "b.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "needed: run directories"),
        (["."], "give run directories, or a folder that holds some"),
        (["runs", "--out=report.pdf"], "the page's name must end in .html"),
        (["runs", "--out=gone/report.html"], "there is no folder gone"),
    ],
)
def test_bad_input(tmp_path, arguments, expected):
    done = programs.run("experiments.report", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_draws_it_without_errors_and_without_a_network(folder, tmp_path, width):
    text = made(folder, page)
    assert "default-src 'none'" in text  # what it wanted from elsewhere would be refused, and said on the console
    count = "document.title = performance.getEntriesByType('resource').length + ' from elsewhere';"
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{count}</script></body>"))
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *(f"--window-size={width},2000", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"),
        *("--dump-dom", f"file://{tmp_path / 'page.html'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    figures = re.findall(r"<figure>.*?</figure>", done.stdout, re.DOTALL)
    data = json.loads(re.search(r'id="data">(.*?)</script>', done.stdout)[1])
    assert len(figures) == len(data["charts"]) == 5
    for figure, chart in zip(figures, data["charts"], strict=True):
        assert figure.count("<polyline") == len(chart["series"])
        assert "NaN" not in figure
    assert done.stdout.count('type="checkbox"') == len(data["charts"]) + 2
    assert "<title>0 from elsewhere</title>" in done.stdout


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
def test_its_controls_work_in_a_browser(folder, tmp_path):
    """Runs hidden, smoothing, a logarithmic scale and sorting, by the events that a user's hand makes."""
    script = """
    const said = {};
    const count = () => document.querySelectorAll("polyline").length;
    const first = () => document.querySelector("polyline").getAttribute("points");
    said.all = count();
    document.querySelector("#controls input").click(); said.hidden = count();
    document.querySelector("#controls input").click(); said.again = count();
    const loss = [...document.querySelectorAll("figure")].find((one) => one.textContent.startsWith("loss"));
    const points = () => loss.querySelector("polyline").getAttribute("points");
    const before = points();
    const slider = document.querySelector("input[type=range]");
    slider.value = 0.9; slider.dispatchEvent(new Event("input")); said.smoothed = points() !== before;
    slider.value = 0; slider.dispatchEvent(new Event("input")); said.restored = points() === before;
    loss.querySelector("input").click(); said.logarithmic = points() !== before;
    const table = document.querySelector("table"), head = table.tHead.rows[0].cells[3];
    const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
    head.click(); said.up = order(); head.click(); said.down = order();
    document.title = JSON.stringify(said);
    """
    (tmp_path / "page.html").write_text(made(folder, page).replace("</body>", f"<script>{script}</script></body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=2000", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert said.pop("hidden") * 2 == said["all"] == said.pop("again")
    assert (said.pop("up"), said.pop("down")) == (["seed_0", "seed_1"], ["seed_1", "seed_0"])
    assert said.pop("all") > 10
    assert said == dict.fromkeys(("smoothed", "restored", "logarithmic"), True)

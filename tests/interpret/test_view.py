"""The attention viewer; in a real browser it is a long test."""

import base64
import json
import re
import subprocess
import zlib

import numpy as np
import pytest

from tests.browser import CHROMIUM
from tests.interpret import models
from tests.reports.test_page import Reader
from tx_jax.errors import InputError
from tx_jax.interpret import view, view_picture

TEXTS = ("the cat sits on <b> the bank", "a dog stands by the river")


@pytest.fixture(scope="module")
def looked():
    return view.attention(models.model("BERT"), *TEXTS)


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def decoded(packed, levels):
    raw = np.frombuffer(zlib.decompress(base64.b64decode(packed["weights"]), wbits=-15), np.uint8).astype(int)
    codes = raw[: len(raw) // 2] * 256 + raw[len(raw) // 2 :] if levels > 255 else raw
    shape = len(packed["layers"]), packed["heads"], len(packed["query"]["tokens"]), len(packed["key"]["tokens"])
    return (codes.reshape(shape) / levels) ** 2


def test_the_page_is_whole_and_holds_the_weights_that_were_computed(looked):
    text = looked.page()
    reader = Reader(re.sub(r"<input[^>]*>", "", text))
    assert reader.open == []
    assert reader.addresses == ["data:,"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    data = data_of(text)
    (kind,) = data["kinds"]
    assert kind["query"]["tokens"] == list(looked.kinds[0].queries)
    assert kind["query"]["segments"].count(1) == 7
    np.testing.assert_allclose(decoded(kind, data["levels"]), looked.kinds[0].weights, atol=1 / data["levels"])
    np.testing.assert_allclose(looked.kinds[0].weights.sum(-1), 1, atol=1e-5)
    assert kind["neurons"]["size"] == 8
    assert looked._repr_html_().startswith("<iframe")
    assert "srcdoc=" in looked._repr_html_()


def test_layers_kinds_and_models_without_neurons():
    model = models.model("BERT")
    masked = view.attention(model, "the [MASK]", layers=[1]).kinds[0]
    assert masked.queries == ("[CLS]", "the", "[MASK]", "[SEP]")
    assert masked.weights.shape == (1, 2, 4, 4)
    with pytest.raises(InputError, match="no layer 2: the encoder has layers 0 to 1"):
        view.attention(model, "the cat", layers=[2])
    kinds = view.attention(models.model("Transformer", num_layers=1), "the cat sits", "a dog").kinds
    assert [kind.name for kind in kinds] == ["encoder, self-attention", "decoder, self-attention", "decoder to encoder"]
    assert (kinds[2].queries, kinds[2].keys) == (("[CLS]", "a", "dog"), ("the", "cat", "sits", "[SEP]"))
    assert kinds[2].weights.shape[2:] == (3, 4)
    deberta = view.attention(models.model("DeBERTa"), "the cat")
    assert "relative positions" in data_of(deberta.page())["kinds"][0]["why"]


def test_words_that_the_vocabulary_lacks_are_named(looked):
    found = view.attention(models.model("BERT"), "the žeb sits", "a ☃ by the žeb")
    assert found.unknown == ("žeb", "☃")
    assert found.kinds[0].queries.count("[UNK]") == 3
    assert data_of(found.page())["unknown"] == ["žeb", "☃"]
    assert looked.unknown == ("<", ">")


@pytest.mark.long
def test_pictures_for_print(looked):
    kind = looked.kinds[0]
    assert len(view_picture.all_heads(kind, "t").axes) == 4
    figure = view_picture.one_head(kind, 1, 0, "t")
    assert [text.get_text() for text in figure.axes[0].texts[: len(kind.queries)]] == list(kind.queries)


@pytest.mark.long
def test_a_page_of_128_tokens_and_144_heads_is_below_two_megabytes():
    """Even of weights that are as hard to compress as noise."""
    scores = np.random.default_rng(0).normal(size=(12, 12, 128, 128))
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    tokens, no, segments = ("word",) * 128, (False,) * 128, (0,) * 128
    x = np.zeros((12, 12, 128, 64), np.float32) + np.random.default_rng(1).normal(size=(12, 12, 128, 64))
    kind = view.Kind("noise", tuple(range(12)), tokens, tokens, no, no, segments, segments, weights, x, x)
    text = view.AttentionView("noise", (kind,)).page()
    assert len(text.encode()) < 2_000_000
    data = data_of(text)
    np.testing.assert_allclose(decoded(data["kinds"][0], data["levels"]), weights, atol=1 / data["levels"])


PROGRAM = """
const timer = setInterval(() => { if (document.body.dataset.ready) { clearInterval(timer); act(); } }, 20);
const press = (key, more) =>
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
const tokens = (side) =>
  [...document.querySelectorAll(`[data-side=${side}]`)].map((one) => one.getAttribute("aria-label"));
const weights = () => [...document.querySelectorAll(".lines line")].map((line) => Number(line.dataset.weight));
function act() {
  const said = { from: tokens("query"), to: tokens("key"), all: weights() };
  press("ArrowDown"); press("ArrowDown");
  said.row = [...document.querySelectorAll("[data-side=key] .value")].map((one) => one.textContent);
  said.focused = document.activeElement.getAttribute("aria-label");
  said.told = document.getElementById("said").textContent;
  press("Enter"); press("ArrowRight"); said.head = firstHead(); said.kept = state.kept;
  press("Escape"); said.token = state.token;
  press("ArrowDown", { shiftKey: true }); said.layer = document.getElementById("layer").value;
  press("s"); said.specials = document.getElementById("specials").checked; said.without = weights().length;
  const between = document.getElementById("between"); between.value = "01"; between.dispatchEvent(new Event("change"));
  said.across = weights().length;
  press("2"); said.maps = document.querySelectorAll(".grid button").length;
  said.named = [...document.querySelectorAll("button, input, select")].every((one) =>
    one.getAttribute("aria-label") || one.textContent.trim() || (one.labels && one.labels.length));
  document.querySelectorAll(".grid button")[3].click(); said.opened = [state.view, state.layer, firstHead()];
  between.value = "all"; between.dispatchEvent(new Event("change")); press("s");
  press("3"); said.rows = [...document.querySelectorAll(".neurons [data-weight]")].map((row) => [
    Number(row.dataset.weight), Number(row.querySelector(".number").textContent)]);
  press("1"); said.saved = standalone().text.slice(0, 4);
  said.resources = performance.getEntriesByType("resource").length;
  document.title = JSON.stringify(said);
}
"""


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize("scheme", [0, 1])
def test_a_browser_shows_what_was_computed_and_obeys_the_keyboard(looked, tmp_path, scheme):
    text = looked.page()
    assert "default-src 'none'" in text  # what it wanted from elsewhere would be refused, and said on the console
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{PROGRAM}</script></body>"))
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"),
        *(f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", f"file://{tmp_path / 'page.html'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    said = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1].replace("&lt;", "<").replace("&gt;", ">"))
    kind, shown = looked.kinds[0], [f"{t}, token {i}" for i, t in enumerate(looked.kinds[0].queries)]
    assert said["from"] == [f"{one}, attends" for one in shown]
    assert said["to"] == [f"{one}, is attended to" for one in shown]
    first = kind.weights[0, 0]
    np.testing.assert_allclose(np.sort(said["all"]), np.sort(first.ravel()), atol=1e-4)
    np.testing.assert_allclose([float(w or 0) for w in said["row"]], first[1], atol=1e-3)
    assert said["focused"] == f"{shown[1]}, attends"
    best = int(np.argmax(first[1]))
    assert f"attends to {kind.keys[best]} ({best}) {first[1, best]:.3f}" in said["told"]
    assert (said["head"], said["kept"], said["token"], said["layer"], said["specials"]) == (1, True, None, "1", False)
    plain = len(kind.queries) - sum(kind.query_special)
    assert said["without"] == plain**2
    of_second = sum(not s and n for s, n in zip(kind.key_special, kind.key_segments, strict=True))
    assert said["across"] == (plain - of_second) * of_second
    assert said["maps"] == 4
    assert said["named"]
    assert said["opened"] == ["head", 1, 1]
    query = 1  # the neuron view's first choice
    scores = kind.key[1, 1] @ kind.query[1, 1, query] / 8**0.5
    np.testing.assert_allclose([w for w, _ in said["rows"]], kind.weights[1, 1, query], atol=1e-4)
    np.testing.assert_allclose([s for _, s in said["rows"]], scores, atol=0.02)
    assert (said["saved"], said["resources"]) == ("<svg", 0)

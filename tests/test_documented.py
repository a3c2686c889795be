"""README and docs do what they say: their code runs, their commands parse, and no page is out of date."""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tx_jax
from docs import build
from tests import documented, labeled_files
from tests.decoding import models as decoders
from tests.interpret import models as small
from tests.test_api import saved
from tx_jax.interpret import store, texts

ROOT = documented.ROOT
# Pages whose Python blocks run one after the other, in a folder of models and data. Those of extending.md are modules,
# which tests/test_extend.py uses.
RUNNING = ("README.md", "docs/python.md", "docs/interpret/README.md")


@pytest.fixture(scope="module")
def place(tiny_store, tmp_path_factory):
    """A folder that has what the examples name."""
    place = tmp_path_factory.mktemp("place")
    tokenizer = tiny_store.tokenizer()
    for name, head, changes in (
        ("texts", "sequence_classification", {"num_labels": 2}),
        ("words", "token_classification", {"num_labels": 3}),
        ("answers", "question_answering", {}),
    ):
        labeled_files.write_model(place / "runs" / name, tokenizer, heads=(head,), **changes)
    for name in ("models/bert", "runs/mine", "minilm"):
        saved(place / name, small.model("BERT", max_length=64))
    model = small.model("BERT", max_length=64)
    rows = texts.rows_of_texts(model, ["the", "a", "the cat", "a dog"])
    store.write(model, rows, ["encoder/layer_0/output"], str(place / "capture"))
    saved(place / "runs/gpt", decoders.model("gpt2"))
    saved(place / "runs/translator", decoders.model("seq2seq_pre", "unigram"))
    (place / "data").mkdir()
    for name in ("mine", "quickstart"):
        (place / "data" / name).symlink_to(tiny_store.path)
    return place


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


FRONT_DOOR = {
    **{f"tx_jax.{name}": getattr(tx_jax, name) for name in tx_jax.__all__},
    **{f"tx_jax.Model.{name}": one for name, one in vars(tx_jax.Model).items() if not name.startswith("_")},
}
FRONT_DOOR.pop("tx_jax.Model.opened", None)


@pytest.fixture(scope="module")
def names(place):
    """What examples in docstrings use."""
    import dataclasses

    import jax
    import jax.numpy as jnp

    models = {"bert": "models/bert", "classifier": "runs/texts", "tagger": "runs/words", "answerer": "runs/answers"}
    models |= {"gpt": "runs/gpt", "translator": "runs/translator"}
    opened = {name: tx_jax.load(place / path) for name, path in models.items()}
    return {"tx_jax": tx_jax, "jax": jax, "jnp": jnp, "dataclasses": dataclasses, **opened}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "tx_jax.train" else name for name in FRONT_DOOR]
)
def test_every_name_of_the_front_door_has_an_example_that_runs(name, names, here, tmp_path, monkeypatch):
    if name in ("tx_jax.Model.save", "tx_jax.Model.to_hf", "tx_jax.train"):  # what they write is not there yet
        (tmp_path / "data").symlink_to(here / "data")
        monkeypatch.chdir(tmp_path)
    one = FRONT_DOOR[name]
    text = (one.fget if isinstance(one, property) else one).__doc__
    test = doctest.DocTestParser().get_doctest(text, dict(names), name, None, 0)
    assert test.examples, f"{name} has no example"
    said = io.StringIO()
    doctest.DocTestRunner(verbose=False).run(test, out=said.write)
    assert not said.getvalue()


def test_every_name_has_an_example():
    """Of `train` too, whose example runs among the long tests."""
    for name, one in FRONT_DOOR.items():
        assert ">>> " in ((one.fget if isinstance(one, property) else one).__doc__ or ""), name


def python_blocks(page):
    return [block for block in documented.blocks(ROOT / page) if block.language == "python"]


def test_no_page_has_python_that_is_not_run():
    pages = {page.relative_to(ROOT).as_posix() for page in documented.PAGES}
    assert {page for page in pages if python_blocks(page)} == {*RUNNING, "docs/extending.md"}


@pytest.mark.parametrize("page", RUNNING)
def test_python_in_pages_runs(page, here, monkeypatch):
    """A training only among the long tests: here it must have a configuration, and a folder."""

    def trained(config, workdir):
        assert config.to_dict()["training"]["num_steps"] == 20
        assert isinstance(workdir, str)

    monkeypatch.setattr(tx_jax, "train", trained, raising=False)
    run(page)


@pytest.mark.long
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_in_pages_trains(page, here, monkeypatch):
    run(page)
    assert list(here.glob("runs/*/DONE"))


def run(page):
    values = {"tx_jax": tx_jax}
    for block in python_blocks(page):
        code = "\n" * (block.line - 1) + block.text
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, page, "exec"), values)


def parsed(folder, *pages):
    """What the entry points say of the commands in these pages."""
    documented.modules(ROOT / "docs/extending.md", folder)
    (folder / "my_module.py").touch()
    command = [sys.executable, "-W", "ignore", "-m", "tests.commands", folder, *pages]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_commands_in_pages_parse(tmp_path):
    pages = [page for page in documented.PAGES if page.parent.name != "benchmarks"]
    assert parsed(tmp_path, *pages) == ""


def test_a_command_that_would_be_refused_is_found(tmp_path):
    bad = tmp_path / "bad.md"
    bad.write_text(
        "```\npython -m experiments.train --config=bert_base --config.data.stroe=x --workdir=y\n"
        "python -m experiments.trian --workdir=y\n"
        "python -m experiments.prepare --source=a --documents=nowhere \\\n    --store=b\n"
        "tx-jax evaluate now --workdir=x\n```\nand `predict --modle=x` or `sweep --config=gleu`\n"
    )
    found = parsed(tmp_path, bad)
    assert found.count("\n") == 6
    for said in (
        "config.data.stroe",
        "no command 'trian'",
        "should be one of <blank_line|file|line>",
        "'now'",
        "'modle'",
        "'gleu'",
    ):
        assert said in found


def test_the_recipes_are_those_of_the_configurations():
    assert (ROOT / "docs/recipes.md").read_text() == build.recipes(), "python -m docs.build --recipes"


def test_every_page_is_in_the_navigation_of_the_site():
    named = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "docs/mkdocs.yml").read_text(), re.M))
    pages = {target for target in build._places().values() if target.endswith(".md")}
    assert named == pages | {f"reference/{name}.md" for name in (*build.REFERENCE, "keys")}


def test_links_out_of_the_site_become_names():
    places = build._places()
    text = build._relinked("docs/extending.md", places)
    assert "(../tx_jax" not in text
    assert "(project/contributing.md)" in text
    assert "(pretraining.md)" in build._relinked("docs/README.md", places)
    assert "(../extending.md)" in build._relinked("docs/concepts/tables.md", places)


def test_the_reference_names_what_is_there():
    for _, names in build.REFERENCE.values():
        for name in names:
            file = ROOT / name.replace(".", "/")
            module, _, member = name.rpartition(".")
            place = Path(f"{ROOT / module.replace('.', '/')}")
            source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
            is_module = file.with_suffix(".py").is_file() or file.is_dir()
            assert is_module or re.search(rf"\b{member}\b", source.read_text()), name


def test_every_key_of_the_base_configurations_is_in_the_reference():
    page = build.keys()
    for name in ("bert_base", "classification", "transformer_base"):
        for key in re.findall(r"^    c\.([\w.]+) = (?!ConfigDict)", (ROOT / f"configs/{name}.py").read_text(), re.M):
            assert f"| `{key}` |" in page

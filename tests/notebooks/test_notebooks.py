"""The course without running it; `make test-notebooks` runs it. Needs neither jupytext nor a kernel."""

import ast
import json
import re
import shutil
import subprocess
import sys

import pytest

from notebooks import sync

STEMS = (
    "01_tokens_and_embeddings",
    "02_positions",
    "03_attention",
    "04_transformer_blocks",
    "05_translation",
    "06_bert",
    "07_roberta_from_scratch",
    "08_fine_tuning",
    "09_further_pretraining",
    "10_gpt",
    "11_interpretation",
    "12_scale",
)
LIMIT = 1_500_000  # bytes of data, all together
HEADINGS = {"es": ("## Ejercicios", "## Soluciones"), "en": ("## Exercises", "## Solutions")}
PAGE = (sync.FOLDER / "README.md").read_text(encoding="utf-8")
SCRIPTS = {language: {path.stem: path for path in sync.notebooks(language)} for language in sync.LANGUAGES}
EACH = [
    pytest.param(language, path, id=f"{language}-{path.stem}")
    for language in SCRIPTS
    for path in SCRIPTS[language].values()
]


def cells(language: str, stem: str) -> list[sync.Cell]:
    return sync.cells_of_script(SCRIPTS[language][stem].read_text(encoding="utf-8"))


def test_each_notebook_is_there_in_both_languages():
    assert list(SCRIPTS["es"]) == list(SCRIPTS["en"])
    assert set(SCRIPTS["es"]) == set(STEMS)
    linked = re.findall(r"\]\((?:es|en)/(\w+)\.ipynb\)", PAGE)
    assert linked == [stem for stem in STEMS for _ in sync.LANGUAGES]


@pytest.mark.parametrize("stem", SCRIPTS["es"])
def test_both_languages_have_the_same_code(stem):
    spanish, english = cells("es", stem), cells("en", stem)
    assert [cell.kind for cell in spanish] == [cell.kind for cell in english]
    for place, (one, other) in enumerate(zip(spanish, english, strict=True)):
        if one.kind == "code":
            assert one.source == other.source, f"cell {place}"
        else:
            assert one.source != other.source, f"cell {place} is not translated"


@pytest.mark.parametrize(("language", "path"), EACH)
def test_the_notebook_is_that_of_its_script_and_has_no_outputs(language, path):
    made = sync.notebook(sync.cells_of_script(path.read_text(encoding="utf-8")))
    text = path.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert sync.cells_of_notebook(text) == sync.cells_of_notebook(made)
    assert text == made, "run python -m notebooks.sync"  # whose cells have no outputs


@pytest.mark.parametrize(("language", "path"), EACH)
def test_it_checks_itself_and_ends_with_exercises_and_solutions(language, path):
    found = cells(language, path.stem)
    assert found[0].kind == "markdown"
    assert found[0].source.startswith("# ")
    exercises, solutions = (
        next(place for place, cell in enumerate(found) if heading in cell.source.split("\n"))
        for heading in HEADINGS[language]
    )
    numbered = found[exercises].source.partition(HEADINGS[language][0])[2]
    assert len(re.findall(r"^(?:#+ .*)?\**\d+[.)]", numbered, re.MULTILINE)) in range(3, 7)
    assert exercises < solutions
    parts = found[:exercises], found[solutions:]
    for part in parts:
        assert any(isinstance(node, ast.Assert) for cell in part if cell.kind == "code" for node in walk(cell))


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def walk(cell: sync.Cell):
    return ast.walk(ast.parse(cell.source))


def test_every_notebook_has_a_script():
    found = {path.with_suffix("") for language in sync.LANGUAGES for path in (sync.FOLDER / language).glob("*.ipynb")}
    assert found == {path.with_suffix("") for language in SCRIPTS for path in SCRIPTS[language].values()}


def test_data_is_described_and_small():
    folder = sync.FOLDER / "data"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    described = [name.rstrip("/") for line in lines if line.startswith("| `") for name in names(line.split(" | ")[0])]
    tops = {path.relative_to(folder).parts[0] for path in files} - {"README.md"}
    assert sorted(described) == sorted(tops)
    assert sum(path.stat().st_size for path in files) <= LIMIT


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("make_pairs", ["es_en_train.tsv", "es_en_validation.tsv", "es_en_test.tsv"]),
        ("make_stories", ["stories.txt"]),
        (
            "make_small_world",
            [
                "clinic.txt",
                *(f"acceptability{part}.csv" for part in ("", "_test", "_other")),
                *(f"questions{part}.json" for part in ("", "_test", "_other")),
                "tags.conll",
                "tags_test.conll",
                "choices.csv",
                "choices_test.csv",
            ],
        ),
    ],
)
def test_grammars_write_the_files_that_are_there(tmp_path, name, files):
    shutil.copy(sync.FOLDER / f"data/{name}.py", tmp_path)
    subprocess.run([sys.executable, str(tmp_path / f"{name}.py")], check=True)
    for file in files:
        assert (tmp_path / file).read_bytes() == (sync.FOLDER / "data" / file).read_bytes()


def test_sync_writes_what_a_script_says(tmp_path, monkeypatch, capsys):
    (tmp_path / "es").mkdir()
    script = tmp_path / "es" / "01_a.py"
    header = sync.HEADER.replace(sync.FILTER, "-all")
    script.write_text(f"{header}\n# %% [markdown]\n# # Título\n#\n# Texto.\n\n# %%\nx = 1\n\n\n# %%\nx = 1\n")
    monkeypatch.setattr(sync, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["sync", "--check"])
    assert sync.main() == 1
    assert not script.with_suffix(".ipynb").exists()
    monkeypatch.setattr(sys, "argv", ["sync"])
    assert sync.main() == 0
    assert script.read_text().startswith(sync.HEADER)
    written = json.loads(script.with_suffix(".ipynb").read_text())
    assert ["".join(cell["source"]) for cell in written["cells"]] == ["# Título\n\nTexto.", "x = 1", "x = 1"]
    assert len({cell["id"] for cell in written["cells"]}) == 3
    monkeypatch.setattr(sys, "argv", ["sync", "--check"])
    assert sync.main() == 0
    script.write_text(f"{sync.HEADER}\n# %% [markdown]\nno comment\n")
    assert sync.main() == 2
    assert "without '# '" in capsys.readouterr().err


def test_sync_is_a_command():
    ran = subprocess.run(
        [sys.executable, "-m", "notebooks.sync", "--check"], cwd=sync.FOLDER.parent, capture_output=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

"""Builds the documentation site, as `make docs` does.

    python -m docs.build            stages the pages and builds them into build/site; a warning ends it
    python -m docs.build --recipes  writes docs/recipes.md, which a test compares with the configurations

Pages are read on GitHub as they stand. For the site they are staged in build/pages: README.md becomes index.md, links
to files that the site lacks become plain names, and the reference is made from docstrings and configurations.

The site is made by Zensical. Its authors wrote Material for MkDocs too, which they call inactive and end in May 2027,
and MkDocs itself has had no release since August 2024. docs/mkdocs.yml is of the form that both read.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.command_line import expected_of
from experiments.small_forms import FORMS
from tx_jax import shipped

ROOT = Path(__file__).resolve().parents[1]
STAGE, SITE = ROOT / "build/pages", ROOT / "build/site"
# Pages that lie elsewhere -> their place in the site.
ELSEWHERE = {
    "notebooks/README.md": "course.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/PLANS.md": "benchmarks/plans.md",
}
# Page of the reference -> its title, and the modules or names that it shows.
REFERENCE = {
    "api": ("The front door", ["tx_jax.load", "tx_jax.get_config", "tx_jax.train", "tx_jax.Model"]),
    "extend": ("Extending", ["tx_jax.extend", "tx_jax.config.heads.Head", "tx_jax.convert.family.Family"]),
    "decoding": ("Decoding", ["tx_jax.decoding.options.Options", "tx_jax.decoding.generate"]),
    "interpret": (
        "Looking inside",
        [f"tx_jax.interpret.{name}" for name in ("sites", "capture", "view", "vectors", "probes", "lens", "patching",
                                                 "attribution", "heads", "cka", "bias")],
    ),
    "text": ("Tokenizers", ["tx_jax.text", "tx_jax.text.tokenizer.Tokenizer"]),
    "tasks": ("Tasks and batches", ["tx_jax.tasks.base", "tx_jax.tasks.supervised", "tx_jax.batch"]),
    "model": ("Models", ["tx_jax.config.model.TransformerConfig", "tx_jax.models.registry", "tx_jax.models.output"]),
    "meshes": ("Meshes", ["tx_jax.sharding"]),
}  # fmt: skip


def main() -> None:
    if "--recipes" in sys.argv:
        (ROOT / "docs/recipes.md").write_text(recipes())
        return
    stage()
    command = [
        Path(sys.executable).parent / "zensical",
        "build",
        "--strict",
        "--clean",
        "--config-file",
        STAGE.parent / "mkdocs.yml",
    ]
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(done.stdout, end="")
    sys.exit(done.returncode or int("griffe:" in done.stdout))  # strict says nothing of docstrings that do not fit


def stage() -> None:
    """Writes the pages of the site, and its configuration, into build/."""
    shutil.rmtree(STAGE, ignore_errors=True)
    places = _places()
    for source, target in places.items():
        path = STAGE / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            path.write_text(_relinked(source, places))
        else:
            shutil.copy(ROOT / source, path)
    (STAGE / "reference").mkdir()
    for name, (title, names) in REFERENCE.items():
        shown = "\n\n".join(f"::: {one}" for one in names)
        (STAGE / f"reference/{name}.md").write_text(f"# {title}\n\n{shown}\n")
    (STAGE / "reference/keys.md").write_text(keys())
    import yaml  # comes with Zensical

    config = yaml.safe_load((ROOT / "docs/mkdocs.yml").read_text())
    config |= {"docs_dir": "pages", "site_dir": "site"}
    config["plugins"][1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    (STAGE.parent / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False))


def _places() -> dict[str, str]:
    """Files of the repository -> their place in the site."""
    found = {}
    for path in sorted((ROOT / "docs").rglob("*")):
        relative = path.relative_to(ROOT / "docs").as_posix()
        if path.suffix in (".md", ".svg", ".png", ".css"):
            found[f"docs/{relative}"] = re.sub(r"README\.md$", "index.md", relative)
    return found | ELSEWHERE


def _relinked(source: str, places: dict[str, str]) -> str:
    """The text of a page, with links as the site has them; examples of code stay as they are."""

    def link(match: re.Match) -> str:
        shown, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if file == "README.md":
            file = "docs/README.md"
        if file not in places:
            return shown
        return f"[{shown}]({os.path.relpath(places[file], os.path.dirname(places[source]) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```$)", (ROOT / source).read_text(), flags=re.M | re.S)
    pattern = r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)"
    return "".join(part if part.startswith("```") else re.sub(pattern, link, part) for part in parts)


def recipes() -> str:
    """The page of the recipes: what each is, what it should reach by whom, and what it has reached here."""
    lines = [
        "# Recipes",
        "",
        "Made from the configurations by `python -m docs.build --recipes`. Published figures are those of the source,",
        "on its hardware. What a recipe has reached here stands beside them; most have not been run here yet.",
        "",
        "| configuration | published | reached here |",
        "|---|---|---|",
    ]
    for name in shipped.names():
        about = ast.get_docstring(ast.parse((shipped.ROOT / "configs" / f"{name}.py").read_text())) or ""
        title = about.partition("\n")[0].rstrip(".").replace("|", "\\|")
        lines.append(f"| `{name}`<br>{title} | {' | '.join(_figures(name, about))} |")
    small = [
        f"| `{name}` | `{form.config}` | {form.says} | {', '.join(map(_figure, expected_of(form.config)))} |"
        for name, form in FORMS.items()
    ]
    lines += [
        "",
        "## Small forms, for a CPU",
        "",
        "`python -m experiments.reproduce NAME` runs one, and compares what it reaches with what it should: what was",
        "measured here, on 2 cores of an AMD EPYC, as means ± standard deviations over seeds.",
        "",
        "| name | configuration | what it is | reached here |",
        "|---|---|---|---|",
        *small,
    ]
    return "\n".join([*lines, "", "Every configuration also has a `:smoke` form, which trains in seconds.", ""])


def _figures(name: str, about: str) -> tuple[str, str]:
    """The published figures by source, and those reached here."""
    sources: dict[str, list[str]] = {}
    for variant in _glue_variants() if name == "glue" else [""]:
        for row in expected_of(f"{name}:{variant}" if variant else name):
            source = row["source"] + ("" if row["hardware"] == "not told" else f", {row['hardware']}")
            sources.setdefault(source, []).append(f"{variant} {_figure(row)}".strip())
    cells = [f"{source}: {', '.join(figures)}" for source, figures in sources.items()]
    here = "; ".join(cell for cell in cells if cell.startswith("measured here"))
    published = "<br>".join(cell for cell in cells if not cell.startswith("measured here"))
    stated = re.search(r"Published([^:]*): (.*?)\.?\s*(?:Not yet run|\n\n|\Z)", about, re.S)
    if not cells and stated and not stated[2].startswith(("none", "see")):
        by, figures = (" ".join(text.split()).strip(", ") for text in (stated[1], stated[2]))
        published = f"{by}: {figures}" if by else figures
    return published, here or (f"measured: configs/{name}.py" if "Measured on" in about else "not yet run")


def _figure(row: dict) -> str:
    """A row of `get_expected` without its source."""
    value = f"{row['value']:g}" if row.get("value") is not None else f"at least {row['low']:g}"
    spread = f" ± {row['deviation']:g} ({row['seeds']} seeds)" if "deviation" in row else ""
    return f"{row['split']} {row['metric']} {value}{spread}"


def _glue_variants() -> list[str]:
    file = ast.parse((shipped.ROOT / "configs/glue.py").read_text())
    tables = {node.targets[0].id: node.value for node in file.body if isinstance(node, ast.Assign)}
    return [key.value for key in tables["PUBLISHED"].keys]


def keys() -> str:
    """The page of the configuration's keys: default and comment, as the base configurations have them."""
    lines = [
        "# Keys of a configuration",
        "",
        "As the base configurations set them, with their comments; any is a flag:",
    ]
    lines += ["`--config.optimizer.learning_rate=3e-4`. Attributes of the classes in `tx_jax/config` say more.", ""]
    for name, title in (
        ("bert_base", "Pretraining, and all others"),
        ("classification", "Data with labels"),
        ("transformer_base", "Translation"),
    ):
        lines += [f"## {title}: `{name}.py`", "", "| key | value | |", "|---|---|---|"]
        above: list[str] = []
        source = (shipped.ROOT / "configs" / f"{name}.py").read_text()
        body = source[source.index("def get_config") :]
        for line in body[: body.index("\n    return")].splitlines():
            if comment := re.fullmatch(r"    # (.*)", line):
                above.append(comment[1])
            elif key := re.fullmatch(r"    c\.([\w.]+) = (.+?)(?:  # (.*))?", line):
                if key[2] != "ConfigDict()":
                    said = " ".join([*above, key[3] or ""]).strip()
                    row = (f"`{key[1]}`", f"`{key[2]}`", said)
                    lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
                above = []
            else:
                above = []
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

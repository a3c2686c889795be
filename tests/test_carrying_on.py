"""The files for those who carry the project on: they parse, and name what is there."""

import re
from pathlib import Path

import yaml

import tx_jax

ROOT = Path(__file__).parents[1]
TARGETS = {
    name
    for line in re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M)
    for name in line.split()
}


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    assert citation["version"] == tx_jax.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()


def test_the_hosted_checks_run_targets_that_there_are():
    found = set()
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        workflow = read(file)
        assert {"push", "pull_request"} == workflow[True].keys()  # YAML reads `on` as true
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 60
            for step in job["steps"]:
                assert {"run", "uses"} & step.keys()
                found |= set(re.findall(r"make ([\w-]+)", step.get("run", "")))
    assert found == {"test", "lint", "docs-test", "wheel-test"}
    assert found <= TARGETS


def test_every_python_that_is_supported_is_tested():
    matrix = read(".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == ["3.11", "3.12", "3.13"]
    assert f"python_requires = >={matrix[0]}" in (ROOT / "setup.cfg").read_text()


def test_the_hooks_need_no_other_repository():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format", "house"]


def test_help_lists_every_target():
    said = (ROOT / "Makefile").read_text()
    shown = set(re.findall(r'@echo "make ([\w-]+)', said))
    assert shown == {target for target in TARGETS if not target.startswith("$")} - {"help"}


def test_what_the_checker_sees_of_the_front_door_is_all_of_it():
    said = (ROOT / "tests/front_door_types.py").read_text()
    for name in (*tx_jax.__all__, "__version__"):
        assert f"tx_jax.{name}" in said
    for name in vars(tx_jax.Model):
        assert name.startswith("_") or name == "opened" or f"model.{name}" in said, name

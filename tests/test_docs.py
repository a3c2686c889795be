"""What README and docs point to is there: files that they link, commands and configurations that they name."""

import re

import pytest

from tests import documented

ROOT = documented.ROOT
PAGES = [*documented.PAGES, ROOT / "notebooks/README.md"]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_configurations_exist(page):
    text = page.read_text()
    modules = set(re.findall(r"python -m ((?:experiments|benchmarks|tests)\.[a-z_.0-9]*[a-z0-9])", text))
    missing = [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").is_file()]
    configs = set(re.findall(r"configs/[a-z0-9_]+\.py", text))
    assert missing + [name for name in configs if not (ROOT / name).is_file()] == []


def test_every_page_is_reached_from_the_readme():
    """By it, or by docs/README.md."""
    reached = set()
    for page in (ROOT / "README.md", ROOT / "docs/README.md"):
        for link in re.findall(r"\]\(([^)#:]+\.md)", page.read_text()):
            reached.add((page.parent / link).resolve())
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages - reached == set()

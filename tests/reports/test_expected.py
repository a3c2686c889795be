"""What recipes should reach, beside what runs have reached."""

import math

import pytest

from experiments import command_line
from tests.reports import runs
from tests.test_configs import FOLDER, NAMES
from tx_jax.errors import InputError
from tx_jax.reports import expected, facts, markdown, sections
from tx_jax.reports.expected import Expected

SAYS = {"source": "a paper", "hardware": "a TPU"}


def row(**values):
    return Expected(**{"metric": "macro_f1", "split": "validation", **SAYS, **values})


@pytest.mark.parametrize(
    ("values", "reached", "verdict", "text"),
    [
        ({"value": 0.5}, 0.4, "", "0.5"),
        # t(0.995, 2) = 9.925 and t(0.995, 9) = 3.250 in printed tables, times sqrt(1 + 1 / N)
        ({"value": 0.5, "deviation": 0.01, "seeds": 3}, 0.386, "reached", "0.5 ± 0.01 (3 seeds); 0.3854 to 0.6146"),
        ({"value": 0.5, "deviation": 0.01, "seeds": 3}, 0.385, "below", "0.5 ± 0.01 (3 seeds); 0.3854 to 0.6146"),
        ({"value": 0.5, "deviation": 0.01, "seeds": 10}, 0.535, "above", "0.5 ± 0.01 (10 seeds); 0.4659 to 0.5341"),
        ({"low": 0.7}, 0.72, "reached", "at least 0.7"),
        ({"high": 3.0}, 3.1, "above", "at most 3"),
        ({"low": 1.0, "high": 3.0, "value": 2.0}, None, "not evaluated", "2; 1 to 3"),
        ({"value": 0.5}, math.nan, "not evaluated", "0.5"),
    ],
)
def test_a_run_reaches_it_or_not(values, reached, verdict, text):
    one = row(**values)
    assert one.verdict(reached) == verdict
    assert one.text == text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "needs a value, or a range"),
        ({"value": math.nan}, "needs a value"),
        ({"value": 1.0, "deviation": 0.1}, "a deviation is of a value over seeds"),
    ],
)
def test_a_row_that_says_too_little_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        row(**values)


def test_a_row_with_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"mine.py: get_expected: .*'valu'"):
        expected.parse([{"metric": "f1", "split": "test", "valu": 1.0, **SAYS}], "mine.py")


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_states_outcomes_that_can_be_read(name):
    """Of all variants that a docstring or a table names, and none for the smoke form."""
    path = FOLDER / f"{name}.py"
    for variant in ("", "smoke", "cola", "stsb", "tfds_mnli", "v2", "es", "spanish", "ud_pos", "conll2003"):
        try:
            command_line.load_config(f"{path}:{variant}", ())
        except InputError:
            continue
        rows = expected.parse(command_line.expected_of(f"{path}:{variant}"), name)
        assert not (rows and variant == "smoke")
        for one in rows:
            assert one.split in ("validation", "test")
            assert one.metric in ("bleu", "causal_lm_loss") or 0 <= (one.value or one.low) < 10


def test_published_figures_are_there():
    stated = {
        (config, one.split, one.metric): one.value
        for config in ("glue.py:cola", "squad.py:v1", "tagging.py:ud_pos", "quickstart.py", "transformer_base.py")
        for one in expected.parse(command_line.expected_of(f"{FOLDER / config}"), config)
    }
    assert stated["glue.py:cola", "test", "mcc"] == 0.521
    assert stated["squad.py:v1", "validation", "f1"] == 0.885
    assert stated["tagging.py:ud_pos", "test", "accuracy"] == 0.99
    assert stated["quickstart.py", "validation", "masked_lm_loss"] == 4.393
    assert stated["transformer_base.py", "test", "bleu"] == 27.3


def test_a_report_sets_it_beside_what_was_reached(tmp_path):
    run = facts.read(runs.write(tmp_path / "run", score=0.5), "run")
    rows = [row(value=0.5, deviation=0.1, seeds=2), row(value=0.9, low=0.8, step=5), row(split="test", low=0.4)]
    found = expected.outcomes(rows, run.path, run.final())
    assert [one.reached for one in found] == [0.5, pytest.approx(0.45), 0.4]
    expected.write(run.path, "configs/mine.py", expected.changes(["seed", "data.train", "model.dim"]), found)
    assert expected.read(run.path) == ("configs/mine.py", ["model.dim"], found)
    shown = markdown.text("title", sections.report([run]), ["run"])
    assert "Expected outcomes" in shown
    assert "run changed its recipe, configs/mine.py: model.dim." in shown
    line = next(line for line in shown.splitlines() if "at least 0.4" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "run", "macro\\_f1", "test", "0.4", "at least 0.4", "reached", "a paper", "a TPU",
    ]  # fmt: skip
    (run.path / "expected.json").write_text("{}")
    with pytest.raises(InputError, match=r"expected.json is damaged"):
        expected.read(run.path)


def test_without_expectations_there_is_no_section(tmp_path):
    run = facts.read(runs.write(tmp_path / "run"), "run")
    assert "Expected outcomes" not in [section.title for section in sections.report([run])]

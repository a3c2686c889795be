"""The syntax of --sweep.KEY=..."""

import numpy as np
import pytest

from tx_jax.errors import InputError
from tx_jax.sweeps.axes import Axis, Range, parse


def test_commas_in_brackets_and_quotes_do_not_split_and_a_repeated_flag_adds():
    found = parse(
        [
            "--sweep.model.heads=('a','b'),('c',)",
            "--sweep.seed=0, 1",
            "--sweep.data.train='a,b.csv',c.csv,''",
            "--sweep.seed=7",
        ]
    )
    assert found == [
        Axis("model.heads", ("('a','b')", "('c',)")),
        Axis("seed", ("0", "1", "7")),
        Axis("data.train", ("a,b.csv", "c.csv", "")),
    ]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--sweep.seed", "--sweep.seed: give values, such as --sweep.seed=0,1,2"),
        ("--sweep.=1", "give values"),
        ("--sweep.seed=", "the axis is empty; give values, such as --sweep.seed=A,B"),
        ("--sweep.seed=1,,2", "a value is empty; if that is meant, write ''"),
        ("--sweep.seed=1,2,", "a value is empty"),
        ("--sweep.seed=(1,2", r"\) is missing"),
        ("--sweep.seed='1,2", "' is missing"),
        ("--sweep.rate=log(0,1)", r"log\(a,b\) needs 0 < a < b"),
        ("--sweep.rate=uniform(2,1)", r"uniform\(a,b\) needs a < b"),
        ("--sweep.rate=int(1,1)", "needs a < b"),
        ("--sweep.rate=int(1,2.5)", "the bounds must be whole numbers"),
        ("--sweep.rate=log(a,1)", "the bounds must be numbers"),
        ("--sweep.rate=loguniform(1,2)", r"the ranges are uniform\(a,b\), log\(a,b\) and int\(a,b\)"),
        ("--sweep.rate=log(1,2),3", "cannot be mixed with other values"),
    ],
)
def test_bad_input(argument, expected):
    with pytest.raises(InputError, match=expected):
        parse([argument])


def test_draws_stay_in_their_range_and_are_their_texts():
    rng = np.random.default_rng(0)
    uniform, log, whole = parse(["--sweep.a=uniform(-1,2)", "--sweep.b=log(1e-5,1e-3)", "--sweep.c=int(2,4)"])
    assert log == Range("b", "log", 1e-5, 1e-3)
    numbers = [float(uniform.draw(rng)) for _ in range(400)]
    assert -1 <= min(numbers) < -0.9
    assert 1.9 < max(numbers) <= 2
    texts = [log.draw(rng) for _ in range(400)]
    assert all(1e-5 <= float(text) <= 1e-3 and len(text) <= 10 for text in texts)
    below = sum(float(text) < 1e-4 for text in texts)  # half of them: 200, standard deviation 10
    assert 150 < below < 250
    assert {whole.draw(rng) for _ in range(100)} == {"2", "3", "4"}


def test_rounding_does_not_leave_the_range():
    assert Range("a", "uniform", 0.0, 0.123456).text(0.123456) == "0.123456"
    assert Range("a", "uniform", 0.0, 1.0).text(0.123456) == "0.1235"

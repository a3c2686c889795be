import pytest

from tx_jax.evaluation.report import Report, spread


def test_the_spread_of_several_runs():
    runs = [{"validation": Report(5, {"mcc": value, "loss": 1.0}, {})} for value in (0.1, 0.2, 0.6)]
    found = spread(runs)["validation"]
    assert found["mcc"].mean == pytest.approx(0.3)
    assert found["mcc"].deviation == pytest.approx(((0.2**2 + 0.1**2 + 0.3**2) / 2) ** 0.5)
    assert found["mcc"].values == (0.1, 0.2, 0.6)
    assert found["loss"].deviation == 0.0

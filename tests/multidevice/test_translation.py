"""Translation on 8 devices is translation on 1: losses of several lengths of batches, metrics, scores."""

import numpy as np
import pytest

from tests.multidevice import processes, translation

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return processes.run("tests.multidevice.translation", str(tmp_path_factory.mktemp("pairs")))


@pytest.mark.parametrize("name", [name for name in translation.RUNS if name != "one"])
def test_losses_and_scores_equal_those_of_one_device(runs, name):
    np.testing.assert_allclose(runs[name]["losses"], runs["one"]["losses"], rtol=1e-4)
    assert runs[name]["translations"] == runs["one"]["translations"]
    for metric, value in runs["one"]["held_out"].items():
        np.testing.assert_allclose(runs[name]["held_out"][metric], value, rtol=1e-3, err_msg=metric)


def test_batches_have_several_lengths_and_the_loss_moves(runs):
    assert len(set(runs["one"]["lengths"])) == 2
    losses = runs["one"]["losses"]
    assert abs(losses[-1] - losses[0]) > 0.05
    assert len({tuple(ids) for ids in runs["one"]["translations"]}) > 10

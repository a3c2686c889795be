"""The results of a sweep: means over repeats, the best setting, its other splits, and what is missing."""

import csv
import json
import math
import statistics

import pytest
from matplotlib.figure import Figure

from tests.sweeps import runs
from tx_jax.errors import InputError
from tx_jax.sweeps import plots, results
from tx_jax.sweeps.axes import Axis
from tx_jax.sweeps.settings import grid, trials
from tx_jax.sweeps.sweep_dir import State, SweepDir

RATE, RANK, MODEL = (
    Axis("optimizer.learning_rate", ("1e-5", "1e-4", "1e-3")),
    Axis("lora.rank", ("4", "8")),
    Axis("start_from", ("a", "b")),
)
SEEDS = [{"seed": "0"}, {"seed": "1"}]


@pytest.fixture
def directory(tmp_path):
    return SweepDir(tmp_path)


def test_settings_as_good_as_the_best_are_counted(directory):
    found = trials(grid([RATE]), SEEDS)
    for one, value in zip(found, (0.0, 0.2, 0.2, 0.0, 0.0, 0.1), strict=True):
        runs.finish(directory, one, value)
    assert results.collect(directory, found).as_good == 1


def test_means_deviations_order_and_the_other_splits_of_the_best(directory):
    found = trials(grid([RATE]), SEEDS)
    scores = {"1e-5": (0.1, 0.3), "1e-4": (0.5, 0.7), "1e-3": (0.9, None)}
    for one in found:
        value = scores[one.setting["optimizer.learning_rate"]][int(one.repeat["seed"])]
        if value is None:
            runs.begin(directory, one)
            directory.mark(one, State.FAILED, "diverged")
        else:
            runs.finish(directory, one, value, test=value + 1)
    got = results.collect(directory, found)
    assert got.metric == "mcc"
    # A setting with a run that failed is not the best one.
    assert [row.setting["optimizer.learning_rate"] for row in got.rows] == ["1e-4", "1e-5", "1e-3"]
    assert got.best.mean == pytest.approx(0.6)
    assert got.best.deviation == pytest.approx(statistics.stdev([0.5, 0.7]))
    assert got.rows[2].deviation is None
    others = results.other_splits(directory, got.best)
    assert others == {"test": {"mcc": (pytest.approx(1.6), pytest.approx(0.1 * 2**0.5))}}
    results.write(directory, got, "python -m it")
    written = json.loads((directory.path / "results.json").read_text())
    assert written["best"]["command"] == "python -m it"
    assert written["best"]["other_splits"]["test"]["mcc"]["mean"] == pytest.approx(1.6)
    assert "test" not in json.dumps(written["settings"])  # of the others, test data stays unseen
    assert written["settings"][2]["runs"][1]["reason"] == "diverged"
    with (directory.path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.6, 0.2, 0.9])
    with (directory.path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert list(rows[0].values()) == ["learning_rate_1e-4__seed_0", "1e-4", "0", "done", "0.5"]
    assert list(rows[0]) == ["name", "optimizer.learning_rate", "seed", "state", "mcc"]


def test_a_loss_is_better_if_lower_and_nan_is_never_better(directory):
    found = trials(grid([RATE]))
    for one, value in zip(found, (2.0, 1.0, math.nan), strict=True):
        runs.finish(directory, one, value, metric="loss")
    got = results.collect(directory, found)
    assert [row.setting["optimizer.learning_rate"] for row in got.rows] == ["1e-4", "1e-5", "1e-3"]


def test_without_a_final_evaluation_the_curve_decides(directory):
    (one,) = trials([{"a": "1"}])
    folder = runs.begin(directory, one)
    config = json.loads((folder / "config.json").read_text())
    config["training"]["final_eval_batches"] = -1
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "DONE").write_text("step 30\n")
    runs.curve(directory, one, [0.1, 0.4, 0.2])
    assert results.collect(directory, [one]).best.mean == 0.4
    config["training"]["keep_best"] = 0  # then the last checkpoint is used
    (folder / "config.json").write_text(json.dumps(config))
    assert results.collect(directory, [one]).best.mean == 0.2


def test_a_metric_that_there_is_not(directory):
    found = trials(grid([RANK]))
    for one, metric in zip(found, ("mcc", "accuracy"), strict=True):
        runs.finish(directory, one, 0.5, metric)
    with pytest.raises(InputError, match=r"--metric=mcb: .* has mcc. Did you mean 'mcc'\?"):
        results.collect(directory, found[:1], "mcb")
    with pytest.raises(InputError, match=r"different training.best_metric, mcc, accuracy: say one by --metric="):
        results.collect(directory, found)


@pytest.mark.parametrize(
    ("axes", "repeats", "expected"),
    [
        ([], SEEDS, "lines"),
        ([RATE], SEEDS, "log"),
        ([MODEL], [{}], "lines"),
        ([RATE, RANK], SEEDS, "map"),
        ([RATE, RANK, MODEL], [{}], "parallel"),
    ],
)
def test_the_picture_fits_the_number_of_axes(directory, axes, repeats, expected, monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **o: (figures.append(self), save(self, *a, **o)))
    found = trials(grid(axes), repeats)
    for number, one in enumerate(found):
        runs.finish(directory, one, number / 10)
    assert plots.draw(results.collect(directory, found), directory.path / "sweep.png").stat().st_size > 0
    axes = figures[0].axes
    figures[0].draw_without_rendering()
    for label in (axes[0].yaxis.label, axes[0].xaxis.label, axes[0].title):
        box, picture = label.get_window_extent(), figures[0].bbox
        assert not label.get_text() or (box.x0 >= 0 <= box.y0 and box.x1 <= picture.x1 and box.y1 <= picture.y1)
    assert bool(axes[0].images) == (expected == "map")
    assert (axes[0].get_xscale() == "log") == (expected == "log")
    if expected == "parallel":
        assert sum(len(line.get_xdata()) == 4 for line in axes[0].lines) == 12
    elif expected == "log":
        ((_, _, (bars,)),) = axes[0].containers
        assert len(bars.get_segments()) == 3
        assert [tick.get_text() for tick in axes[0].get_xticklabels()] == list(RATE.values)
    elif expected == "map":
        assert len(axes[0].texts) == 6


def test_nothing_is_drawn_of_nothing(directory):
    found = trials(grid([RATE]))
    assert plots.draw(results.collect(directory, found, "mcc"), directory.path / "sweep.png") is None

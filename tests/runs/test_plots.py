"""The picture of a run: every figure that has a curve, the one that decides first, nothing empty."""

import json
import math

import pytest
from matplotlib.figure import Figure

from configs import classification
from tx_jax.config import from_config_dict, to_dict
from tx_jax.files import json_text
from tx_jax.runs import plots


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], Figure.savefig

    def savefig(self, *arguments, **options):
        figures.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def write(folder, train, validation, best_metric="macro_f1"):
    """A log in which every figure falls from step to step."""
    records = []
    for step in range(10, 60, 10):
        records.append({"step": step, "split": "train", **dict.fromkeys(train, 1 / step)})
        records.append({"step": step, "split": "validation", **dict.fromkeys(validation, 2 / step)})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    c = classification.get_config("smoke")
    c.training.best_metric = best_metric
    (folder / "config.json").write_text(json_text(to_dict(from_config_dict(c))))


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.lines]


def lines(figure):
    """Of each panel the number of curves, apart from the mark of the best."""
    return [sum(line.get_marker() != "*" for line in axes.lines) for axes in figure.axes]


FIGURES = ("loss", "gradient_norm", "learning_rate", "accuracy")


def test_a_fine_tuning_shows_its_scores_and_first_the_one_that_decides(tmp_path, drawn):
    write(tmp_path, FIGURES, ("loss", "accuracy", "macro_f1"))
    path = plots.draw_curves(tmp_path)
    assert path == tmp_path / "loss.png"
    assert path.stat().st_size > 10_000
    (figure,) = drawn
    assert titles(figure) == [
        "macro f1: best 0.2 at step 10",
        "loss",
        "accuracy",
        "learning rate",
        "gradient norm",
    ]
    assert lines(figure) == [1, 2, 2, 1, 1, 0]
    assert [line.get_marker() for line in figure.axes[0].lines][-1] == "*"


def test_scores_of_translation_have_an_axis_of_their_own(tmp_path, drawn):
    write(tmp_path, FIGURES, ("loss", "causal_lm_accuracy", "bleu", "chrf"))
    plots.draw_curves(tmp_path)
    panels = dict(zip(titles(drawn[0]), lines(drawn[0]), strict=False))
    assert panels["translation, of 100"] == 2
    assert panels["score"] == 2  # accuracy, in training and held out


def test_a_loss_that_decides_is_best_where_it_is_lowest(tmp_path, drawn):
    write(tmp_path, FIGURES, ("loss",), best_metric="loss")
    plots.draw_curves(tmp_path)
    assert titles(drawn[0])[0] == "loss: best 0.04 at step 50"
    assert lines(drawn[0])[0] == 2


def test_thirty_metrics_are_drawn_a_few_on_each_axis(tmp_path, drawn):
    names = [f"f1_label_{number}" for number in range(30)]
    write(tmp_path, FIGURES, ("loss", "macro_f1", *names))
    plots.draw_curves(tmp_path)
    shown = [text.get_text() for axes in drawn[0].axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert shown == [
        "accuracy",
        *(f"f1 label {number}" for number in range(29)),
    ]  # the last has a panel, and so a title
    assert sum(lines(drawn[0])) == 1 + 2 + 1 + 30 + 2
    assert max(lines(drawn[0])) <= plots.PER_PANEL


def test_what_is_never_finite_or_always_zero_is_no_curve(tmp_path, drawn):
    write(tmp_path, ("loss",), ("loss",))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json_text({"step": 60, "split": "validation", "mcc": math.nan, "loss": math.nan}) + "\n")
        file.write(json_text({"step": 60, "split": "train", "skipped_updates": 0.0}) + "\n")
    plots.draw_curves(tmp_path)
    assert titles(drawn[0]) == ["loss"]


def test_nothing_is_no_picture(tmp_path):
    assert plots.draw_curves(tmp_path) is None
    write(tmp_path, (), ())
    assert plots.draw_curves(tmp_path) is None
    assert not (tmp_path / "loss.png").exists()


def test_a_picture_of_all_that_is_in_the_log_stays(tmp_path, drawn):
    write(tmp_path, FIGURES, ("loss",))
    plots.draw_curves(tmp_path)
    plots.draw_curves(tmp_path)
    assert len(drawn) == 1

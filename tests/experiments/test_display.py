"""What the tables at the start and a line of progress say."""

import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from experiments import display, progress
from tx_jax import sharding


def test_only_a_wait_for_data_that_costs_something_is_shown():
    values = {"loss": 2.0, "tokens_per_second": 12_345.0}
    assert display.describe(values | {"data_wait_share": 0.04}) == "loss 2.0000  12,345 tokens/s"
    assert display.describe(values | {"data_wait_share": 0.234}).endswith("tokens/s  waits for data 23%")


def test_the_formula_stands_beside_the_utilization():
    assert display.describe({"mfu": 0.4321}) == "MFU 43.2% (matmul FLOPs, causal half)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5_000, "83 min"), (12_600, "3.5 h"), (1.2e6, "14 days")],
)
def test_estimates_are_round(seconds, text):
    assert progress.roughly(seconds) == text


def test_the_time_needed_counts_the_tokens_of_longer_phases_by_their_flops(smoke_config, tiny_store, tmp_path):
    from tests.training.test_phases import build

    smoke_config.training.update(num_steps=100, batch_size=8)
    run = build(smoke_config, tiny_store, tmp_path / "one")
    assert display.time_needed(run, 1, 21, 20.0) == (
        "about 79 s for the 79 steps that are left, on this machine (256 tokens/s); evaluations and checkpoints come "
        "on top"
    )
    smoke_config.phases.update(steps=(50, 50), sequence_length=(32, 64), max_predictions=(5, 10))
    run = build(smoke_config, tiny_store, tmp_path / "two")
    short, long = (run.task.objective.flops_per_token(phase) for phase in run.config.training_phases)
    assert run.flops(49, 51) == 8 * (32 * short + 64 * long)
    seconds = 29 + 50 * 2 * long / short  # of twice as many tokens, each of which costs more
    assert long > short
    assert display.time_needed(run, 1, 21, 20.0).startswith(f"about {seconds / 60:.0f} min for the 79 steps")


def test_a_line_says_where_the_time_went():
    lost = {"starting": 12.3, "compiling": 30.0, "waiting": 0.04, "evaluating": 60.0, "saving": 1.0}
    values = {"goodput": 0.8771, "seconds_total": 836.0} | {f"seconds_{name}": x for name, x in lost.items()}
    assert display.where_the_time_went(values) == (
        "Time: 0:13:56, 87.7% of it in training steps; starting 12.3 s, compiling 30.0 s, waiting 0.0 s, "
        "evaluating 60.0 s, saving 1.0 s."
    )


def test_every_task_shows_a_score():
    assert display.describe({"entity_f1": 0.5, "exact_match": 0.25}) == "exact match 25.0%  entity F1 0.500"


def test_figures_name_each_phase(smoke_config, tiny_store, tmp_path):
    from rich.console import Console

    from tests.training.test_phases import build

    def shown():
        console = Console(width=160)
        with console.capture() as capture:
            console.print(display.figures_table(build(smoke_config, tiny_store, tmp_path)))
        return " ".join(capture.get().split())

    assert "tokens per step │ 256 (8 x 32, padding included)" in shown()
    smoke_config.phases.update(steps=(18, 2), sequence_length=(32, 64), max_predictions=(5, 10))
    assert "tokens per step to step 18 │ 256 (8 x 32, padding included)" in shown()
    assert "tokens per step to step 20 │ 512 (8 x 64, padding included)" in shown()


def test_where_parameters_live_and_what_they_take_there():
    mesh = AbstractMesh((1, 2, 1, 4), sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 4)
    layer = {"mlp": {"wi": {"kernel": jnp.zeros((8, 12)), "bias": jnp.zeros(12)}}, "mlp_norm": {"scale": jnp.zeros(8)}}
    params = sharding.with_sharding(mesh, {"encoder": {"layer_0": layer, "layer_1": layer}})
    columns = [list(column.cells) for column in display.parameter_table(params).columns]
    assert list(zip(*columns, strict=True)) == [
        ("encoder/layer_{0..1}/mlp/wi/bias", "(12,)", "float32", "tensor", "96", "24"),
        ("encoder/layer_{0..1}/mlp/wi/kernel", "(8, 12)", "float32", "fsdp x tensor", "768", "96"),
        ("encoder/layer_{0..1}/mlp_norm/scale", "(8,)", "float32", "replicated", "64", "64"),
    ]
    assert sharding.bytes_per_device(params) == 24 + 96 + 64


def test_what_trains_and_how_fast_is_shown(smoke_config, tiny_store, tmp_path):
    from rich.console import Console

    from tests.training.test_phases import build

    def rows(table):
        console = Console(width=160)
        with console.capture() as capture:
            console.print(table)
        return [[cell.strip() for cell in line.split("│")[1:-1]] for line in capture.get().splitlines() if "│" in line]

    run = build(smoke_config, tiny_store, tmp_path)
    assert display.rates_table(run) is None
    figures = dict(rows(display.figures_table(run)))
    assert figures["parameters"] == "42,442"
    # 4 bytes each, and twice that for Adam's two moments.
    expected = "parameters 0.2 MiB, gradients 0.2 MiB, optimizer state 0.3 MiB; activations not counted"
    assert figures["per device"] == expected
    smoke_config.optimizer.update(frozen=("^embeddings/",), layer_decay=0.5, rate_scale=("^pooler/=10",))
    run = build(smoke_config, tiny_store, tmp_path)
    assert rows(display.figures_table(run))[0] == ["parameters", "42,442, 19,530 of them trained"]
    assert rows(display.rates_table(run)) == [
        ["frozen", "22,912", "embeddings"],
        ["2.5e-05", "8,544", "encoder/layer_0"],
        ["5e-05", "8,544", "encoder/layer_1"],
        ["0.0001", "1,386", "masked_lm  next_sentence"],
        ["0.001", "1,056", "pooler"],
    ]


def test_an_evaluation_says_what_is_coming_and_how_far_it_is(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def shown(announces):
        show = progress.EvaluationProgress(announces=announces)
        for done in range(0, 2501, 100):
            show("held-out data", done, 2500)
            clock[0] += 1.0
        return capsys.readouterr().out.splitlines()

    announced, *lines = shown(announces=True)
    assert announced == "evaluating held-out data: 2,500 batches"
    assert lines[0] == "evaluating held-out data: 500 of 2,500 batches, 0:00:20 left"
    assert lines == shown(announces=False)
    assert len(lines) == 4


def test_a_short_evaluation_within_the_training_says_nothing(capsys):
    show = progress.EvaluationProgress(announces=False)
    for done in range(4):
        show("held-out data", done, 3)
    assert capsys.readouterr().out == ""


def test_a_complete_run_says_what_becomes_of_the_changes():
    assert display.complete(8, 8, changed=False) == "The run is complete: it has its 8 steps."
    assert display.complete(8, 6, changed=True) == (
        "The run is complete: it has trained 8 steps; training.num_steps=6 does not ask for more. Nothing is trained, "
        "so the changes have no effect, and config.json is kept."
    )
    improves_no_more = "The run is complete: it has trained 6 steps and no longer improves."
    assert display.complete(6, 40, changed=False) == improves_no_more

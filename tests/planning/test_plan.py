import dataclasses
import importlib.util

import jax
import pytest

from tests.data.labeled.configs import labeled
from tx_jax import sharding
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.planning import hlo, plan
from tx_jax.tasks.registry import objective_of

GIB = plan.GIB
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install -e ".[plan]"'
)


@pytest.fixture
def config_dict():
    from configs import bert_base

    c = bert_base.get_config("smoke")
    c.model.num_layers = 1
    c.data.store = "nowhere"  # a plan reads none
    return c


def make(c, target=None):
    config = from_config_dict(c)
    return plan.plan(config, objective_of(config), target or plan.local_target())


def test_every_phase_is_planned_on_the_devices_at_hand(config_dict):
    config_dict.phases.update(steps=(18, 2), sequence_length=(32, 64), max_predictions=(5, 10))
    made = make(config_dict)
    assert [(phase.steps, phase.batch_size, phase.sequence_length) for phase in made.phases] == [
        (18, 8, 32),
        (2, 8, 64),
    ]
    short, long = made.phases
    config = from_config_dict(config_dict)
    objective = objective_of(config)
    params = jax.eval_shape(objective.init, jax.random.key(0))
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(params))
    for phase in made.phases:
        assert phase.parameters == size
        assert phase.optimizer_state == 2 * size + 8  # Adam's two moments; its count and the schedule's
        assert phase.peak >= phase.parameters + phase.optimizer_state + phase.batch + phase.temporaries
        assert phase.xla_flops > 0
        assert phase.collectives == ()
    assert long.batch > short.batch
    assert long.temporaries > short.temporaries
    assert long.flops == objective.flops_per_token(config.training_phases[1]) * 8 * 64
    assert made.days() is None  # this compiler says nothing of time
    assert made.step_seconds(short) is None


def test_with_frozen_parameters_the_formula_is_not_used(config_dict):
    config_dict.optimizer.frozen = ("^embeddings/",)
    (phase,) = make(config_dict).phases
    assert phase.flops is None
    assert phase.optimizer_state < 2 * phase.parameters


def target(**changes):
    return dataclasses.replace(plan.local_target(), name="a small device", **changes)


def test_what_does_not_fit_is_told_with_what_helps(config_dict):
    with pytest.raises(plan.DoesNotFit) as error:
        make(config_dict, target(memory=1_300_000))
    for part in ("it takes", "model.remat", "training.accumulation_steps", "more devices", "batches of 8 x 32"):
        assert part in str(error.value)


def test_where_the_state_alone_does_not_fit_smaller_activations_are_not_advised(config_dict):
    with pytest.raises(plan.DoesNotFit, match="its parameters and optimizer state take") as error:
        make(config_dict, target(memory=10_000))
    advice = "What helps: more devices, and a larger --config.mesh.fsdp with them (now 1)"
    assert str(error.value).endswith(advice)


def test_what_can_not_be_larger_is_not_advised(config_dict):
    config_dict.model.remat = "block"
    config_dict.training.accumulation_steps = 8
    config_dict.phases.update(steps=(18, 2), sequence_length=(32, 32), max_predictions=(5, 5), batch_size=(24, 16))
    with pytest.raises(plan.DoesNotFit, match="it takes") as error:
        make(config_dict, target(memory=1_300_000))
    assert str(error.value).endswith("What helps: more devices, and a larger --config.mesh.fsdp with them (now 1)")


def test_a_mesh_that_splits_the_state_further_is_advised(config_dict):
    mesh = jax.sharding.AbstractMesh((4, 1, 1, 2), sharding.MESH_AXES)
    error = plan._does_not_fit(from_config_dict(config_dict), mesh, "steps 1 to 2", "it takes much", target())
    assert "a larger --config.mesh.fsdp or --config.mesh.tensor in place of the others (now 1, 2)" in str(error)


def test_the_compiler_tells_how_much_it_needs(config_dict, monkeypatch):
    def fails(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 20.50G of 15.75G hbm. Exceeded by 4.75G.")

    monkeypatch.setattr(plan, "lower_train_step", fails)
    with pytest.raises(plan.DoesNotFit, match=r"it takes 20.50 GiB, of 15.75 GiB on each device"):
        make(config_dict, target(memory=int(15.75 * GIB)))


def test_another_error_of_the_compiler_is_a_bug(config_dict, monkeypatch):
    def fails(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(plan, "lower_train_step", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        make(config_dict)


def test_a_mesh_that_does_not_fit(config_dict):
    config_dict.mesh.data = 3
    with pytest.raises(InputError, match=r"mesh.data=3, .* does not fit 1 cpu device"):
        make(config_dict)


@pytest.mark.parametrize(
    ("name", "head", "changes", "labels"),
    [
        ("classification", "sequence_classification", {}, 2),
        ("classification", "sequence_classification", {"text": ("a", "b"), "labels": ("x", "y", "z")}, 3),
        ("regression", "sequence_classification", {}, 1),
        ("tagging", "token_classification", {"labels": ("x", "y", "z")}, 3),
        ("question_answering", "question_answering", {"text": ("a", "b")}, 2),
        ("multiple_choice", "multiple_choice", {"choices": ("a", "b", "c")}, 2),
    ],
)
def test_fine_tuning_is_planned_where_its_steps_are_given(config_dict, name, head, changes, labels):
    values = config_dict.to_dict()
    values["task"], values["model"]["heads"] = name, (head,)
    values["data"] = vars(labeled(**changes))
    objective = objective_of(from_config_dict(values))
    assert objective.config.model.num_labels == labels
    (phase,) = plan.plan(objective.config, objective, plan.local_target()).phases
    assert phase.steps == 20
    sequences = 8 * (len(changes.get("choices", ())) or 1)
    assert phase.tokens == sequences * 16
    assert phase.flops == objective.flops_per_token() * sequences * 16
    assert phase.batch >= sequences * 16 * 5  # tokens and what is valid of them


def test_the_steps_of_epochs_are_not_known_without_data(config_dict):
    values = config_dict.to_dict()
    values["task"], values["model"]["heads"] = "classification", ("sequence_classification",)
    values["data"], values["training"]["num_epochs"] = vars(labeled()), 2.0
    with pytest.raises(InputError, match=r"training.num_epochs=2.0 .*--config.training.num_steps=N"):
        objective_of(from_config_dict(values))


def test_times_follow_from_cycles_bytes_and_peaks():
    """A step of 1e9 cycles at 1 GHz and 50 MB over 100 MB/s: 1.5 s; 86,400 such steps are a day and a half."""
    phase = plan.PhasePlan(
        steps=86_400,
        batch_size=10,
        sequence_length=100,
        tokens=1000,
        flops=6e12,
        xla_flops=0.0,
        parameters=0,
        optimizer_state=0,
        batch=0,
        temporaries=0,
        program=0,
        peak=0,
        collectives=(
            hlo.Collective("all-reduce", 3, 40_000_000, 30_000_000),
            hlo.Collective("all-gather", 1, 9, 20_000_000),
        ),
        cycles=1_000_000_000,
        compile_seconds=1.0,
    )
    devices = plan.Target("four", [], None, peak_flops=2e12, clock=1e9, link_bandwidth=1e8)
    made = plan.Plan(devices, "device", {"data": 2, "fsdp": 2}, (phase,))
    assert made.compute_seconds(phase) == 1.0
    assert made.collective_seconds(phase) == 0.5
    assert made.least_step_seconds(phase) == 6e12 / (4 * 2e12)
    assert made.mfu(phase) == pytest.approx(0.75 / 1.5)
    assert made.days() == 1.5
    alone = dataclasses.replace(phase, collectives=())
    assert dataclasses.replace(made, target=dataclasses.replace(devices, link_bandwidth=0.0)).step_seconds(alone) == 1.0


@needs_libtpu
def test_a_tpu_slice_that_is_not_here(config_dict):
    config_dict.training.batch_size = 16
    config_dict.training.accumulation_steps = 2
    made = make(config_dict, plan.tpu_target("v5litepod-4"))
    assert made.num_devices == 4
    (phase,) = made.phases
    assert phase.cycles > 1000
    (reduced,) = phase.collectives
    assert reduced.kind == "all-reduce"
    assert reduced.bytes >= phase.parameters  # the gradient
    assert 0 < made.mfu(phase) < 1
    assert made.days() > 0

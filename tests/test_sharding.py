import os
import re
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from tests.golden import compute, weights
from tests.models import small
from tx_jax import sharding, tree
from tx_jax.config import MeshConfig
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.training.state import TrainState

BASE = compute.bert_config(weights.Sizes(30522, 768, 12, 12, 3072, 512, "gelu", 1e-12))
PRE_NORM = small.config(norm_position="pre", vocab_size=54)

# Written out once more, by the last parts of the path: (mesh axis per dimension).
EXPECTED = {
    "token/embedding": ("tensor", "fsdp"),
    "position/embedding": (None, "fsdp"),
    "segment/embedding": (None, "fsdp"),
    "query/kernel": ("fsdp", "tensor"),
    "key/kernel": ("fsdp", "tensor"),
    "value/kernel": ("fsdp", "tensor"),
    "query/bias": ("tensor",),
    "key/bias": ("tensor",),
    "value/bias": ("tensor",),
    "out/kernel": ("tensor", "fsdp"),
    "out/bias": (None,),
    "wi/kernel": ("fsdp", "tensor"),
    "wi/bias": ("tensor",),
    "wo/kernel": ("tensor", "fsdp"),
    "wo/bias": (None,),
    "norm/scale": (None,),
    "norm/bias": (None,),
    "attention_norm/scale": (None,),
    "attention_norm/bias": (None,),
    "mlp_norm/scale": (None,),
    "mlp_norm/bias": (None,),
    "final_norm/scale": (None,),
    "final_norm/bias": (None,),
    "pooler/kernel": ("fsdp", None),
    "pooler/bias": (None,),
    "transform/kernel": ("fsdp", None),
    "transform/bias": (None,),
    "next_sentence/kernel": ("fsdp", None),
    "next_sentence/bias": (None,),
    "masked_lm/bias": ("tensor",),
}


def mesh(data=1, fsdp=1, tensor=1):
    """Sizes without devices, which is all that the rules need."""
    return AbstractMesh((data, fsdp, tensor), sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def ending(path):
    return "/".join(path.split("/")[-2:])


@pytest.mark.parametrize("cfg", [BASE, PRE_NORM], ids=["base", "pre-LN"])
def test_every_parameter_has_exactly_the_intended_rule(cfg):
    shapes = tree.flatten(registry.param_shapes(cfg))
    for path, leaf in shapes.items():
        rules = [pattern for pattern, _ in sharding.PARAM_RULES if re.search(pattern, path)]
        assert len(rules) == 1, (path, rules)
        assert sharding.param_sharding(mesh(2, 2, 2), path, leaf.shape).spec == P(*EXPECTED[ending(path)]), path
    if cfg is PRE_NORM:
        used = {ending(path) for path in shapes}
        assert used == set(EXPECTED)
        for pattern, _ in sharding.PARAM_RULES:
            assert any(re.search(pattern, path) for path in shapes), f"no parameter for the rule {pattern}"


def test_an_uncovered_parameter_raises():
    with pytest.raises(KeyError, match="'encoder/layer_0/adapter/kernel'"):
        sharding.param_sharding(mesh(), "encoder/layer_0/adapter/kernel", (4, 4))


def test_a_rule_with_another_number_of_axes_raises():
    with pytest.raises(ValueError, match=r"'masked_lm/bias' has axes \('vocab',\), the parameter has shape \(4, 4\)"):
        sharding.param_sharding(mesh(), "masked_lm/bias", (4, 4))


def test_indivisible_dimensions_name_path_and_sizes():
    path = "embeddings/token/embedding"
    assert sharding.param_sharding(mesh(tensor=2), path, (30522, 768)).spec == P("tensor", "fsdp")
    with pytest.raises(InputError) as error:
        sharding.param_sharding(mesh(tensor=4), path, (30522, 768))
    for part in (path, "(30522, 768)", "30522 is not divisible by mesh.tensor=4"):
        assert part in str(error.value)


OPTIMIZERS = {
    "adamw": optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(0.9, 0.999, 1e-6),
        optax.add_decayed_weights(0.01, lambda params: jax.tree.map(lambda x: x.ndim > 1, params)),
        optax.scale_by_learning_rate(optax.linear_schedule(0.0, 1.0, 10)),
    ),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "accumulating": optax.MultiSteps(optax.adamw(1e-3), 4).gradient_transformation(),
    "frozen parts": optax.masked(
        optax.adam(1e-3), lambda params: tree.map_with_path(lambda path, _: "mlp" in path, params)
    ),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_state_sharding_follows_the_parameters(name):
    def state():
        params = registry.init_params(PRE_NORM, jax.random.key(0))
        return TrainState(jnp.zeros((), jnp.int32), params, OPTIMIZERS[name].init(params))

    shapes = tree.flatten(jax.eval_shape(state))
    placed = tree.flatten(sharding.state_sharding(mesh(2, 2, 2), jax.eval_shape(state)))
    assert placed.keys() == shapes.keys()
    for path, leaf in shapes.items():
        assert placed[path].spec == (P(*EXPECTED[ending(path)]) if leaf.ndim else P()), path
    moments = [path for path, leaf in shapes.items() if leaf.ndim and path.startswith("opt_state/")]
    copies = {"adamw": 2, "momentum": 1, "accumulating": 3}
    if name in copies:
        assert len(moments) == copies[name] * len([path for path in shapes if path.startswith("params/")])
    else:
        assert moments
        assert all("mlp" in path for path in moments)


def test_state_sharding_refuses_what_it_does_not_know():
    with pytest.raises(KeyError, match="'opt_state/history'"):
        sharding.state_sharding(mesh(), {"opt_state": {"history": jnp.zeros(3)}})


def test_mesh_of_the_devices_at_hand():
    for config in (MeshConfig(-1, 1, 1), MeshConfig(1, -1, 1), MeshConfig(1, 1, 1)):
        made = sharding.make_mesh(config)
        assert dict(made.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
        assert set(made.axis_types) == {AxisType.Auto}
    with pytest.raises(InputError, match=r"mesh.data=2, mesh.fsdp=1, mesh.tensor=1 does not fit 1 cpu device"):
        sharding.make_mesh(MeshConfig(2, 1, 1))
    with pytest.raises(InputError, match=r"mesh.data=-1, mesh.fsdp=2, mesh.tensor=1 does not fit 1 cpu device"):
        sharding.make_mesh(MeshConfig(-1, 2, 1))


def test_batches_are_split_over_both_data_axes():
    assert sharding.batch_sharding(mesh(2, 2, 2)).spec == P(("data", "fsdp"))
    sharding.check_batch_size(mesh(2, 2, 2), "training.batch_size", 8)
    with pytest.raises(InputError, match=r"training.batch_size=6 is not divisible by the 4 shards"):
        sharding.check_batch_size(mesh(2, 2, 2), "training.batch_size", 6)


def test_meshes_of_eight_devices():
    """In a process of its own, as the number of virtual devices is fixed when JAX starts."""
    script = """
    import jax
    from tx_jax import sharding
    from tx_jax.config import MeshConfig
    from tx_jax.errors import InputError

    for config, shape in (
        (MeshConfig(-1, 1, 1), (8, 1, 1)),
        (MeshConfig(-1, 2, 2), (2, 2, 2)),
        (MeshConfig(2, 1, -1), (2, 1, 4)),
        (MeshConfig(1, 8, -1), (1, 8, 1)),
    ):
        assert tuple(sharding.make_mesh(config).shape.values()) == shape, config
    assert sharding.make_mesh(MeshConfig(-1, 1, 1), jax.devices()[:4]).size == 4
    for config in (MeshConfig(-1, 3, 1), MeshConfig(2, 2, 1), MeshConfig(-1, 4, 4), MeshConfig(3, 3, 1)):
        try:
            sharding.make_mesh(config)
        except InputError as error:
            assert "does not fit 8 cpu device" in str(error)
        else:
            raise AssertionError(config)
    """
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, env=os.environ | flags)

import contextlib
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
from tests.xla_flags import xla_flags
from tx_jax import sharding, tree
from tx_jax.batch import KEYS
from tx_jax.config import LoraConfig, MeshConfig
from tx_jax.errors import InputError
from tx_jax.models import forward, registry
from tx_jax.training.state import TrainState

BASE = compute.bert_config(weights.Sizes(30522, 768, 12, 12, 3072, 512, "gelu", 1e-12))
PRE_NORM = small.config(norm_position="pre", embedding_norm=False, vocab_size=54)

# Every parameter of these is covered by exactly one row, and every row covers one of them.
FAMILIES = {
    "base": BASE,
    "pre-LN": PRE_NORM,
    "heads": small.config(
        heads=(
            "masked_lm",
            "replaced_token",
            "sequence_classification",
            "token_classification",
            "question_answering",
            "multiple_choice",
        ),
        tie_embeddings=False,
        embedding_dim=16,
        gated_mlp=True,
    ),
    "DeBERTa": small.config(
        relative_attention=("c2p", "p2c"),
        relative_distance=8,
        relative_norm=True,
        conv_kernel=3,
        heads=("masked_lm",),
        enhanced_mask_decoder=True,
    ),
    "decoder": small.config(architecture="decoder", heads=("causal_lm",), tie_embeddings=False, norm_position="pre"),
    "encoder-decoder": small.config(architecture="encoder_decoder", heads=("causal_lm",), num_decoder_layers=2),
}

# Written out once more, by the last parts of the path: (mesh axis per dimension). What is not here lies whole.
EXPECTED = {
    "token/embedding": ("tensor", "fsdp"),
    "output/embedding": ("tensor", "fsdp"),
    "position/embedding": (None, "fsdp"),
    "segment/embedding": (None, "fsdp"),
    "relative/embedding": (None, "fsdp"),
    "mask_decoder_position/embedding": (None, "fsdp"),
    "project/kernel": (None, "fsdp"),
    "query/kernel": ("fsdp", "tensor"),
    "key/kernel": ("fsdp", "tensor"),
    "value/kernel": ("fsdp", "tensor"),
    "relative_query/kernel": ("fsdp", "tensor"),
    "relative_key/kernel": ("fsdp", "tensor"),
    "query/bias": ("tensor",),
    "key/bias": ("tensor",),
    "value/bias": ("tensor",),
    "relative_query/bias": ("tensor",),
    "relative_key/bias": ("tensor",),
    "attention/out/kernel": ("tensor", "fsdp"),
    "cross_attention/out/kernel": ("tensor", "fsdp"),
    "replaced_token/out/kernel": ("fsdp", None),
    "wi/kernel": ("fsdp", "tensor"),
    "wi/bias": ("tensor",),
    "gate/kernel": ("fsdp", "tensor"),
    "gate/bias": ("tensor",),
    "wo/kernel": ("tensor", "fsdp"),
    "convolution/kernel": (None, "fsdp", None),
    "pooler/kernel": ("fsdp", None),
    "transform/kernel": ("fsdp", None),
    "next_sentence/kernel": ("fsdp", None),
    "sequence_classification/kernel": ("fsdp", None),
    "token_classification/kernel": ("fsdp", None),
    "question_answering/kernel": ("fsdp", None),
    "multiple_choice/kernel": ("fsdp", None),
    "masked_lm/bias": ("tensor",),
}


def mesh(data=1, fsdp=1, tensor=1, context=1):
    """Sizes without devices, which is all that the rules need."""
    return AbstractMesh((data, fsdp, context, tensor), sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 4)


def expected_spec(path, ndim):
    found = [axes for end, axes in EXPECTED.items() if f"/{path}".endswith(f"/{end}")]
    if ndim == 1 and not found:
        return (None,)
    (axes,) = found
    return axes


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_has_exactly_the_intended_rule(name):
    for path, leaf in tree.flatten(registry.param_shapes(FAMILIES[name])).items():
        rules = [pattern for pattern, _ in sharding.PARAM_RULES if re.search(pattern, path)]
        assert len(rules) == 1, (path, rules)
        assert sharding.param_sharding(mesh(), path, leaf.shape).spec == P(*expected_spec(path, leaf.ndim)), path


def test_every_rule_has_a_parameter():
    paths = [path for cfg in FAMILIES.values() for path in tree.flatten(registry.param_shapes(cfg))]
    for pattern, _ in sharding.PARAM_RULES:
        assert any(re.search(pattern, path) for path in paths), f"no parameter for the rule {pattern}"


@pytest.mark.parametrize("name", FAMILIES)
def test_no_matrix_is_whole_on_every_device_of_fsdp(name):
    """Only biases and norms are: at most 4 D elements each, or one a token."""
    for path, leaf in tree.flatten(registry.param_shapes(FAMILIES[name])).items():
        assert leaf.ndim == 1 or "fsdp" in sharding.param_sharding(mesh(fsdp=2), path, leaf.shape).spec, path


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
    for part in (path, "(30522, 768)", "30522 is not divisible by mesh.tensor=4", "--config.model.vocab_size=30524"):
        assert part in str(error.value)
    with pytest.raises(InputError, match=r"768\): 768 is not divisible by mesh.fsdp=5; choose another mesh$"):
        sharding.param_sharding(mesh(fsdp=5), "embeddings/position/embedding", (512, 768))


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
        assert placed[path].spec == (P(*expected_spec(path, leaf.ndim)) if leaf.ndim else P()), path
    moments = [path for path, leaf in shapes.items() if leaf.ndim and path.startswith("opt_state/")]
    copies = {"adamw": 2, "momentum": 1, "accumulating": 3}
    if name in copies:
        assert len(moments) == copies[name] * len([path for path in shapes if path.startswith("params/")])
    else:
        assert moments
        assert all("mlp" in path for path in moments)


# "attention/out" is split along its inputs, the others along their outputs.
ADAPTERS = {
    "query/kernel/a": P("fsdp", None),
    "query/kernel/b": P(None, "tensor"),
    "out/kernel/a": P("tensor", None),
    "out/kernel/b": P(None, "fsdp"),
    "wi/kernel/a": P("fsdp", None),
    "wi/kernel/b": P(None, "tensor"),
}


def test_adapters_lie_as_their_kernels_do():
    config = LoraConfig(rank=4, targets=("(query|attention/out|wi)/kernel$",))

    def state():
        params = forward.init_params(PRE_NORM, config, jax.random.key(0))
        return TrainState(jnp.zeros((), jnp.int32), params, optax.adam(1e-3).init(params))

    placed = tree.flatten(sharding.state_sharding(mesh(2, 2, 2), jax.eval_shape(state)))
    adapters = {path: place.spec for path, place in placed.items() if "lora/" in path}
    assert len(adapters) == 3 * 2 * 3 * PRE_NORM.num_layers  # kernels; a and b; parameters and two moments
    for path, spec in adapters.items():
        assert spec == ADAPTERS["/".join(path.split("/")[-3:])], path


def test_state_sharding_refuses_what_it_does_not_know():
    with pytest.raises(KeyError, match="'opt_state/history'"):
        sharding.state_sharding(mesh(), {"opt_state": {"history": jnp.zeros(3)}})


def test_mesh_of_the_devices_at_hand():
    for config in (MeshConfig(-1, 1, 1), MeshConfig(1, -1, 1), MeshConfig(1, 1, 1)):
        made = sharding.make_mesh(config)
        assert dict(made.shape) == {"data": 1, "fsdp": 1, "context": 1, "tensor": 1}
        assert set(made.axis_types) == {AxisType.Auto}
    with pytest.raises(
        InputError, match=r"mesh.data=2, mesh.fsdp=1, mesh.context=1, mesh.tensor=1 does not fit 1 cpu device"
    ):
        sharding.make_mesh(MeshConfig(2, 1, 1))
    with pytest.raises(
        InputError, match=r"mesh.data=-1, mesh.fsdp=2, mesh.context=1, mesh.tensor=1 does not fit 1 cpu device"
    ):
        sharding.make_mesh(MeshConfig(-1, 2, 1))


def test_batches_are_split_over_both_data_axes():
    for name in ("masked_positions", "masked_targets", "label_sets"):
        assert sharding.batch_sharding(mesh(2, 2, 2), name, 2).spec == P(("data", "fsdp"))
    for name in ("tokens", "valid", "documents", "targets"):
        assert sharding.batch_sharding(mesh(2, 2, 2), name, 2).spec == P(("data", "fsdp"), "context")
    choices = sharding.batch_sharding(mesh(2, 2, 2), "tokens", 3)  # [B, C, T]
    assert choices.spec == P(("data", "fsdp"), None, "context")
    sharding.check_batch_size(mesh(2, 2, 2), "training.batch_size", 8)
    with pytest.raises(InputError, match=r"training.batch_size=6 is not divisible by the 4 shards"):
        sharding.check_batch_size(mesh(2, 2, 2), "training.batch_size", 6)


def test_every_array_along_the_sequence_is_split_with_it(tiny_store, smoke_config):
    from tx_jax.config import from_config_dict
    from tx_jax.tasks.masked_lm import MaskedLM

    config = from_config_dict(smoke_config)
    batch = MaskedLM(config, tiny_store).batches("train", batch_size=4, repeat=True).batch_at(0)
    along = {name for name, x in batch.items() if x.ndim > 1 and x.shape[1] == config.data.sequence_length}
    assert along
    assert along <= {name for name, key in KEYS.items() if "length" in key.axes}


def test_what_the_mesh_does_not_divide_is_refused(smoke_config):
    from tx_jax.config import from_config_dict

    smoke_config.phases.update(steps=(18, 2), sequence_length=(32, 48), max_predictions=(5, 10))
    config = from_config_dict(smoke_config)
    sharding.check_divisible(mesh(tensor=2, context=16), config)
    with pytest.raises(InputError, match=r"^model.num_heads=2 is not divisible by mesh.tensor=4$"):
        sharding.check_divisible(mesh(tensor=4), config)
    with pytest.raises(InputError, match=r"^data.sequence_length=32 is not divisible by mesh.context=3$"):
        sharding.check_divisible(mesh(context=3), config)
    with pytest.raises(InputError, match=r"^phases.sequence_length=48 is not divisible by mesh.context=32$"):
        sharding.check_divisible(mesh(context=32), config)


def test_rows_flattened_on_a_mesh_stay_on_their_device():
    x = jnp.arange(4 * 6 * 5).reshape(4, 6, 5)
    with jax.sharding.use_abstract_mesh(mesh(data=2, context=3)):
        rows = sharding.flatten_rows(x)
        assert (sharding.unflatten_rows(rows, (4, 6)) == x).all()
        # Two devices have the first examples, each of three 2 positions.
        parts = [x[i : i + 2, j : j + 2].reshape(-1, 5) for i in (0, 2) for j in (0, 2, 4)]
        assert (rows == jnp.concatenate(parts)).all()
        odd = x[:3]  # rows that the mesh does not divide are flattened in their own order
        assert (sharding.flatten_rows(odd) == odd.reshape(18, 5)).all()
    assert (sharding.flatten_rows(x) == x.reshape(24, 5)).all()


def test_without_a_mesh_of_ours_nothing_is_placed():
    x = jnp.ones((2, 4, 2, 8))
    others = AbstractMesh((2,), ("x",), axis_types=(AxisType.Auto,))
    for context in (contextlib.nullcontext(), jax.sharding.use_abstract_mesh(others)):
        with context:
            assert sharding.constrain(x, "batch", "length", None, None) is x
            assert sharding.gather_length(x) is x
            assert sharding.gather_param(x, ("no", "such", "rule")) is x


def test_meshes_of_eight_devices():
    """In a process of its own, as the number of virtual devices is fixed when JAX starts."""
    script = """
    import jax
    from tx_jax import sharding
    from tx_jax.config import LoraConfig, MeshConfig
    from tx_jax.errors import InputError

    for config, shape in (
        (MeshConfig(-1, 1, 1), (8, 1, 1, 1)),
        (MeshConfig(-1, 2, 2), (2, 2, 1, 2)),
        (MeshConfig(2, 1, -1), (2, 1, 1, 4)),
        (MeshConfig(1, 8, -1), (1, 8, 1, 1)),
        (MeshConfig(1, 1, 2, context=-1), (1, 1, 4, 2)),
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
    flags = {"XLA_FLAGS": xla_flags(devices=8), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, env=os.environ | flags)

"""Adapters: what they add, where they begin, and which targets are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tx_jax import tree
from tx_jax.config import LoraConfig
from tx_jax.errors import InputError
from tx_jax.models import forward, lora, registry

CONFIG = LoraConfig(rank=4, alpha=8.0)
KERNELS = {f"encoder/layer_{i}/attention/{name}/kernel" for i in (0, 1) for name in ("query", "value")}


def adapted():
    """A model away from its initial values, and adapters too."""
    fresh = forward.init_params(small.CONFIG, CONFIG, jax.random.key(0))
    rng = np.random.default_rng(2)
    adapters = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), fresh["lora"])
    return small.params(small.CONFIG) | {"lora": adapters}


def test_it_begins_as_the_model_without_adapters_bit_for_bit():
    plain = registry.init_params(small.CONFIG, jax.random.key(0))
    params = forward.init_params(small.CONFIG, CONFIG, jax.random.key(0))
    assert {path.rpartition("/")[0] for path in tree.flatten(params["lora"])} == KERNELS
    jax.tree.map(np.testing.assert_array_equal, lora.merged(params, CONFIG), plain)
    jax.tree.map(np.testing.assert_array_equal, {**params, "lora": {}}, {**plain, "lora": {}})
    assert forward.init_params(small.CONFIG, LoraConfig(), jax.random.key(0)).keys() == plain.keys()
    assert lora.merged(plain, CONFIG) is plain


def test_a_is_gaussian_and_does_not_depend_on_the_other_targets():
    wide = small.config(dim=256, num_heads=4, num_layers=1)
    both, one = (
        jax.jit(forward.init_params, static_argnums=(0, 1))(wide, LoraConfig(32, targets=targets), jax.random.key(0))
        for targets in (("(query|value)/kernel",), ("value/kernel",))
    )
    both, one = (tree.flatten(params["lora"]["encoder"]["layer_0"]["attention"]) for params in (both, one))
    a = np.asarray(both["value/kernel/a"])
    np.testing.assert_array_equal(a, one["value/kernel/a"])
    assert not np.array_equal(a, both["query/kernel/a"])
    # 8192 draws: the deviation is known to 0.8%, the mean to 1.1% of it, and of the fourth moment, 3 for a Gaussian
    # and 1.8 for a uniform distribution, to 0.11; each bound is five times that.
    scaled = a * 256**0.5
    assert abs(scaled.std() - 1) < 0.04
    assert abs(scaled.mean()) < 0.055
    assert abs((scaled**4).mean() - 3) < 0.55


def test_an_adapted_layer_adds_the_scaled_product():
    """x W + bias + (alpha / rank) x a b, in float64, from the input of the first layer."""
    params, inputs = adapted(), small.batch()
    tokens = inputs.pop("tokens_BT")
    _, state = registry.build(small.CONFIG).apply(
        {"params": lora.merged(params, CONFIG)},
        tokens,
        deterministic=True,
        capture_intermediates=lambda module, _: module.name == "query",
        mutable=["intermediates"],
        **inputs,
    )
    found = state["intermediates"]["encoder"]
    x = np.float64(found["hidden"][0])
    dense = params["encoder"]["layer_0"]["attention"]["query"]
    a, b = (np.float64(params["lora"]["encoder"]["layer_0"]["attention"]["query"]["kernel"][part]) for part in "ab")
    expected = x @ np.float64(dense["kernel"]) + np.float64(dense["bias"]) + 8 / 4 * (x @ a @ b)
    got = found["layer_0"]["attention"]["query"]["__call__"][0]
    # Sums of 32 products of size 1 in float32.
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert np.abs(expected - (x @ np.float64(dense["kernel"]) + np.float64(dense["bias"]))).max() > 0.1


def dropped(config, *, remat="none", dropout_rng, **kwargs):
    """A model of one layer on a batch of 4 x 24 tokens, without any other dropout."""
    model = small.config(num_layers=1, dropout=0.0, attention_dropout=0.0, remat=remat)
    identity = {"kernel": {"a": jnp.eye(model.dim), "b": jnp.eye(model.dim)}}
    adapters = {"encoder": {"layer_0": {"attention": {"query": identity, "value": identity}}}}
    inputs = small.batch(rows=4, length=24)
    tokens, params = inputs.pop("tokens_BT"), small.params(model) | {"lora": adapters}
    return forward.forward(model, config, params, tokens, **inputs, dropout_rng=dropout_rng, **kwargs)


def test_an_adapter_sees_its_input_after_dropout_and_the_kernel_all_of_it():
    """Adapters whose product is the identity show their input."""
    found = {}
    for rate in (0.0, 0.25):
        config = LoraConfig(rank=32, alpha=64.0, dropout=rate)
        _, state = dropped(
            config,
            dropout_rng=jax.random.key(0),
            capture_intermediates=lambda module, _: module.name in ("query", "key", "value"),
            mutable=["intermediates"],
        )
        layer = state["intermediates"]["encoder"]["layer_0"]["attention"]
        found[rate] = {name: np.asarray(layer[name]["__call__"][0]) for name in ("query", "key", "value")}
        x = np.asarray(state["intermediates"]["encoder"]["hidden"][0])
    np.testing.assert_array_equal(found[0.25]["key"], found[0.0]["key"])  # it has no adapter
    shares = {}
    for name in ("query", "value"):
        # x W + bias + 2 x, and x W + bias + 2 dropout(x). Rounding: sums of 32 products of size 1 in float32.
        shares[name] = (found[0.25][name] - found[0.0][name]) / (2 * x) + 1
        kept = np.abs(shares[name]) > 0.5
        near = np.abs(x) > 0.01
        np.testing.assert_allclose(shares[name][near], np.where(kept, 1 / 0.75, 0)[near], atol=1e-3)
        # 3072 draws: the share is known to 0.0078; five times that fails once in two million.
        assert abs(kept[near].mean() - 0.75) < 0.04
        for axis in (0, 1, 2):  # tokens and features draw each for itself
            assert (kept.std(axis=axis) > 0).mean() > 0.5
    assert (np.abs(shares["query"] - shares["value"]) > 0.5).mean() > 0.2


def test_dropout_is_of_training_alone_and_the_same_when_computed_twice():
    with_dropout, without = (LoraConfig(rank=32, alpha=0.1, dropout=rate) for rate in (0.5, 0.0))
    runs = {
        "evaluation": dropped(with_dropout, dropout_rng=None),
        "none": dropped(without, dropout_rng=None),
        "training": dropped(with_dropout, dropout_rng=jax.random.key(0)),
        "again": dropped(with_dropout, dropout_rng=jax.random.key(0), remat="block"),
        "another key": dropped(with_dropout, dropout_rng=jax.random.key(1)),
    }
    hidden = {name: np.asarray(output.hidden) for name, output in runs.items()}
    np.testing.assert_array_equal(hidden["evaluation"], hidden["none"])
    np.testing.assert_allclose(hidden["again"], hidden["training"], atol=1e-5)
    for name in ("none", "another key"):
        assert np.abs(hidden[name] - hidden["training"]).max() > 1e-3


@pytest.mark.long
def test_every_adapter_moves_the_model():
    params, inputs = adapted(), small.batch()

    def total(adapters):
        plain = lora.merged(params | {"lora": adapters}, CONFIG)
        return jnp.square(small.apply(small.CONFIG, plain, inputs).logits["masked_lm"]).sum()

    for path, grad in tree.flatten(jax.grad(total)(params["lora"])).items():
        assert np.abs(grad).max() > 1e-3, path


def test_what_trains_whole_has_no_adapter():
    config = LoraConfig(rank=2, targets=("kernel$",), also_train=("^masked_lm/",))
    paths = lora.target_shapes(registry.param_shapes(small.CONFIG), config)
    assert {path.split("/")[0] for path in paths} == {"encoder", "next_sentence"}
    assert len(paths) == 2 * 6 + 1


WRONG = {
    "a typo": (
        {"targets": ("attention/qury/kernel",)},
        "'attention/qury/kernel' matches no kernel. Did you mean 'query'",
    ),
    "an embedding": (
        {"targets": ("^embeddings/token",)},
        "'^embeddings/token' matches embeddings/token/embedding, but no kernel to adapt",
    ),
    "trained whole": (
        {"targets": ("^pooler",)},
        "'^pooler' matches pooler/bias, pooler/kernel, but no kernel to adapt",
    ),
    "one of two": ({"targets": ("query/kernel", "xyz")}, "'xyz' matches no kernel. They lie in encoder, masked_lm"),
    "a large rank": (
        {"rank": 33},
        "lora.rank=33 exceeds the rank of encoder/layer_0/attention/query/kernel, whose sha",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_adapted_is_refused(name):
    changes, said = WRONG[name]
    with pytest.raises(InputError) as error:
        forward.param_shapes(small.CONFIG, LoraConfig(**{"rank": 4} | changes))
    assert said in str(error.value)


def test_a_convolution_is_no_dense_layer():
    deberta = small.config(
        relative_attention=("c2p",), relative_distance=8, conv_kernel=3, heads=("masked_lm",), num_segments=0
    )
    with pytest.raises(InputError, match="matches encoder/convolution/bias, encoder/convolution/kernel, "):
        forward.param_shapes(deberta, LoraConfig(rank=4, targets=("convolution",)))

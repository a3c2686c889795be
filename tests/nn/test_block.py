import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn import reference
from tx_jax import tree
from tx_jax.models import registry
from tx_jax.nn.block import Block, Context
from tx_jax.nn.dropout import dropout_key
from tx_jax.nn.masks import Mask
from tx_jax.nn.stack import Stack


def inputs(cfg):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 7, cfg.dim)), jnp.float32)
    valid = jnp.asarray(np.arange(7)[None] < np.array([7, 4, 1])[:, None])
    return x, valid


def noisy(params):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + jnp.asarray(rng.normal(scale=0.2, size=p.shape), jnp.float32), params)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_block_against_numpy(norm_position, activation):
    cfg = small.config(norm_position=norm_position, activation=activation, layer_norm_eps=1e-2)
    x, valid = inputs(cfg)
    module = Block(cfg, deterministic=True)
    params = noisy(module.init(jax.random.key(0), x, Context(Mask(valid)))["params"])
    expected = reference.block(jax.tree.map(np.float64, params), np.float64(x), cfg, np.asarray(valid)[:, None])
    actual = module.apply({"params": params}, x, Context(Mask(valid)))
    np.testing.assert_allclose(actual, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_stack_is_its_blocks_in_order(norm_position):
    cfg = small.config(norm_position=norm_position, num_layers=3, embedding_norm=False)
    x, valid = inputs(cfg)
    module = Stack(cfg, cfg.num_layers)
    call = {
        "context": Context(Mask(valid)),
        "positions_BT": jnp.broadcast_to(jnp.arange(7)[None], (3, 7)),
        "valid_BT": valid,
        "deterministic": True,
    }
    params = noisy(module.init(jax.random.key(0), x, **call)["params"])
    (y, _), sown = module.apply({"params": params}, x, **call, mutable=["intermediates"])
    p = jax.tree.map(np.float64, params)
    expected = np.float64(x)
    np.testing.assert_array_equal(sown["intermediates"]["hidden"][0], x)
    for i, hidden in enumerate(sown["intermediates"]["hidden"][1:]):
        expected = reference.block(p[f"layer_{i}"], expected, cfg, np.asarray(valid)[:, None])
        np.testing.assert_allclose(hidden, expected, atol=5e-6 * np.abs(expected).max(), rtol=0)
    assert i == 2
    assert ("final_norm" in params) == (norm_position == "pre")
    if norm_position == "pre":
        expected = reference.layer_norm(p["final_norm"], expected, cfg.layer_norm_eps)
    np.testing.assert_allclose(y, expected, atol=5e-6 * np.abs(expected).max(), rtol=0)


def test_the_two_residual_dropouts_of_a_block_differ():
    """Attention and MLP contribute a constant each; where both are dropped alike, the sum has only two values."""
    cfg = small.config(norm_position="pre", dropout=0.5, attention_dropout=0.0, activation="relu")
    x, _ = inputs(cfg)
    module = Block(cfg, deterministic=False)
    params = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, Context())["params"]
    params = jax.tree.map(jnp.zeros_like, params)
    params["attention"]["out"]["bias"] += 1.0
    params["mlp"]["wo"]["bias"] += 10.0
    y = module.apply({"params": params}, jnp.zeros_like(x), Context(), rngs={"dropout": jax.random.key(2)})
    assert set(np.unique(y)) == {0.0, 2.0, 20.0, 22.0}


@pytest.mark.parametrize("remat", ["none", "block"])
def test_each_run_of_the_last_layer_has_its_own_dropout(remat):
    """The enhanced mask decoder's runs: where a layer adds but a constant, what each of them adds is its mask."""
    cfg = small.config(norm_position="pre", dropout=0.5, attention_dropout=0.0, num_layers=1, remat=remat)
    x, valid = inputs(cfg)
    zeros = jnp.zeros_like(x)
    call = {"context": Context(), "positions_BT": jnp.zeros_like(valid, int), "valid_BT": valid, "queries_BTD": zeros}

    def run(times):
        stack = Stack(cfg, 1, queries_again=times)
        params = stack.init(jax.random.key(0), zeros, **call, deterministic=True)["params"]
        params = jax.tree.map(jnp.zeros_like, params)
        params["layer_0"]["attention"]["out"]["bias"] += 1.0
        keys = {"dropout": jax.random.key(2)}
        (_, decoded), sown = stack.apply(
            {"params": params}, zeros, **call, deterministic=False, rngs=keys, mutable=["intermediates"]
        )
        return sown["intermediates"]["hidden"][1], decoded

    (first, second), (_, both) = run(1), run(2)
    third = both - second
    for a, b in ((first, second), (first, third), (second, third)):
        assert set(np.unique(a)) | set(np.unique(b)) == {0.0, 2.0}
        # 672 draws: the standard error of the rate is 0.02.
        assert abs(float((a == b).mean()) - 0.5) < 0.1


@pytest.mark.long
def test_rematerialisation_of_a_layer_that_runs_again():
    """Values and gradients with dropout: what is computed a second time draws what it drew the first."""
    results = []
    for remat in ("none", "block", "dots"):
        cfg = small.config(num_layers=1, remat=remat, activation="relu")
        x, valid = inputs(cfg)
        call = {"context": Context(), "positions_BT": jnp.zeros_like(valid, int), "valid_BT": valid}
        stack = Stack(cfg, 1)

        def loss(params, queries, stack=stack, x=x, call=call):
            keys = {"dropout": dropout_key(3)}
            y, decoded = stack.apply({"params": params}, x, **call, queries_BTD=queries, deterministic=False, rngs=keys)
            return (y * jnp.cos(x) + decoded * jnp.sin(x)).sum()

        shapes = jax.eval_shape(
            lambda x, stack=stack, call=call: stack.init(jax.random.key(0), x, **call, deterministic=True), x
        )
        params = noisy(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes["params"]))
        results.append(jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x[::-1]))
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(results[0]))
    for other in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 * scale, rtol=0), results[0], other)


def test_a_normalised_input_is_not_normalised_again():
    """Pre-LN behind normalized embeddings: the first layer has no attention norm (as ModernBERT), the others do.

    A projection from smaller tables comes between, and then the first layer needs its own.
    """
    for changes, expected in (({}, False), ({"embedding_norm": False}, True), ({"embedding_dim": 16}, True)):
        cfg = small.config(norm_position="pre", **changes)
        encoder = registry.param_shapes(cfg)["encoder"]
        assert ("attention_norm" in encoder["layer_0"]) == expected
        assert "attention_norm" in encoder["layer_1"]
        assert "mlp_norm" in encoder["layer_0"]
        assert ("norm" in registry.param_shapes(cfg)["embeddings"]) == cfg.embedding_norm
    assert "attention_norm" in registry.param_shapes(small.config(norm_position="post"))["encoder"]["layer_0"]


def test_without_an_attention_norm_attention_reads_the_input():
    cfg = small.config(norm_position="pre")
    x, valid = inputs(cfg)
    module = Block(cfg, deterministic=True, normalised_input=True)
    params = noisy(module.init(jax.random.key(0), x, Context(Mask(valid)))["params"])
    p, y = jax.tree.map(np.float64, params), np.float64(x)
    y = y + reference.attention(p["attention"], y, y, cfg.num_heads, np.asarray(valid)[:, None])
    y = y + reference.mlp(p["mlp"], reference.layer_norm(p["mlp_norm"], y, cfg.layer_norm_eps), cfg.activation)
    actual = module.apply({"params": params}, x, Context(Mask(valid)))
    np.testing.assert_allclose(actual, y, atol=5e-6 * np.abs(y).max(), rtol=0)


def test_queries_of_their_own():
    """They attend to the input, and it is they that go on: the residual, the second layer of the block."""
    cfg = small.config(layer_norm_eps=1e-5)
    x, valid = inputs(cfg)
    queries = x[:, ::-1] + 1
    module = Block(cfg, deterministic=True)
    params = noisy(module.init(jax.random.key(0), x, Context(Mask(valid)))["params"])
    p, q, y = jax.tree.map(np.float64, params), np.float64(queries), np.float64(x)
    q = q + reference.attention(p["attention"], q, y, cfg.num_heads, np.asarray(valid)[:, None])
    q = reference.layer_norm(p["attention_norm"], q, cfg.layer_norm_eps)
    q = q + reference.mlp(p["mlp"], q, cfg.activation)
    q = reference.layer_norm(p["mlp_norm"], q, cfg.layer_norm_eps)
    actual = module.apply({"params": params}, x, Context(Mask(valid)), queries)
    np.testing.assert_allclose(actual, q, atol=5e-6 * np.abs(q).max(), rtol=0)


def test_gated_block_against_numpy():
    cfg = small.config(gated_mlp=True, use_bias=False, layer_norm_eps=1e-5)
    x, valid = inputs(cfg)
    module = Block(cfg, deterministic=True)
    params = noisy(module.init(jax.random.key(0), x, Context(Mask(valid)))["params"])
    assert not [path for path in tree.flatten(params) if path.endswith("bias")]
    assert params["mlp"]["gate"]["kernel"].shape == (cfg.dim, cfg.mlp_dim)
    expected = reference.block(jax.tree.map(np.float64, params), np.float64(x), cfg, np.asarray(valid)[:, None])
    actual = module.apply({"params": params}, x, Context(Mask(valid)))
    np.testing.assert_allclose(actual, expected, atol=5e-6 * np.abs(expected).max(), rtol=0)

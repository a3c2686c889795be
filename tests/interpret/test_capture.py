"""What is read is what the model computes, and looking changes nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interpret import models
from tests.models import small
from tx_jax.errors import InputError, InputWarning
from tx_jax.interpret import capture, sites, store, texts
from tx_jax.models import registry

# One pass through each model is compiled, for several seconds of them all.
LONG = ("ModernBERT", "DeBERTa", "GPT")
NAMES = [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in models.CONFIGS]


@functools.cache
def looked(name):
    """A model's output as if nobody looked, that with everything read, and all activations."""
    config = models.CONFIGS[name]
    params, inputs = small.params(config), models.batch(config)
    names = tuple(sites.of(config))
    output, values = jax.jit(lambda p: capture.run(config, p, inputs, read=names))(params)
    return config, params, inputs, models.plain(config, params, inputs), output, values


@pytest.mark.parametrize("name", NAMES)
def test_looking_at_everything_changes_no_output(name):
    *_, plain, output, _ = looked(name)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(output), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=str(path))


@pytest.mark.parametrize("name", NAMES)
def test_activations_have_their_shapes_and_belong_together(name):
    config, params, inputs, _, output, values = looked(name)
    known = sites.of(config)
    assert values.keys() == known.keys()
    sizes = {"H": config.num_heads, "K": config.head_dim, "D": config.dim, "E": config.dim, "F": config.mlp_dim}
    for site in known.values():
        lengths = {axis: inputs[key].shape[1] for axis, key in site.lengths}
        assert values[site.name].shape == (2, *((lengths | sizes)[axis] for axis in site.axes)), site.name
    for stack, count in sites.stacks(config).items():
        for i in range(count):
            for kind in ("attention", "cross_attention"):
                if f"{stack}/layer_{i}/{kind}/heads" in known:
                    queries = inputs.get(
                        "target_valid" if known[f"{stack}/output"].lengths[0][1] != "tokens" else "valid"
                    )
                    check_attention(config, params, values, f"{stack}/layer_{i}/{kind}", queries)
            layer = params[stack][f"layer_{i}"]
            mlp = f"{stack}/layer_{i}/mlp"
            wo = layer["mlp"]["wo"]
            close(values[f"{mlp}/activations"] @ wo["kernel"], values[f"{mlp}/output"], wo)
    stack = "decoder" if config.architecture != "encoder" else "encoder"
    np.testing.assert_array_equal(values[f"{stack}/output"], output.hidden)


def check_attention(config, params, values, path, queries):
    """Rows of probabilities sum to one; heads are their mean of values; the projection of heads is the output."""
    p = values[f"{path}/probabilities"]
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(
        jnp.einsum("BHTS,BSHK->BTHK", p, values[f"{path}/value"]), values[f"{path}/heads"], atol=1e-5
    )
    out = functools.reduce(dict.__getitem__, [*path.split("/"), "out"], params)
    heads = values[f"{path}/heads"]
    close(heads.reshape(*heads.shape[:2], -1) @ out["kernel"], values[f"{path}/output"], out)
    if not config.relative_attention:  # the scores are those of queries and keys alone
        q, k = values[f"{path}/query"], values[f"{path}/key"]
        scores = jnp.einsum("BTHK,BSHK->BHTS", q, k) * config.head_dim**-0.5
        seen = p > 0
        expected = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        real = np.broadcast_to(queries[:, None], p.shape[:3])  # padding may see nothing within its window
        np.testing.assert_allclose(expected[real], p[real], atol=1e-5)


def close(product, expected, layer):
    product = product + layer["bias"][None, None] if "bias" in layer else product
    np.testing.assert_allclose(product, expected, atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param("DeBERTa", marks=pytest.mark.long), "Transformer"])
def test_hidden_states_are_those_that_the_stack_sows(name):
    config, params, inputs, *_, values = looked(name)
    suffix = "BS" if name == "Transformer" else "BT"
    arguments = {f"{key}_{suffix if 'target' not in key else 'BT'}": x for key, x in inputs.items()}
    apply = functools.partial(registry.build(config).apply, deterministic=True, mutable=["intermediates"])
    _, sown = jax.jit(lambda p: apply({"params": p}, **arguments))(params)
    for stack, count in sites.stacks(config).items():
        names = sites.hidden(config, stack)
        assert len(names) == count + 1
        for name_of, expected in zip(names, sown["intermediates"][stack]["hidden"], strict=True):
            np.testing.assert_allclose(values[name_of], expected, atol=1e-5)


def test_only_what_is_asked_for_is_computed():
    """Without probabilities none are made, and a hidden state of the first layer needs no other layer."""
    config = dataclasses.replace(models.BERT, num_layers=3)
    params, inputs = small.params(config), models.batch(config)

    def products(names):
        made = jax.jit(lambda p: capture.run(config, p, inputs, read=names)[1]).lower(params).compile().as_text()
        return made.count(" dot(") + made.count("custom-call")

    assert products(("encoder/layer_0/output",)) < products(("encoder/layer_2/output",)) / 2
    one = products(("encoder/layer_0/attention/query",))
    assert one <= 1


@pytest.mark.parametrize("name", ["BERT", pytest.param("GPT", marks=pytest.mark.long)])
def test_writing_back_what_was_there_changes_nothing(name):
    config, params, inputs, plain, _, values = looked(name)
    same = {site: (lambda x: x) for site in sites.of(config) if sites.of(config)[site].writable}
    output, _ = jax.jit(lambda p: capture.run(config, p, inputs, write=same))(params)
    np.testing.assert_array_equal(output.hidden, plain.hidden)
    stack = sites.only_stack(config)
    zero = {f"{stack}/layer_1/attention/heads": lambda x: x.at[:, :, 1].set(0)}
    read = (f"{stack}/layer_1/attention/heads", f"{stack}/layer_0/output")
    output, found = jax.jit(lambda p: capture.run(config, p, inputs, read=read, write=zero))(params)
    assert not found[read[0]][:, :, 1].any()  # what is read is what was written
    np.testing.assert_array_equal(found[read[1]], values[read[1]])
    assert np.abs(output.hidden - plain.hidden).max() > 1e-3


@pytest.mark.long
def test_what_is_written_is_written_once():
    """Also where a convolution beside the first layer makes its output."""
    config, params, inputs, _, _, values = looked("DeBERTa")
    names = ("encoder/layer_0/output",)
    write = {names[0]: lambda x: x.at[..., 0].add(1)}
    _, found = jax.jit(lambda p: capture.run(config, p, inputs, read=names, write=write))(params)
    np.testing.assert_allclose(found[names[0]], values[names[0]].at[..., 0].add(1), atol=1e-6)


def test_what_cannot_be_written_or_is_not_there():
    config = models.BERT
    params, inputs = small.params(config), models.batch(config)
    with pytest.raises(InputError, match=r"probabilities can only be read: write encoder/layer_0/attention/heads"):
        capture.run(config, params, inputs, write={"encoder/layer_0/attention/probabilities": lambda x: x})
    with pytest.raises(InputError, match=r"no activation 'encoder/layer_7/output'"):
        capture.run(config, params, inputs, read=["encoder/layer_7/output"])
    with pytest.raises(InputError, match=r"'layer_7' matches no activation: .*encoder/layer_0 to layer_1.*mlp/output"):
        sites.matching(config, ["layer_7"])
    assert sites.matching(config, [r"layer_1/output$", "^embeddings"]) == ("embeddings/token", "encoder/layer_1/output")
    with pytest.raises(InputError, match=r"no layer 2: the encoder has layers 0 to 1"):
        sites.require_layers(config, "encoder", [0, 2])
    with pytest.raises(InputError, match=r"no head 2: each layer has heads 0 to 1"):
        sites.require_heads(config, [2])


def test_streaming_gives_each_text_its_own_activations_without_padding():
    model = models.model("BERT")
    rows = texts.rows_of_texts(model, ["the cat sits", "the old dog stands by the river in the sun", "a bank"])
    names = ("encoder/layer_1/attention/probabilities", "encoder/output")
    done = []
    found = capture.collect(model, rows, names, batch_size=1, progress=lambda n, total: done.append((n, total)))
    assert done[-1] == (3, 3)
    for row, values in zip(rows, found, strict=True):
        n = len(row.ids)
        assert values[names[0]].shape == (2, n, n)
        assert values[names[1]].shape == (n, 16)
        np.testing.assert_allclose(values[names[0]].sum(-1), 1, atol=1e-5)
    (alone,) = capture.collect(model, rows[1:2], names)
    np.testing.assert_allclose(alone[names[1]], found[1][names[1]], atol=1e-5)


def test_cross_attention_is_of_target_and_source():
    model = models.model("Transformer")
    rows = texts.rows_of_texts(model, ["the cat sits on the bank"], ["a dog"])
    (values,) = capture.collect(model, rows, ["decoder/layer_0/cross_attention/probabilities"])
    (p,) = values.values()
    assert p.shape == (2, len(rows[0].target_ids), len(rows[0].ids))
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)


def test_a_fused_attention_is_said_to_be_replaced():
    model = models.model("BERT", attention="cudnn", num_layers=1)
    rows = texts.rows_of_texts(model, ["the cat"])
    with pytest.warns(InputWarning, match="XLA's attention is used"):
        list(capture.stream(model, rows, ["encoder/layer_0/attention/probabilities"]))


def test_long_lists_stream_to_disk_and_are_what_memory_would_hold(tmp_path):
    model = models.model("BERT")
    rows = texts.rows_of_texts(model, ["the cat sits", "the old dog stands by the river in the sun", "a bank"])
    names = ("encoder/layer_1/attention/probabilities", "encoder/output")
    store.write(model, rows, names, tmp_path / "activations", batch_size=1)
    written = store.Captured(tmp_path / "activations")
    assert written.names == names
    assert [len(tokens) for tokens in written.tokens] == [len(row.ids) for row in rows]
    for index, values in enumerate(capture.collect(model, rows, names, batch_size=1)):
        for name in names:
            np.testing.assert_array_equal(written.get(name, index), values[name])
    with pytest.raises(InputError, match="exists and is not empty"):
        store.write(model, rows, names, tmp_path / "activations")
    with pytest.raises(InputError, match=r"mlp was not captured; there are encoder/layer_1"):
        written.get("mlp", 0)
    with pytest.raises(InputError, match=r"holds no activations: it has no capture\.json"):
        store.Captured(tmp_path)

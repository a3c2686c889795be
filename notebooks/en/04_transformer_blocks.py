# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.format_version,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. The blocks of the Transformer
#
# **What you will learn**
#
# - the parts of a block: attention, feed-forward network, residual connections and normalization;
# - to write a whole encoder in thirty lines, and check that it gives the same as the library;
# - why it matters where the normalization stands (*post-LN* or *pre-LN*);
# - what the decoder adds: a causal mask and cross-attention;
# - to count the parameters of BERT, GPT-2 and the original Transformer.
#
# Time: about 50 minutes of reading; the code takes less than a minute. Reference: Vaswani et al. 2017, *Attention Is All You Need*, sections 3.1 to 3.4. Read notebook 3 first.

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.interpret import capture
from tx_jax.models import registry

config = TransformerConfig(
    architecture="encoder", vocab_size=100, dim=64, num_layers=2, num_heads=4, mlp_dim=256, max_length=32,
    num_segments=0, activation="relu", norm_position="post", layer_norm_eps=1e-6, dropout=0.1,
    attention_dropout=0.0, init_stddev=0.1, heads=("masked_lm",), dtype="float32", remat="none",
    position_embedding="sinusoidal", embedding_norm=False, embedding_scale=True,
)  # fmt: skip
params = registry.init_params(config, jax.random.key(0))
for path, value in tree.flatten(params["encoder"]["layer_0"]).items():
    print(f"encoder/layer_0/{path:28} {value.shape}")


# %% [markdown]
# This is *all* that a layer learns: four matrices of attention, two of the feed-forward network, and two normalizations, with their biases. Let us go part by part.
#
# ## The feed-forward network
#
# After information has been mixed between words, each word is processed on its own, by the same network of two layers (section 3.3):
#
# $$\operatorname{FFN}(x) = \max(0,\ xW_1 + b_1)\,W_2 + b_2$$
#
# The inner width is usually $4D$, and two thirds of a layer's parameters are there.
#
# ## Residual connection and normalization
#
# Neither of the two parts replaces $x$: it *adds* something to it. So there always is a direct way from the input to the output, the **residual stream**, along which the gradient returns unweakened. After each sum, `LayerNorm` gives each vector mean 0 and variance 1, and rescales it with two learned vectors:
#
# $$\operatorname{LayerNorm}(x) = \gamma \odot \frac{x - \mu(x)}{\sqrt{\sigma^2(x) + \epsilon}} + \beta, \qquad y = \operatorname{LayerNorm}\big(x + f(x)\big)$$

# %%
def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def layer_norm(p, x):
    centered = x - x.mean(axis=-1, keepdims=True)
    return (
        p["scale"] * centered / jnp.sqrt(jnp.square(centered).mean(-1, keepdims=True) + config.layer_norm_eps)
        + p["bias"]
    )


def feed_forward(p, x):
    return dense(p["wo"], jax.nn.relu(dense(p["wi"], x)))


def attention(p, x, context, mask=None):
    def heads(y):
        return y.reshape(len(y), config.num_heads, -1).swapaxes(0, 1)  # [T, D] -> [H, T, K]

    q, k, v = heads(dense(p["query"], x)), heads(dense(p["key"], context)), heads(dense(p["value"], context))
    scores = q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -1e30)
    return dense(p["out"], (jax.nn.softmax(scores) @ v).swapaxes(0, 1).reshape(x.shape))


# %% [markdown]
# And a block of the encoder is two lines:

# %%
def encoder_block(p, x, mask=None):
    x = layer_norm(p["attention_norm"], x + attention(p["attention"], x, x, mask))
    return layer_norm(p["mlp_norm"], x + feed_forward(p["mlp"], x))


def sinusoids(length, dim):
    angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim)


def embed(params, tokens):
    return params["embeddings"]["token"]["embedding"][tokens] * config.dim**0.5 + sinusoids(len(tokens), config.dim)


def encode(params, tokens):
    x = embed(params, tokens)
    for i in range(config.num_layers):
        x = encoder_block(params["encoder"][f"layer_{i}"], x)
    return x


# %%
tokens = jnp.array([5, 17, 42, 8, 99, 3])
ours = encode(params, tokens)
output = registry.build(config).apply(
    {"params": params}, tokens[None], valid_BT=jnp.ones((1, 6), bool), deterministic=True
)
difference = float(jnp.abs(ours - output.hidden[0]).max())
print(f"largest difference from the library: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# A whole Transformer (embeddings, positions, blocks) fits on a screen. The rest of a library is there to make it fast, to spread it over devices, and to keep its precision.
#
# ## The residual stream
#
# How much does each part add? The library lets one read any point inside by its name. Let us compare the size of what enters with that of what attention and network add.

# %%
inputs = {"tokens": tokens[None], "valid": jnp.ones((1, 6), bool)}
names = [name for name in capture.sites.of(config) if name.endswith(("/input", "/output"))]
_, found = capture.run(config, params, inputs, read=names)
for name in names:
    print(f"{name:36} length of a vector: {float(jnp.linalg.norm(found[name][0], axis=-1).mean()):.2f}")
rebuilt = found["encoder/input"] + found["encoder/layer_0/attention/output"]
rebuilt = layer_norm(params["encoder"]["layer_0"]["attention_norm"], rebuilt[0])
rebuilt = layer_norm(params["encoder"]["layer_0"]["mlp_norm"], rebuilt + found["encoder/layer_0/mlp/output"][0])
assert jnp.allclose(rebuilt, found["encoder/layer_0/output"][0], atol=1e-5)


# %% [markdown]
# The outputs of layers always measure 8, which is $\sqrt{64}$: that is what `LayerNorm` does.
#
# ## Before or after: *post-LN* and *pre-LN*
#
# The paper normalizes *after* adding; GPT-2 and nearly all later models, *before* each part:
#
# $$\text{post: } \operatorname{LN}(x + f(x)) \qquad\qquad \text{pre: } x + f(\operatorname{LN}(x))$$
#
# With *pre-LN* the residual stream passes no normalization on all its way (there is one at the end alone), and one can stack without fear. Let us measure the gradient that reaches each layer in new models of 2, 4 and 8 layers, with random tokens and targets.

# %%
def gradient_norms(norm_position, layers):
    deep = dataclasses.replace(config, num_layers=layers, norm_position=norm_position, init_stddev=0.125)
    start = registry.init_params(deep, jax.random.key(1))
    many, targets = jax.random.randint(jax.random.key(2), (2, 16, 32), 0, 100)

    def loss(params):
        output = registry.build(deep).apply(
            {"params": params}, many, valid_BT=jnp.ones_like(many, bool), deterministic=True
        )
        log_probs = jax.nn.log_softmax(output.logits["masked_lm"])
        return -jnp.take_along_axis(log_probs, targets[..., None], axis=-1).mean()

    gradient = jax.jit(jax.grad(loss))(start)["encoder"]
    return [float(jnp.linalg.norm(gradient[f"layer_{i}"]["mlp"]["wo"]["kernel"])) for i in range(layers)]


# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
last = {}
for ax, kind in zip(axes, ("post", "pre")):
    for layers in (2, 4, 8):
        norms = gradient_norms(kind, layers)
        last[kind, layers] = norms[-1]
        ax.plot(range(layers), norms, "o-", label=f"{layers} layers")
    ax.set(title=f"{kind}-LN", xlabel="layer", ylabel="gradient of mlp/wo, norm", ylim=(0, None))
    ax.legend()
print({name: round(value, 2) for name, value in last.items()})
assert last["post", 8] > 1.3 * last["post", 2]
assert last["pre", 8] < 1.3 * last["pre", 2]

# %% [markdown]
# In *post-LN*, the deeper the model, the larger is the gradient of the last layers in the beginning: one has to go with a small rate, hence the paper's warmup. In *pre-LN* it does not grow (Xiong et al. 2020 prove it).

# %% [markdown]
# ## The decoder
#
# The decoder writes. Two things differ from the encoder (figure 1 of the paper, on the right):
#
# 1. its self-attention is **causal**: position $i$ sees itself and those before it, nothing else;
# 2. between self-attention and network there is **cross-attention**: the queries are its own, keys and values come from the encoder's output.

# %%
both = dataclasses.replace(config, architecture="encoder_decoder", num_decoder_layers=2, heads=("causal_lm",))
params = registry.init_params(both, jax.random.key(3))
print(sorted(params["decoder"]["layer_0"]))


def decoder_block(p, y, memory):
    causal = jnp.tril(jnp.ones((len(y), len(y)), bool))
    y = layer_norm(p["attention_norm"], y + attention(p["attention"], y, y, causal))
    y = layer_norm(p["cross_attention_norm"], y + attention(p["cross_attention"], y, memory))
    return layer_norm(p["mlp_norm"], y + feed_forward(p["mlp"], y))


def decode(params, target, memory):
    y = embed(params, target)
    for i in range(both.num_decoder_layers):
        y = decoder_block(params["decoder"][f"layer_{i}"], y, memory)
    return y @ params["embeddings"]["token"]["embedding"].T  # tied: the output layer is the table (section 3.4)


# %%
source, target = tokens, jnp.array([0, 7, 7, 21])
logits = decode(params, target, encode(params, source))
theirs = registry.build(both).apply(
    {"params": params}, source[None], valid_BS=jnp.ones((1, 6), bool),
    target_tokens_BT=target[None], target_valid_BT=jnp.ones((1, 4), bool), deterministic=True,
).logits["causal_lm"][0]  # fmt: skip
print(f"largest difference from the library: {float(jnp.abs(logits - theirs).max()):.1e}")
assert jnp.allclose(logits, theirs, atol=1e-4)

# %% [markdown]
# We have just written the Transformer of 2017. Who sees whom? Let us ask the gradients: if the output at $i$ depends on the input at $j$, its derivative is not zero.

# %%
memory, y = encode(params, source), embed(params, target)
block = params["decoder"]["layer_0"]
of_target = jax.jacobian(lambda y: decoder_block(block, y, memory))(y)  # [T, D, T, D]
of_source = jax.jacobian(lambda memory: decoder_block(block, y, memory))(memory)  # [T, D, S, D]
within, across = (np.abs(j).max(axis=(1, 3)) > 0 for j in (of_target, of_source))
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
left.imshow(within, cmap="Blues", vmin=0, vmax=1.4)
left.set(title="target reads target", xlabel="position", ylabel="output position", xticks=range(4), yticks=range(4))
right.imshow(across, cmap="Blues", vmin=0, vmax=1.4)
right.set(title="target reads source", xlabel="source position", xticks=range(6), yticks=range(4))
for ax in (left, right):
    ax.set_xticks(np.arange(-0.5, 6), minor=True)
    ax.set_yticks(np.arange(-0.5, 4), minor=True)
    ax.grid(which="minor", color="white")
left.set_xlim(-0.5, 3.5)
assert (within == np.tril(np.ones((4, 4), bool))).all()
assert across.all()

# %% [markdown]
# Three masks, three families:
#
# | family | self-attention | cross-attention | examples |
# |---|---|---|---|
# | encoder | everyone sees everyone | no | BERT, RoBERTa |
# | decoder | causal | no | GPT |
# | both | everyone / causal | yes | the original, BART, T5 |
#
# ## Counting parameters
#
# With width $D$, network $F$, vocabulary $V$ and $L$ layers, a layer has $4(D^2 + D)$ of attention, $2DF + F + D$ of the network and $4D$ of normalizations. The rest is embeddings. Formula and library have to agree on the published models:

# %%
import sys

sys.path.insert(0, "../..")  # the clone, for its configs
from configs import bert_base, gpt2_small, transformer_base
from tx_jax.config import from_config_dict


def layer(d, f):
    return 4 * (d * d + d) + 2 * d * f + f + d + 4 * d


def cross(d):
    return 4 * (d * d + d) + 2 * d


d, f, v = 768, 3072, 30_522
bert = 12 * layer(d, f) + (v + 512 + 2) * d + 2 * d  # tables and their norm
heads = (d * d + d) + (2 * d + 2) + (d * d + d + 2 * d + v)  # pooler, next sentence, masked LM
gpt = 12 * layer(d, f) + (50_257 + 1024) * d + 2 * d
original = 6 * (2 * layer(512, 2048) + cross(512)) + 37_000 * 512
counted = {"BERT base": bert + heads, "GPT-2 small": gpt, "Transformer base": original}
for (name, count), module in zip(counted.items(), (bert_base, gpt2_small, transformer_base)):
    library = registry.num_params(from_config_dict(module.get_config()).model)
    print(f"{name:18} by hand {count:>12,}  library {library:>12,}")
    assert count == library


# %% [markdown]
# ## Exercises
#
# 1. **No residuals.** Write `encode` without the sums `x +` and measure, by the mean cosine of the vectors of the 6 words, how alike they are after 2 layers, and after repeating the first one 12 times. What is lost?
# 2. **Where are the parameters?** Which share of BERT base is in the embeddings, which in attention, and which in the network?
# 3. **`LayerNorm` and invariance.** Check that multiplying the input of `layer_norm` by 10 and adding 3 does not change the output.
# 4. **The intruder.** Add padding: encode `tokens` followed by any two tokens, with a mask that hides them. Check that the first six outputs do not change.
# 5. **Causality from end to end.** Change the last token of `target` and check which rows of the logits change in the complete model.

# %% [markdown]
# ## Solutions
#
# **1.** Without residuals each layer averages over the words, and as the average is repeated they all become alike: it is lost *who is who* (Dong et al. 2021 call it rank collapse).

# %%
def likeness(x):
    unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return float((unit @ unit.T)[~np.eye(len(x), dtype=bool)].mean())


def block_without(p, x):
    return layer_norm(
        p["mlp_norm"], feed_forward(p["mlp"], layer_norm(p["attention_norm"], attention(p["attention"], x, x)))
    )


x_with = x_without = embed(params, tokens)
first = params["encoder"]["layer_0"]
for depth in range(1, 13):
    x_with, x_without = encoder_block(first, x_with), block_without(first, x_without)
    if depth in (1, 2, 12):
        print(f"depth {depth:2}: with residuals {likeness(x_with):.3f}, without {likeness(x_without):.3f}")
assert likeness(x_without) > likeness(x_with)

# %% [markdown]
# **2.** The network has twice as much as attention, and the embeddings more than a fifth.

# %%
total = bert + heads
shares = {
    "embeddings": (v + 512 + 2) * d / total,
    "attention": 48 * (d * d + d) / total,
    "network": 12 * (2 * d * f + f + d) / total,
}
print({name: f"{share:.0%}" for name, share in shares.items()})
assert abs(shares["network"] / shares["attention"] - 2) < 0.01

# %% [markdown]
# **3.** The mean is subtracted and the scale divided out (but for the $\epsilon$).

# %%
z = jax.random.normal(jax.random.key(5), (4, 64))
assert jnp.allclose(layer_norm(first["mlp_norm"], z), layer_norm(first["mlp_norm"], 10 * z + 3), atol=1e-4)

# %% [markdown]
# **4.** The mask applies to the *keys*: nobody reads the padding, and what it reads itself does not matter.

# %%
padded = jnp.concatenate([tokens, jnp.array([50, 60])])
x = embed(params, padded)
for i in range(2):
    x = encoder_block(params["encoder"][f"layer_{i}"], x, (jnp.arange(8) < 6)[None, None])
assert jnp.allclose(x[:6], encode(params, tokens), atol=1e-5)

# %% [markdown]
# **5.** The last one only.

# %%
changed = decode(params, target.at[-1].set(55), encode(params, source)) - logits
print(np.flatnonzero(np.abs(changed).max(axis=1) > 1e-6))
assert np.flatnonzero(np.abs(changed).max(axis=1) > 1e-6).tolist() == [3]

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
# # 3. Attention, by hand
#
# **What you will learn**
#
# - to compute the attention of three words with numbers that fit on a napkin;
# - why the scores are divided by the square root of $K$, and what happens otherwise;
# - what a mask is, and why attention on its own knows nothing about order;
# - how the work is shared among several heads, and why that costs nothing extra;
# - that the library's layer keeps no secrets: you rebuild it with three matrix products and get the same numbers.
#
# Time: about 45 minutes of reading; the code takes seconds. Reference: Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## A soft look-up in a dictionary
#
# A Python dictionary is consulted with an exact key: it is there, or it is not. Attention is the *soft* version of that operation. Each word asks a **query** ($q$), each word announces itself with a **key** ($k$) and offers a **value** ($v$). The query is compared with all keys; the result is an average of the values, in which those count most whose keys resemble what was asked for.
#
# Let us begin with *el banco cerró* (the bank closed). Each word is a vector of 4 numbers; here we choose them, in a model training learns them. Three matrices turn each vector $x$ into its query, its key and its value: $q = xW_Q$, $k = xW_K$, $v = xW_V$.

# %%
words = ["el", "banco", "cerró"]
x = np.array([[1.0, 0, 0, 1], [0, 2, 1, 0], [0, 1, 2, 0]])  # [T, D]: 3 words, 4 numbers each
w_query = np.array([[0.0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])  # [D, K]
w_key = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]])
w_value = np.array([[0.0, 0, 1], [1, 0, 0], [0, 2, 0], [0, 0, 1]])
q, k, v = x @ w_query, x @ w_key, x @ w_value  # each [T, K]
for name, rows in (("query", q), ("key", k), ("value", v)):
    print(name, *(f"{word}: {row}" for word, row in zip(words, rows)), sep="\n  ")


# %% [markdown]
# How well a query and a key match is their dot product, the **score**. The scores of *cerró* with the three words take three multiplications and a sum each. Do it on paper once: that is all there is.
#
# Then `softmax` turns the scores into positive weights that sum to one:
#
# $$\operatorname{softmax}(s)_j = \frac{e^{s_j}}{\sum_i e^{s_i}}, \qquad \operatorname{Attention}(Q, K, V) = \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt{K}}\right) V$$
#
# This is equation 1 of the paper (which writes $d_k$ for what is $K$ here, the width of queries and keys).

# %%
def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))  # the maximum only avoids overflow
    return e / e.sum(axis=-1, keepdims=True)


scores = q @ k.T / np.sqrt(k.shape[1])
weights = softmax(scores)
output = weights @ v
print("scores", scores, "weights", weights, "output", output, sep="\n")

# %% [markdown]
# For those who do not trust matrices, the same with loops and no functions: the output of *cerró* is $\sum_j w_j v_j$.

# %%
asked = q[2]
raw = [sum(a * b for a, b in zip(asked, key)) / 3**0.5 for key in k]
total = sum(np.e**s for s in raw)
by_loops = [sum(np.e**s / total * value[i] for s, value in zip(raw, v)) for i in range(3)]
assert np.allclose(by_loops, output[2])
assert np.allclose(weights.sum(axis=1), 1)

fig, ax = plt.subplots(figsize=(4, 3.2))
image = ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
ax.set(xticks=range(3), xticklabels=words, yticks=range(3), yticklabels=words, xlabel="key", ylabel="query")
for i, j in np.ndindex(3, 3):
    ax.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color="white" if weights[i, j] > 0.5 else "black")
fig.colorbar(image, label="weight")
plt.show()

# %% [markdown]
# Each **row** is a word that asks, and sums to one; the columns sum to nothing in particular: a word may interest everybody or nobody. Nor is the matrix symmetric. That *cerró* looks at *banco* does not force *banco* to look at *cerró*, because queries and keys come from different matrices.
#
# Is it really a dictionary? If the keys are orthogonal and we make them very long, the average becomes a choice, and a query retrieves a value exactly:

# %%
keys, values = np.eye(3), np.array([[10.0], [20.0], [30.0]])
for length in (0.0, 2.0, 40.0):
    found = softmax(length * keys[2:] @ keys.T / np.sqrt(3)) @ values
    print(f"length {length:4.0f}: {found[0, 0]:.3f}")
assert abs(found[0, 0] - 30) < 1e-6

# %% [markdown]
# With length 0 the query cannot tell them apart and receives the mean of everything; with length 40 it receives the third value and nothing else. Between the two extremes the operation is differentiable, and that is why it can be learned.
#
# ## Why divide by $\sqrt{K}$?
#
# If the numbers in $q$ and $k$ are independent, with mean 0 and variance 1, their dot product $\sum_{i=1}^{K} q_i k_i$ adds $K$ terms of variance 1: its variance is $K$ and its standard deviation $\sqrt{K}$ (footnote 4 of the paper). With $K=64$ one score in twenty lies beyond $\pm 16$, two standard deviations, and `softmax` no longer averages: it chooses. And where it chooses, its derivative is nearly zero, and nothing is learned.

# %%
rng = np.random.default_rng(0)
widths = [4, 16, 64, 256, 1024]
spread, largest = [], {"not scaled": [], "divided by sqrt(K)": []}
for width in widths:
    asked, keys = rng.normal(size=(1000, 1, width)), rng.normal(size=(1000, 10, width))
    products = (asked * keys).sum(-1)  # 1000 queries, 10 keys each
    spread.append(products.std())
    largest["not scaled"].append(softmax(products).max(-1).mean())
    largest["divided by sqrt(K)"].append(softmax(products / width**0.5).max(-1).mean())
assert np.allclose(spread, np.sqrt(widths), rtol=0.05)
assert largest["not scaled"][-1] > 0.9 and max(largest["divided by sqrt(K)"]) < 0.4

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.loglog(widths, spread, "o", label="measured")
left.loglog(widths, np.sqrt(widths), label="sqrt(K)")
left.set(xlabel="K", ylabel="standard deviation of q · k")
left.legend()
for name, line in largest.items():
    right.semilogx(widths, line, "o-", label=name)
right.axhline(0.1, color="gray", ls=":", label="uniform over 10 keys")
right.set(xlabel="K", ylabel="mean largest weight", ylim=(0, 1))
right.legend()
plt.show()

# %% [markdown]
# Without scaling, from $K=64$ on a single word takes almost all the weight *before anything has been learned*. With it, the width no longer matters.
#
# ## Masks
#
# Not every word may look at every word. There are two common reasons:
#
# - **Padding**: in a batch, short sentences are filled up to the length of the longest, and nobody should read the filling.
# - **Causality**: a model that writes from left to right must not see the word that it has to guess (section 3.2.3 of the paper).
#
# In both cases the forbidden score is replaced by a very negative number before `softmax`, and its weight becomes zero. In this library a mask has one meaning: `True` = may attend.

# %%
from tx_jax.nn.masks import Mask

length = 6
valid = jnp.array([[True, True, True, True, False, False]])  # a sentence of 4 tokens and 2 of padding
masks = {
    "padding": Mask(valid),
    "causal": Mask(causal=True),
    "both": Mask(valid, causal=True),
    "window of 2": Mask(window=2),
}
fig, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, (name, mask) in zip(axes, masks.items()):
    dense = np.broadcast_to(mask.dense(length, length)[0, 0], (length, length))
    ax.imshow(dense, cmap="Blues", vmin=0, vmax=1.4, extent=(0, length, length, 0))
    ax.set(title=name, xlabel="key", ylabel="query", xticks=range(length), yticks=range(length))
    ax.grid(color="white")


# %%
def attention(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -1e30)
    return jax.nn.softmax(scores, axis=-1) @ v


q6, k6, v6 = jax.random.normal(jax.random.key(0), (3, length, 8))
causal = masks["causal"].dense(length, length)[0, 0]
before = attention(q6, k6, v6, causal)
after = attention(q6, k6.at[-1].set(9.0), v6.at[-1].set(9.0), causal)  # another last word
changed = np.abs(after - before).max(axis=1) > 0
print("rows that changed:", np.flatnonzero(changed))
assert changed.tolist() == [False] * 5 + [True]

# %% [markdown]
# Changing the last word changes the last row alone: the past does not see the future. Thanks to that, a causal model is trained on all positions of a sentence at once.
#
# ## Attention knows nothing about order
#
# If we shuffle the words of the input, the outputs are shuffled in the same way, and that is all. Each word receives exactly the same wherever it stands: to attention, *the dog bites the man* and *the man bites the dog* are the same bag of words. Order has to be added separately, which is the subject of notebook 2.

# %%
order = np.array([2, 0, 1])
shuffled = np.asarray(attention(q[order], k[order], v[order]))
assert np.allclose(shuffled, output[order], atol=1e-6)
print("the output of the shuffled sentence is the shuffled output")

# %% [markdown]
# ## Several heads
#
# One attention computes *one* average for each word. But *cerró* (closed) may need to know two things: who closed, and when. **Multi-head attention** (section 3.2.2) divides the width $D$ among $H$ heads of width $K = D/H$. Each has queries, keys and values of its own, hence weights of its own; the outputs are then concatenated, and a last matrix mixes them:
#
# $$\operatorname{MultiHead}(X) = [\,\text{head}_1; \dots; \text{head}_H\,]\,W_O, \qquad \text{head}_h = \operatorname{Attention}(XW_Q^h, XW_K^h, XW_V^h)$$
#
# In practice there are not $3H$ small matrices but three large ones, $D \times D$; the heads are groups of columns. Let us write it, and compare it with the library's layer. First theirs: a configuration, its parameters, and the tree in which they live.

# %%
from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.nn.attention.layer import MultiHeadAttention


def small(**changes):
    values = dict(
        architecture="encoder", vocab_size=64, dim=32, num_layers=2, num_heads=4, mlp_dim=64, max_length=16,
        num_segments=0, activation="gelu", norm_position="post", layer_norm_eps=1e-6, dropout=0.0,
        attention_dropout=0.0, init_stddev=0.3, heads=("masked_lm",), dtype="float32", remat="none",
    )  # fmt: skip
    return TransformerConfig(**(values | changes))


config = small()
tokens_x = jax.random.normal(jax.random.key(1), (2, length, config.dim))  # [B, T, D]
layer = MultiHeadAttention(config)
call = dict(mask=Mask(), deterministic=True)
params = layer.init(jax.random.key(2), tokens_x, tokens_x, **call)["params"]
for path, value in tree.flatten(params).items():
    print(f"{path:14} {value.shape}")


# %% [markdown]
# Now ours. The only difficulty is one of shapes: $[B, T, D]$ is split into $[B, T, H, K]$, and the heads move to the front, $[B, H, T, K]$, so that `@` works head by head.

# %%
def multi_head(params, x, num_heads, mask=None):
    def project(name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def heads(y):
        return y.reshape(*y.shape[:2], num_heads, -1).swapaxes(1, 2)  # [B, T, D] -> [B, H, T, K]

    read = attention(*(heads(project(name)) for name in ("query", "key", "value")), mask)
    joined = read.swapaxes(1, 2).reshape(x.shape)  # [B, H, T, K] -> [B, T, D]
    return joined @ params["out"]["kernel"] + params["out"]["bias"]


ours = multi_head(params, tokens_x, config.num_heads)
theirs = layer.apply({"params": params}, tokens_x, tokens_x, **call)
difference = float(jnp.abs(ours - theirs).max())
print(f"largest difference: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# Not one number differs. Nor with a mask:

# %%
both = Mask(jnp.array([[True] * 6, [True] * 4 + [False] * 2]), causal=True)
ours = multi_head(params, tokens_x, config.num_heads, both.dense(length, length))
theirs = layer.apply({"params": params}, tokens_x, tokens_x, mask=both, deterministic=True)
assert float(jnp.abs(ours - theirs).max()) < 1e-5

# %% [markdown]
# To *see* the weights there is no need to rewrite anything. The library names every activation, in the form of a parameter path, and `capture` reads them from a whole model. Here is an encoder of two layers that has not been trained:

# %%
from tx_jax.interpret import capture
from tx_jax.models import registry

encoder = registry.init_params(config, jax.random.key(3))
inputs = {"tokens": jnp.arange(6)[None], "valid": jnp.ones((1, 6), bool)}
names = [f"encoder/layer_1/attention/{part}" for part in ("probabilities", "query", "key", "value", "heads")]
_, found = capture.run(config, encoder, inputs, read=names)
probabilities, query, key, value, read = (np.asarray(found[name][0]) for name in names)
print("probabilities", probabilities.shape, "query", query.shape)
for head in range(config.num_heads):
    by_hand = softmax(query[:, head] @ key[:, head].T / np.sqrt(config.head_dim))
    assert np.allclose(by_hand, probabilities[head], atol=1e-5)
    assert np.allclose(by_hand @ value[:, head], read[:, head], atol=1e-5)

# %%
fig, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
for head, ax in enumerate(axes):
    ax.imshow(probabilities[head], cmap="Blues", vmin=0, vmax=1)
    ax.set(title=f"layer 1, head {head}", xlabel="key", ylabel="query")
different = [np.abs(probabilities[0] - probabilities[head]).max() for head in (1, 2, 3)]
assert min(different) > 0.01

# %% [markdown]
# The four heads look at different places although nobody has trained them: their matrices begin with different numbers. Training turns these chance differences into specialities; in notebook 11 we shall look for them.
#
# ## What it costs
#
# The four projections cost $4TD^2$ multiplications, the scores and the average together $2T^2D$. The latter grows with the **square** of the length: the price of letting everybody look at everybody in a single step (table 1 of the paper). The number of heads appears in neither formula.

# %%
dim = 768  # BERT base
lengths = np.array([128, 512, 2048, 8192])
projections, everybody = 4 * lengths * dim**2, 2 * lengths**2 * dim
for row in zip(lengths, projections / 1e9, everybody / 1e9, everybody / (projections + everybody)):
    print("T = {:5}: projections {:6.2f}, scores and average {:7.2f} billion, share {:.0%}".format(*row))

# %% [markdown]
# ## Exercises
#
# 1. **Gradients.** With `jax.jacobian`, compute the derivative of `softmax` at a vector of 10 normal scores with standard deviation 1 and with standard deviation 16. How many times smaller is its norm in the second case?
# 2. **Do heads cost anything?** Count the layer's parameters with 1, 2, 4 and 8 heads, using `layer.init` and `tree.flatten`. Explain the result.
# 3. **The crossing.** From which length $T$ on do the scores and the average cost more than the projections, with $D = 768$? Derive it and check it.
# 4. **Rank.** The scores of a head are $X (W_Q W_K^\top) X^\top$. What is the largest rank that the $D \times D$ matrix in the middle can have? Check it with the parameters of a head in `params`.
# 5. **Looking at oneself.** In `tokens_x`, let each word look at itself alone. What does the multi-head layer come down to?

# %% [markdown]
# ## Solutions
#
# **1.** With large scores the derivative is much smaller: `softmax` is saturated. The exact figures depend on the seed; we take the mean of 200 vectors.

# %%
drawn = jax.random.normal(jax.random.key(4), (200, 10))
norms = {
    s: float(jnp.linalg.norm(jax.vmap(jax.jacobian(jax.nn.softmax))(s * drawn), axis=(1, 2)).mean()) for s in (1, 16)
}
print(norms, "ratio", round(norms[1] / norms[16], 1))
assert norms[1] > 3 * norms[16]

# %% [markdown]
# **2.** Always as many: $4(D^2 + D)$. More heads are the same columns in more groups.

# %%
counts = []
for heads in (1, 2, 4, 8):
    made = MultiHeadAttention(small(num_heads=heads)).init(jax.random.key(0), tokens_x, tokens_x, **call)["params"]
    counts.append(sum(value.size for value in tree.flatten(made).values()))
print(counts)
assert set(counts) == {4 * (32**2 + 32)}

# %% [markdown]
# **3.** $2T^2D = 4TD^2$ where $T = 2D$: 1536 with $D = 768$.

# %%
assert 2 * 1535**2 * dim < 4 * 1535 * dim**2 and 2 * 1537**2 * dim > 4 * 1537 * dim**2

# %% [markdown]
# **4.** At most $K$, the width of the head: it is a product of $D \times K$ and $K \times D$. Each head compares words in a space of only 8 dimensions, which is a reason to have several.

# %%
first = slice(0, config.head_dim)
middle = params["query"]["kernel"][:, first] @ params["key"]["kernel"][:, first].T
print(middle.shape, "rank", np.linalg.matrix_rank(middle))
assert np.linalg.matrix_rank(middle) == config.head_dim == 8

# %% [markdown]
# **5.** To two linear layers, $x W_V W_O$ with their biases: the only weight is 1. Everything interesting about attention is in looking at others.

# %%
alone = multi_head(params, tokens_x, config.num_heads, jnp.eye(length, dtype=bool))
values = tokens_x @ params["value"]["kernel"] + params["value"]["bias"]
linear = values @ params["out"]["kernel"] + params["out"]["bias"]
assert float(jnp.abs(alone - linear).max()) < 1e-5

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
# # 2. Positions
#
# **What you will learn**
#
# - why a Transformer without positions confuses *the dog bites the man* and *the man bites the dog*;
# - the paper's formula of sines and cosines, programmed in three lines and drawn;
# - what positions have to do with a clock, and why moving along is turning;
# - an error of an index that many tutorials have copied, and how a single number reveals it;
# - what BERT uses (learned positions), and today's models (rotary ones).
#
# Time: about 40 minutes of reading; the code takes seconds. Reference: Vaswani et al. 2017, *Attention Is All You Need*, section 3.5.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## The problem
#
# Attention compares each word with all others and averages (notebook 3). Nothing in that operation depends on the place where each stands. Let us check it with a whole encoder, untrained, from which we take the positions away: tokens 1 to 5 in one order and in another.

# %%
from tx_jax.config import TransformerConfig
from tx_jax.models import registry


def encoder(position_embedding):
    return TransformerConfig(
        architecture="encoder", vocab_size=32, dim=64, num_layers=2, num_heads=4, mlp_dim=128, max_length=64,
        num_segments=0, activation="gelu", norm_position="post", layer_norm_eps=1e-6, dropout=0.0,
        attention_dropout=0.0, init_stddev=0.2, heads=("masked_lm",), dtype="float32", remat="none",
        position_embedding=position_embedding,
    )  # fmt: skip


def output_of_last(config, params, tokens):
    tokens = jnp.asarray([tokens])
    output = registry.build(config).apply({"params": params}, tokens, valid_BT=tokens >= 0, deterministic=True)
    return np.asarray(output.hidden[0, -1])


# %%
dog_bites_man, man_bites_dog = [1, 2, 3, 4, 5], [4, 2, 3, 1, 5]  # token 5 is the full stop
for kind in ("none", "sinusoidal"):
    config = encoder(kind)
    params = registry.init_params(config, jax.random.key(0))
    one, other = (output_of_last(config, params, tokens) for tokens in (dog_bites_man, man_bites_dog))
    print(f"{kind:10} difference of the full stop's vector: {np.abs(one - other).max():.6f}")
    assert (np.abs(one - other).max() < 1e-5) == (kind == "none")

# %% [markdown]
# Without positions the full stop receives *exactly* the same vector from both sentences: the information of who bites whom does not exist. It has to be written into the input.
#
# ## Ideas that are not enough
#
# Adding the number of the position, 0, 1, 2, …? The numbers would grow without limit and hide the meaning of the word. Dividing it by the length? Then "one word further" would be something else in each sentence. We want a vector for each position that (1) is unique, (2) is of bounded size, (3) changes little from one position to the next, and (4) in which the *distance* between two positions reads the same anywhere in the sentence.
#
# A clock does all that: the second hand is quick and the hour hand slow; together the hands tell any moment from any other, and none of them leaves the dial.
#
# ## The formula
#
# $$PE_{(p,\,2i)} = \sin\!\left(\frac{p}{10000^{2i/D}}\right), \qquad PE_{(p,\,2i+1)} = \cos\!\left(\frac{p}{10000^{2i/D}}\right), \qquad i = 0, 1, \dots, \tfrac{D}{2}-1$$
#
# Each pair of columns $(2i, 2i+1)$ is a hand: the sine and cosine of an angle that advances by $10000^{-2i/D}$ radians a word. The first goes round once every $2\pi \approx 6$ words; the last, every $2\pi \cdot 10000 \approx 63{,}000$. In code, three lines:

# %%
from tx_jax.interpret import positions


def sinusoidal(length, dim):
    rates = 10_000.0 ** (-np.arange(0, dim, 2) / dim)  # 2i = 0, 2, 4, ...
    angles = np.arange(length)[:, None] * rates  # [P, D/2]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim)


encodings = sinusoidal(512, 512)
difference = np.abs(encodings - positions.sinusoidal(512, 512)).max()
print(f"largest difference from the library's: {difference:.1e}")  # which computes in float32
assert difference < 1e-4
encodings[:3, :6]

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
image = left.imshow(sinusoidal(100, 64), cmap="RdBu", aspect="auto")
left.set(xlabel="column", ylabel="position", title="width 64")
fig.colorbar(image, ax=left)
for column in (0, 8, 16, 24):
    right.plot(sinusoidal(100, 64)[:, column], label=f"column {column}")
right.set(xlabel="position", title="four columns")
right.legend(loc="upper right")
plt.show()

# %% [markdown]
# On the left, each row is the vector of a position. The columns on the left of the picture oscillate quickly, those on the right hardly move within a hundred words: they tell the beginning of a text from its end.
#
# ## Moving along is turning
#
# Why pairs of sine and cosine? Because advancing by $k$ words turns each hand by an angle *that does not depend on where one is*:
#
# $$\begin{pmatrix} \sin((p+k)\omega) \\ \cos((p+k)\omega) \end{pmatrix} = \begin{pmatrix} \cos k\omega & \sin k\omega \\ -\sin k\omega & \cos k\omega \end{pmatrix} \begin{pmatrix} \sin p\omega \\ \cos p\omega \end{pmatrix}$$
#
# That is: $PE_{p+k}$ is a linear function of $PE_p$, the same everywhere. A linear layer can learn to look "three words back"; such was the authors' hypothesis. And the dot product of two positions depends on their distance alone:
#
# $$PE_p \cdot PE_q = \sum_i \cos\big((p-q)\,\omega_i\big)$$

# %%
products = encodings @ encodings.T
for distance in (0, 1, 8, 100):
    diagonal = np.diagonal(products, distance)
    print(f"{distance:3} words apart: from {diagonal.min():.4f} to {diagonal.max():.4f}")
    assert np.ptp(diagonal) < 1e-9
rates = 10_000.0 ** (-np.arange(0, 512, 2) / 512)
assert np.allclose(products[2, 10], np.cos(8 * rates).sum())

# %% [markdown]
# All vectors have the same length, $\sqrt{D/2}$ (each hand contributes $\sin^2+\cos^2=1$), so the **cosine** of two positions depends on the distance alone, too.
#
# ## The 0.8600 that should not be
#
# Many courses propose this experiment: with $D=512$, compute the cosine of the positions 2 and 10. A listing that has been going round for years gives **0.8600**. With our function:

# %%
print(f"the paper's formula: {positions.cosine(encodings, 2, 10):.4f}")
assert abs(positions.cosine(encodings, 2, 10) - 0.7225) < 5e-4

# %% [markdown]
# 0.7225. Who is right? The listing goes through the even columns with `for i in range(0, 512, 2)`, and in the exponent writes `2 * i / 512`. But there `i` *already is* the even column, which the formula calls $2i$: the index is doubled twice. Let us reproduce it:

# %%
copied = np.zeros((512, 512))
for i in range(0, 512, 2):
    angle = np.arange(512) / 10_000 ** (2 * i / 512)  # the 2 should not be here
    copied[:, i], copied[:, i + 1] = np.sin(angle), np.cos(angle)
print(f"the copied listing: {positions.cosine(copied, 2, 10):.4f}")
assert abs(positions.cosine(copied, 2, 10) - 0.8600) < 5e-4
assert np.allclose(copied, positions.doubled_index(512, 512))

# %% [markdown]
# There is the 0.8600. The program runs, the picture looks reasonable and nobody complains; that is why the error is copied. But the frequencies fall twice as fast, and nearly half of the columns, those on the right, do not move: they say nothing about the position.

# %%
fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for ax, (name, table) in zip(axes, {"the paper": encodings, "the copied listing": copied}.items()):
    ax.imshow(table[:100], cmap="RdBu", aspect="auto")
    still = (np.ptp(table, axis=0) < 0.01).mean()
    ax.set(title=f"{name}: {still:.0%} still", xlabel="column", ylabel="position")
    axes[2].plot(positions.by_distance(table)[:200], label=name)
axes[2].set(xlabel="distance in words", title="cosine", ylim=(0, 1))
axes[2].legend()
assert (np.ptp(copied, axis=0) < 0.01).mean() > 0.4 > 0.1 > (np.ptp(encodings, axis=0) < 0.01).mean()

# %% [markdown]
# The curve on the right sums it up: with the doubled index, any two words seem nearer than they are. A number to compare with (here 0.7225) is worth more than a pretty picture.
#
# ## Added to the words
#
# The embeddings of the words are multiplied by $\sqrt{D}$, and the position is added (sections 3.4 and 3.5). When training begins, the embeddings have numbers of the order of $1/\sqrt{D}$; without that factor the positions, which reach 1, would hide them. Let us rebuild the input of the library's encoder:

# %%
import dataclasses

from tx_jax.interpret import capture

config = dataclasses.replace(encoder("sinusoidal"), embedding_scale=True, embedding_norm=False)
params = registry.init_params(config, jax.random.key(1))
tokens = jnp.array([[7, 7, 3, 7]])
inputs = {"tokens": tokens, "valid": jnp.ones_like(tokens, bool)}
_, found = capture.run(config, params, inputs, read=["encoder/input"])
ours = params["embeddings"]["token"]["embedding"][tokens[0]] * np.sqrt(64) + sinusoidal(4, 64)
print("largest difference:", float(np.abs(found["encoder/input"][0] - ours).max()))
assert np.allclose(found["encoder/input"][0], ours, atol=1e-5)

# %% [markdown]
# Word 7 occurs three times and enters with three different vectors. Meaning and position share the same columns; the model learns to separate them.
#
# ## What came later
#
# **Learned positions.** BERT and GPT-2 replace the formula with a table of parameters, a row for each position. That is simpler, and gives similar results (table 3, row E, of the paper), but there is no row for position 513.
#
# **Rotary positions** (RoPE, Su et al. 2021), those of almost all models of today. Instead of adding, they *turn* queries and keys: the $i$-th pair of coordinates at position $p$ is turned by an angle $p\,\omega_i$. When query and key are multiplied, the angles are subtracted, and the score depends on the distance and the content, never on the absolute position.

# %%
from tx_jax.nn.rotary import rotary_angles, rotate

width, length = 64, 200
query, key = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
angles = rotary_angles(jnp.arange(length)[None], head_dim=width, theta=10_000.0)
turned_query, turned_key = (
    np.asarray(rotate(jnp.broadcast_to(x, (1, length, 1, width)), angles)[0, :, 0]) for x in (query, key)
)
scores = turned_query @ turned_key.T  # the same query and key at all pairs of positions
for distance in (0, 5, 50):
    diagonal = np.diagonal(scores, distance)
    print(f"{distance:2} words apart: from {diagonal.min():.3f} to {diagonal.max():.3f}")
    assert np.ptp(diagonal) < 1e-3
assert np.ptp(scores) > 1

# %%
plt.figure(figsize=(4, 3.2))
plt.imshow(scores[:60, :60], cmap="RdBu")
plt.title("scores of one query and one key")
plt.xlabel("position of the key")
plt.ylabel("position of the query")
plt.colorbar()
plt.show()

# %% [markdown]
# Diagonal bands: only the distance counts, with its sign.
#
# ## Exercises
#
# 1. **Second hand and hour hand.** With $D=512$, which pair of columns goes round once every 100 words or so?
# 2. **Sines and cosines apart.** Marian and Tensor2Tensor put all sines first and all cosines after them. Do the dot products of positions change? Check it with `sinusoids(..., halves=True)`.
# 3. **Reading the position.** Add normal noise of standard deviation 0.5 to `encodings`, and find for each row the position whose vector is most like it. What percentage is right? And with `copied`?
# 4. **The matrix that turns.** Find by least squares the matrix $M$ that takes $PE_p$ to $PE_{p+5}$, and check that it works for positions that it has not seen.
# 5. **How far?** From how many words on is the cosine below 0.5, with the paper's formula and with the copied listing?

# %% [markdown]
# ## Solutions
#
# **1.** The wavelength is $2\pi \cdot 10000^{2i/D}$; setting it to 100 gives $2i = D \log_{10000}(100 / 2\pi) \approx 154$.

# %%
wavelengths = 2 * np.pi / rates
column = 2 * int(np.abs(wavelengths - 100).argmin())
print(column, wavelengths[column // 2])
assert column == 154

# %% [markdown]
# **2.** No: a dot product is a sum, and the order of its terms does not matter.

# %%
from tx_jax.nn.embed import sinusoids

halves = np.asarray(sinusoids(jnp.arange(64)[None], 512, halves=True)[0])
assert not np.allclose(halves, encodings[:64], atol=1e-3)
assert np.allclose(halves @ halves.T, encodings[:64] @ encodings[:64].T, atol=1e-2)

# %% [markdown]
# **3.** With the right formula more hands move, so there is more to go by. The difference shows as soon as there is noise, and in a model there always is: the meaning of the word.

# %%
noise = np.random.default_rng(1).normal(scale=0.5, size=encodings.shape)
right = {}
for name, table in {"the paper": encodings, "the copied listing": copied}.items():
    nearest = ((table + noise) @ table.T).argmax(axis=1)
    right[name] = (nearest == np.arange(512)).mean()
print(right)
assert right["the paper"] > right["the copied listing"]

# %% [markdown]
# **4.** With a width of 64 a $64 \times 64$ matrix is enough. For the slow hands to move, too, many positions are needed: we find it on the first 15,000, and it is right on those that follow.

# %%
table = sinusoidal(20_000, 64)
matrix, *_ = np.linalg.lstsq(table[:15_000], table[5:15_005], rcond=None)
error = np.abs(table[16_000:19_000] @ matrix - table[16_005:19_005]).max()
print(f"largest error on new positions: {error:.1e}")
assert error < 1e-3

# %% [markdown]
# **5.** From 54 words on with the formula; with the doubled index, never within 512.

# %%
below = {name: np.flatnonzero(positions.by_distance(t) < 0.5) for name, t in (("paper", encodings), ("copied", copied))}
print({name: found[:1] for name, found in below.items()})
assert below["paper"][0] == 54
assert len(below["copied"]) == 0

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
# # 10. GPT: predicting the next token
#
# **What you will learn**
#
# - how one sentence of a theorem of probability becomes a training task that needs no labels;
# - what the causal mask guarantees, and how to test it;
# - to read a perplexity per token, per word and per byte, and which of them may be compared between models;
# - what temperature, top-k, top-p, min-p and the repetition penalty do to a distribution, drawn rather than told;
# - why the most probable text is not the best text.
#
# Time: about an hour of reading; the code takes about a minute and a half on two cores. References: Radford et al. 2018 and 2019 (GPT, GPT-2); Holtzman et al. 2019, *The Curious Case of Neural Text Degeneration*.

# %%
import itertools
import json
import lzma
import math
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import tx_jax
from tx_jax import decoding
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.decoding import processors

sys.path.append("../..")  # the clone, for its folder configs
from configs import shakespeare

folder = tempfile.TemporaryDirectory()
WORK = Path(folder.name)

# %% [markdown]
# ## One product, no labels
#
# The probability of a text is a product, by the chain rule:
#
# $$p(x_1, \dots, x_T) = \prod_{t=1}^{T} p(x_t \mid x_1, \dots, x_{t-1})$$
#
# A language model is nothing but a function that gives the factors. To train it, one needs text and no labels: the label of each position is the token that follows. The loss is the mean of $-\log p(x_t \mid x_{<t})$, a cross-entropy in nats.
#
# Our text is 300,000 characters of Shakespeare. The tokenizer is GPT-2's, a byte-level BPE (notebook 1), with only 512 tokens, because so little text could not teach the meaning of more. `sentences="verbatim"` keeps line ends: whoever wants to write plays must know where a line ends. A document is a speech; a tenth of them is held out.

# %%
config = PrepareConfig(
    WORK / "store",
    SourceConfig(specs=("../data/shakespeare.txt",)),
    tokenizer_kind="gpt2_bpe",
    vocab_size=512,
    sentences="verbatim",
    validation_fraction=0.1,
    workers=1,
)
prepare(config)
store = TokenStore.open(WORK / "store")
tokenizer = store.tokenizer()


def speeches(split):
    """The tokens of each document."""
    part = store.split(split)
    bounds = part.sentence_offsets[part.document_offsets]
    return [part.read(np.array([a]), np.array([b])) for a, b in itertools.pairwise(bounds)]


train, held_out = speeches("train"), speeches("validation")
print(f"{len(train)} speeches to train on, {sum(map(len, train)):,} tokens; {len(held_out)} held out")
sample = held_out[0][:12]
for seen, following in zip(tokenizer.tokens(sample), tokenizer.tokens(sample[1:])):
    print(f"{seen!r:>12} -> {following!r}")

# %% [markdown]
# ## Training
#
# We take the configuration `configs/shakespeare.py` and make it smaller: three layers of width 128, rows of 64 tokens. In contrast to a masked LM, which learns from 15% of the tokens, here every position gives a loss; hence a causal LM sees more per step. The rows are one stream of speeches, cut every 64 tokens (`packing="chunks"`).

# %%
c = shakespeare.get_config()
c.model.vocab_size = tokenizer.vocab_size
c.model.dim, c.model.num_layers, c.model.num_heads, c.model.mlp_dim = 128, 3, 4, 384
c.model.max_length, c.model.dropout = 128, 0.0
c.data.store, c.data.sequence_length = str(WORK / "store"), 64
c.optimizer.learning_rate, c.optimizer.warmup_steps = 4e-3, 50
c.training.num_steps, c.training.batch_size = 400, 32
c.training.log_every, c.training.eval_every, c.training.checkpoint_every = 20, 100, 400
c.training.keep_best = 0
metrics = tx_jax.train(c, WORK / "gpt", progress=False)["validation"]
model = tx_jax.load(WORK / "gpt")
for name, value in metrics.items():
    print(f"{name:24} {value:.3f}")

# %%
log = [json.loads(line) for line in (WORK / "gpt/metrics.jsonl").read_text().splitlines()]
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for split in ("train", "validation"):
    rows = [row for row in log if row["split"] == split and "causal_lm_loss" in row]
    ax.plot([row["step"] for row in rows], [row["causal_lm_loss"] for row in rows], label=split, marker=".")
ax.axhline(math.log(tokenizer.vocab_size), color="gray", linestyle=":", label="uniform: ln V")
ax.set(xlabel="step", ylabel="nats per token")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Before the first step the loss is $\ln V$, the dotted line: a model that knows nothing gives every token the same probability. The first point of the curve is already the mean of 20 steps, and lies below. In these steps it learns how frequent each token is, then which token follows which, then longer things. To know how far it got, we need baselines that anyone can compute with counts:
#
# - **unigram**: each token by its frequency, whatever precedes it;
# - **bigram**: each token given the one before it, smoothed with the unigram.
#
# All three are evaluated on the same tokens, the first 64 of each held-out speech. And the loss of the GPT is computed by hand here: logits at position $t$, log-softmax, the entry of token $t+1$.

# %%
T, V = 64, tokenizer.vocab_size
tokens = np.zeros((len(held_out), T), np.int32)
valid = np.zeros((len(held_out), T), bool)
for row, ids in enumerate(held_out):
    tokens[row, : len(ids)], valid[row, : len(ids)] = ids[:T], True
targets, counted = tokens[:, 1:], valid[:, 1:]


@jax.jit
def log_probabilities(params, tokens, valid):
    logits = model.apply(params, tokens, valid_BT=valid).logits["causal_lm"]
    return jax.nn.log_softmax(logits[:, :-1, :V])


of_gpt = np.take_along_axis(np.asarray(log_probabilities(model.params, tokens, valid)), targets[..., None], -1)[..., 0]

unigram = np.bincount(np.concatenate(train), minlength=V) + 0.1
unigram = unigram / unigram.sum()
bigram = np.zeros((V, V))
for ids in train:
    np.add.at(bigram, (ids[:-1], ids[1:]), 1)
bigram = (bigram + 20 * unigram) / (bigram.sum(axis=1, keepdims=True) + 20)
nats = {
    "uniform": math.log(V),
    "unigram": -np.log(unigram[targets])[counted].mean(),
    "bigram": -np.log(bigram[tokens[:, :-1], targets])[counted].mean(),
    "GPT": -of_gpt[counted].mean(),
}
for name, value in nats.items():
    print(f"{name:8} {value:.3f} nats per token, perplexity {math.exp(value):6.1f}")
assert nats["GPT"] < nats["bigram"] - 0.2 < nats["unigram"] - 0.4

# %% [markdown]
# ## The causal mask, put to the test
#
# Position $t$ may attend to the positions up to $t$ and to none after it; otherwise it would copy its answer. This is one line of code in `tx_jax/nn/masks.py`, and the most expensive error in this field if it is wrong: the loss would fall to zero and the model would have learned nothing. It is easy to test. We change a token and look at which logits change.

# %%
text = "KING RICHARD III:\nMy lord, the king is dead."
ids = np.array([tokenizer.encode(text)])
place = ids.shape[1] // 2
changed = ids.copy()
changed[0, place] = tokenizer.encode(" queen")[0]
before, after = (np.asarray(model.apply(model.params, jnp.asarray(x)).logits["causal_lm"][0]) for x in (ids, changed))
difference = np.abs(before - after).max(axis=-1)
assert difference[:place].max() < 1e-4 and difference[place:].min() > 1e-2

fig, ax = plt.subplots(figsize=(8, 2.4))
ax.bar(range(ids.shape[1]), difference, color=["C0" if i < place else "C1" for i in range(ids.shape[1])])
ax.set_xticks(range(ids.shape[1]), tokenizer.tokens(ids[0]), rotation=70, fontsize=7)
ax.set(ylabel="largest change of a logit")
plt.show()

# %% [markdown]
# ## Perplexity: per what?
#
# The perplexity is the exponential of a mean loss: $\mathrm{PPL} = \exp\left(-\frac{1}{N}\sum_t \ln p(x_t \mid x_{<t})\right)$, as if at each step the model hesitated between PPL equally probable options. Everything depends on $N$. With tokens in the denominator, a tokenizer that cuts the same text into more pieces gives a smaller perplexity although nothing was predicted better. Hence:
#
# - **per token**: only between models with the same tokenizer;
# - **per word**: $N$ = number of words. This is what old papers report, and it may be compared if both count words alike;
# - **per byte**, usually as bits per byte, $\frac{1}{\ln 2}\cdot\frac{\text{nats}}{\text{bytes}}$: always comparable, and it is what a compressor would achieve.
#
# The numerator, the nats of the whole text, is the same in all three.

# %%
total, number_of_tokens = -of_gpt[counted].sum(), counted.sum()
texts = [tokenizer.decode(row[kept]) for row, kept in zip(targets, counted)]
number_of_words = sum(len(one.split()) for one in texts)
number_of_bytes = sum(len(one.encode()) for one in texts)
print(f"{total:,.0f} nats: {number_of_tokens:,} tokens, {number_of_words:,} words, {number_of_bytes:,} bytes")
print(f"perplexity per token {math.exp(total / number_of_tokens):10.1f}")
print(f"perplexity per word  {math.exp(total / number_of_words):10.1f}")
print(f"bits per byte        {total / math.log(2) / number_of_bytes:10.3f}")
print(f"the library, on all held-out text: {metrics['bits_per_byte']:.3f} bits per byte")
assert abs(total / math.log(2) / number_of_bytes - metrics["bits_per_byte"]) < 0.2

# %% [markdown]
# ## From a distribution to a token
#
# The model gives a distribution; a text needs one token. In between stands a decision that has nothing to do with training, and that changes everything. First the distribution itself: what follows `KING RICHARD III:\nMy lord,`?
#
# The **temperature** $\tau$ divides the logits: $p_i \propto e^{z_i/\tau}$. With $\tau \to 0$ only the most probable token remains (greedy), with $\tau = 1$ the distribution is the model's, with $\tau \to \infty$ all tokens are equally probable.

# %%
prompt = "KING RICHARD III:\nMy lord,"
logits = model.apply(model.params, jnp.array([tokenizer.encode(prompt)])).logits["causal_lm"][:, -1, :V]


def draw(panels, shown=16):
    """Bars of the likeliest tokens; gray: what the model itself would give."""
    order = np.argsort(-np.asarray(logits[0]))[:shown]
    _, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 2.7), sharey=True, layout="constrained")
    for ax, (name, changed) in zip(np.atleast_1d(axes), panels.items()):
        ax.bar(range(shown), np.asarray(jax.nn.softmax(logits[0]))[order], color="lightgray", width=0.9)
        ax.bar(range(shown), np.asarray(jax.nn.softmax(changed[0]))[order], width=0.5)
        ax.set_xticks(range(shown), tokenizer.tokens(order), rotation=80, fontsize=7)
        left = int((jax.nn.softmax(changed[0]) > 0).sum())
        ax.set_title(f"{name}\n{left} tokens left", fontsize=9)
    axes[0].set_ylabel("probability")
    plt.show()


draw({f"temperature {t}": logits / t for t in (0.5, 1.0, 2.0)})

# %% [markdown]
# The temperature leaves every token in the game. That is the problem of long texts: the tail has hundreds of tokens with small probabilities, whose sum is not small; sooner or later one of them is drawn, and the model must go on from a text that nobody would have written. The following knobs cut the tail, each by another criterion:
#
# - **top-k**: the $k$ most probable. Simple, but $k$ does not know whether the model is sure;
# - **top-p** (nucleus, Holtzman et al. 2019): the fewest tokens whose probabilities add up to $p$. Few where the model is sure, many where it is not;
# - **min-p** (Nguyen et al. 2024): those that are at least $p$ times as probable as the first.

# %%
draw(
    {
        "top-k 5": processors.top_k(logits, 5),
        "top-p 0.6": processors.top_p(logits, jnp.float32(0.6)),
        "min-p 0.2": processors.min_p(logits, jnp.float32(0.2)),
    }
)
kept = jax.nn.softmax(processors.top_p(logits, jnp.float32(0.6))) > 0
mass = float(jnp.where(kept, jax.nn.softmax(logits), 0).sum())
print(f"the nucleus has {int(kept.sum())} tokens, which had {mass:.3f} of the probability")
assert mass >= 0.6

# %% [markdown]
# The difference shows where the model is sure. After `KING RICH` there is hardly a doubt; after `My` there are many. A fixed $k$ is wrong in one of the two places. Below, for each position of a text, how many tokens each criterion leaves.

# %%
line = "KING RICHARD III:\nMy gracious lord, I will not speak of this to the king."
ids = tokenizer.encode(line)
every = model.apply(model.params, jnp.array([ids])).logits["causal_lm"][0, :, :V]
counts = {
    "top-k 40": (processors.top_k(every, 40) > -jnp.inf).sum(-1),
    "top-p 0.9": (processors.top_p(every, jnp.float32(0.9)) > -jnp.inf).sum(-1),
    "min-p 0.1": (processors.min_p(every, jnp.float32(0.1)) > -jnp.inf).sum(-1),
}
fig, ax = plt.subplots(figsize=(9, 3))
for name, values in counts.items():
    ax.step(range(len(ids)), values, where="mid", label=name)
ax.set_xticks(range(len(ids)), tokenizer.tokens(ids), rotation=75, fontsize=7)
ax.set(ylabel="tokens left after this one", yscale="log")
ax.legend(frameon=False, fontsize=8)
plt.show()
assert counts["top-p 0.9"].min() * 4 < counts["top-p 0.9"].max()

# %% [markdown]
# The **repetition penalty** (Keskar et al. 2019) is of another kind: it looks at the text so far. Logits of tokens that have already occurred are divided by the penalty if they are positive and multiplied by it if they are negative, which makes them less probable in both cases. It is a crude tool: a comma has occurred, too.

# %%
seen = jnp.zeros((1, V), bool).at[0, jnp.array(tokenizer.encode(prompt))].set(True)
draw({f"penalty {x}": processors.penalized(logits, seen, jnp.float32(x)) for x in (1.0, 1.5)})
p, q = (jax.nn.softmax(processors.penalized(logits, seen, jnp.float32(x)))[0] for x in (1.0, 1.5))
assert float(jnp.where(seen[0], q, 0).sum()) < float(jnp.where(seen[0], p, 0).sum())

# %% [markdown]
# ## Texts
#
# Now the library draws. `model.generate` takes the knobs by these names; a seed makes a sample repeatable. Greedy first, since "always the best token" sounds sensible.

# %%
start = "KING RICHARD III:\n"
settings = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {"seed": 1},
    "temperature 2": {"temperature": 2.0, "seed": 1},
    "top-p 0.9": {"top_p": 0.9, "seed": 1},
    "top-p 0.9, penalty 1.2": {"top_p": 0.9, "repetition_penalty": 1.2, "seed": 1},
}
for name, options in settings.items():
    print(f"--- {name}\n{start}{model.generate(start, max_new_tokens=60, **options)}\n")

# %% [markdown]
# We measure instead of looking at one sample. For 32 samples of each setting: the share of different trigrams of tokens among all (1 = nothing repeats), and the mean log-probability that the model itself gives to what it wrote. Human text, that of the held-out speeches, is the star in the picture; without the line with the speaker's name, which our samples do not write either, but continue.


# %%
def distinct(sequences):
    """The share of different trigrams in each sequence, on average."""
    found = [list(zip(s, s[1:], s[2:])) for s in sequences if len(s) > 10]
    return float(np.mean([len(set(grams)) / len(grams) for grams in found]))


starts = [f"{name}:\n" for name in ("KING RICHARD III", "MENENIUS", "GLOUCESTER", "First Citizen")]
points = {}
for name, options in {**settings, "temperature 0.5": {"temperature": 0.5, "seed": 1}}.items():
    copies = {} if name == "greedy" else {"num_return_sequences": 8}
    made = decoding.generate(model, starts, decoding.Options(max_new_tokens=64, **options, **copies))
    points[name] = distinct([one.tokens for one in made]), np.mean([np.mean(one.log_probs) for one in made])
begins = np.array([next(n for n in range(len(ids)) if "\n" in tokenizer.decode(ids[:n])) for ids in held_out])
said = counted & (np.arange(1, T) >= begins[:, None])  # what is behind the line with the speaker's name
human = distinct([ids[n:T].tolist() for ids, n in zip(held_out, begins)]), of_gpt[said].mean()

fig, ax = plt.subplots(figsize=(6.5, 3.8))
for name, (x, y) in points.items():
    ax.scatter(x, y, label=name)
ax.scatter(*human, marker="*", s=160, color="black", label="Shakespeare")
ax.set(xlabel="share of different trigrams", ylabel="mean log-probability of a token")
ax.legend(frameon=False, fontsize=8)
plt.show()
assert points["greedy"][0] < points["temperature 1"][0] < points["temperature 2"][0] + 0.02
assert points["greedy"][1] > points["temperature 1"][1] > points["temperature 2"][1]
assert all(2 * abs(points["top-p 0.9"][i] - human[i]) < abs(points["greedy"][i] - human[i]) for i in (0, 1))
assert abs(points["temperature 1"][1] - human[1]) < abs(points["top-p 0.9"][1] - human[1])

# %% [markdown]
# Greedy has the highest probability and repeats itself most: **people do not write the most probable text**, they write text of about the model's own uncertainty (Holtzman et al. 2019, section 3). Sampling at temperature 1 lands on Shakespeare, by both measures: a model that learned its probabilities well finds its own samples about as surprising as a text that it has not seen. Top-p 0.9 leaves out the tail, so what it writes is somewhat more probable than Shakespeare's text, and still far nearer to it than greedy. And yet you can tell them apart at once: these two measures see how surprising a text is, not whether it makes sense. What is missing is not the right noise but a better model.
#
# ## Exercises
#
# 1. Draw the entropy of the distribution as a function of the temperature, from 0.1 to 4. At which temperature is it half of its maximum $\ln V$?
# 2. Write top-p yourself, with a sort, in numpy, and check that it leaves the same tokens as the library's for ten values of $p$.
# 3. `decoding.generate` returns the log-probabilities of what was drawn. Compute them again from the logits of the whole sequence. Are they those before or after the temperature?
# 4. How many bits per byte does a good general compressor (`lzma`) need for the held-out text? And if it may see the training text first? Compare with the GPT.

# %% [markdown]
# ## Solutions
#
# **1.** The entropy grows with the temperature, from 0 to $\ln V$.

# %%
temperatures = np.linspace(0.1, 4, 60)
p = np.asarray(jax.nn.softmax(logits[0][None] / temperatures[:, None]), np.float64)
entropy = -(p * np.log(p + 1e-30)).sum(-1)
half = temperatures[np.argmax(entropy > math.log(V) / 2)]
assert (np.diff(entropy) > 0).all()
fig, ax = plt.subplots(figsize=(5.5, 2.8))
ax.plot(temperatures, entropy)
ax.axhline(math.log(V), linestyle=":", color="gray")
ax.axvline(half, linestyle="--", color="C1", label=f"half of ln V: {half:.2f}")
ax.set(xlabel="temperature", ylabel="entropy, nats")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **2.** Sorted from the most probable on, a token stays if what precedes it does not yet reach $p$.


# %%
def my_top_p(logits, p):
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits)), np.float64)
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = np.zeros(len(logits), bool)
    kept[order[before < p]] = True
    return kept


for p in np.linspace(0.05, 0.95, 10):
    ours = my_top_p(logits[0], p)
    theirs = np.asarray(processors.top_p(logits, jnp.float32(p))[0] > -jnp.inf)
    assert (ours == theirs).all(), p
print("the same tokens, ten times")

# %% [markdown]
# **3.** Those before the temperature: the library reports what the model thinks of a token, whatever it was drawn from.

# %%
(made,) = decoding.generate(model, [start], decoding.Options(max_new_tokens=20, temperature=0.7, seed=3))
prefix = tokenizer.encode(start)
whole = jnp.array([prefix + made.tokens])
scores = model.apply(model.params, whole).logits["causal_lm"][0, len(prefix) - 1 : -1, :V]
for name, x in (("temperature 1", scores), ("temperature 0.7", scores / 0.7)):
    again = np.take_along_axis(np.asarray(jax.nn.log_softmax(x)), np.array(made.tokens)[:, None], 1)[:, 0]
    print(f"{name}: largest difference {np.abs(again - made.log_probs).max():.5f}")
    if name == "temperature 1":
        assert np.allclose(again, made.log_probs, atol=1e-3)

# %% [markdown]
# **4.** Compressing and predicting are the same problem: an arithmetic coder with this model would need the bits of its loss. `lzma` alone has to begin from nothing; with the training text before it, it has seen as much as the GPT.

# %%
seen_text, new_text = ("\n\n".join(map(tokenizer.decode, part)).encode() for part in (train, held_out))
alone = len(lzma.compress(new_text)) * 8 / len(new_text)
after = (len(lzma.compress(seen_text + new_text)) - len(lzma.compress(seen_text))) * 8 / len(new_text)
print(f"lzma alone {alone:.2f}, after the training text {after:.2f}, GPT {metrics['bits_per_byte']:.2f} bits per byte")
assert metrics["bits_per_byte"] < after < alone

# %%
folder.cleanup()

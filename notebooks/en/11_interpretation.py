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
# # 11. Inside a Transformer
#
# **What you will learn**
#
# - to look at attention, head by head, and to rebuild a head's weights from its queries and keys;
# - to say what heads do with figures instead of impressions;
# - to ask each layer what it knows (probes), and to distrust the answer (control tasks);
# - to ask each layer what it would say (logit lens);
# - to find the place where a decision is made, by putting one text's activations into another's (patching), and by taking parts out (ablation);
# - which tokens a prediction comes from (integrated gradients), and why attention is no answer to that.
#
# Time: an hour and a half of reading; the code takes about a minute on two cores. References: Clark et al. 2019 (heads), Hewitt and Liang 2019 (control tasks), nostalgebraist 2020 (logit lens), Vig et al. 2020 and Meng et al. 2022 (patching), Sundararajan et al. 2017 (integrated gradients).

# %%
import dataclasses
import random
import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

import tx_jax
from tx_jax.interpret import (
    ablation,
    attribution,
    capture,
    heads,
    lens,
    patching,
    pictures,
    predictions,
    probes,
    sites,
    view,
)
from tx_jax.interpret.texts import arrays, rows_of_texts, rows_of_words
from tx_jax.models import registry

sys.path.append("../data")  # the generator of the sentences
import make_small_world

DATA = Path("../data")
model = tx_jax.load(DATA / "small_bert", heads=("masked_lm",))
LAYERS, HEADS = model.model.num_layers, model.model.num_heads
print(f"{LAYERS} layers of {HEADS} heads, width {model.model.dim}, {model.model.vocab_size} tokens")
for sentence in ("The keys of the teacher [MASK] old.", "The key of the teachers [MASK] old."):
    (found,) = model.fill_mask(sentence, top=3)
    print(sentence, ", ".join(f"{word} {p:.1%}" for word, p in found))

# %% [markdown]
# ## The object of study
#
# Our patient is a BERT of 4 layers and 4 heads, pretrained for a few minutes on the small world of `make_small_world.py` (notebook 7). It is small enough to look at all of it, and it has learned something that is not trivial: a verb agrees with its subject, **not** with the noun that happens to stand beside it. *The keys of the teacher ___ old*: the nearest noun is singular, the right verb is plural. How does it do that? Where is the number of *keys* kept, and how does it reach the mask? By the end we will know, down to single heads.
#
# Everything inside has a name, as in a parameter tree:

# %%
known = sites.of(model.model)
for name in ("encoder/input", *(name for name in known if "layer_0" in name), "encoder/output"):
    print(f"{name:42} [{', '.join(known[name].axes)}]")

# %% [markdown]
# ## Attention, seen and rebuilt
#
# `view.attention` shows a text's attention as a page in the notebook: choose layer and head, point at a token. (Saved notebooks of this course have no outputs: run the cell.)

# %%
TEXT = "The keys of the teacher [MASK] old."
view.attention(model, TEXT)

# %% [markdown]
# The same as sixteen small pictures: rows are queries (who looks), columns are keys (who is looked at). And so that nothing remains magic, we take the queries and keys of one head and compute the weights ourselves: $\operatorname{softmax}(QK^\top/\sqrt{K})$.

# %%
(row,) = rows_of_texts(model, [TEXT], masks=True)
names = [f"encoder/layer_{i}/attention/{part}" for i in range(LAYERS) for part in ("probabilities", "query", "key")]
(found,) = capture.collect(model, [row], names)

q, k = (found[f"encoder/layer_1/attention/{part}"][:, 0] for part in ("query", "key"))  # [T, K] of head 0
scores = q @ k.T / np.sqrt(q.shape[-1])
weights = np.exp(scores - scores.max(-1, keepdims=True))
weights /= weights.sum(-1, keepdims=True)
assert np.allclose(weights, found["encoder/layer_1/attention/probabilities"][0], atol=1e-5)

fig, axes = plt.subplots(LAYERS, HEADS, figsize=(9, 9), sharex=True, sharey=True, layout="constrained")
for (layer, head), ax in np.ndenumerate(axes):
    ax.imshow(found[f"encoder/layer_{layer}/attention/probabilities"][head], cmap="Blues", vmin=0, vmax=1)
    ax.set_title(f"layer {layer}, head {head}", fontsize=8)
    ax.set_xticks(range(len(row.tokens)), row.tokens, rotation=90, fontsize=6)
    ax.set_yticks(range(len(row.tokens)), row.tokens, fontsize=6)
plt.show()

# %% [markdown]
# ## What heads do, with figures
#
# One sentence invites stories. `heads.patterns` averages over all tokens of many sentences: how much weight goes to the previous token, to the next, to special tokens; how spread out it is (entropy). Clark et al. 2019 did this with BERT and found heads for each. We use the 200 test sentences of the tagging data.


# %%
def read(name):
    """Words and tags of each sentence."""
    blocks = (DATA / name).read_text().strip().split("\n\n")
    pairs = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    return [[w for w, _ in one] for one in pairs], [t for one in pairs for _, t in one]


train_words, train_tags = read("tags.conll")
test_words, test_tags = read("tags_test.conll")
patterns = heads.patterns(model, rows_of_words(model, test_words))
fig, axes = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
for ax, name in zip(axes, ("previous", "next", "special", "entropy")):
    image = ax.imshow(patterns[name], cmap="viridis", vmin=0)
    for (layer, head), value in np.ndenumerate(patterns[name]):
        light = value > 0.6 * patterns[name].max()
        ax.text(head, layer, f"{value:.2f}", ha="center", va="center", color="black" if light else "white", fontsize=8)
    ax.set(xlabel="head", ylabel="layer", xticks=range(HEADS), yticks=range(LAYERS))
    ax.set_title(heads.PATTERNS[name], fontsize=8)
plt.show()
strongest = max((float(patterns[name].max()), name) for name in ("previous", "next"))
print(f"the most one-sided head puts {strongest[0]:.0%} of its weight on the {strongest[1]} token")
assert strongest[0] > 0.5

# %% [markdown]
# Heads that look at a neighbor turn up in nearly every Transformer, in the first layers: with absolute positions, "the token before" must be learned, and many other things are built upon it.
#
# ## Probes: what does a layer know?
#
# A *probe* is a small classifier on the hidden states of a layer. If a linear probe reads the part of speech of a word from layer 2 with 99%, then that information is there, and easy to read. But two questions must be asked before one is glad:
#
# - **What would be right without the model?** The most frequent label of each word needs no hidden states.
# - **Would the probe learn anything?** Hewitt and Liang 2019: give every word a random label (the *control task*), which only memory can learn. The **selectivity** is accuracy minus control accuracy.


# %%
def labeled(one, words, numbers):
    types = tuple(word for sentence in words for word in sentence)
    return probes.Labeled(probes.states_of_words(one, rows_of_words(one, words)), numbers, types)


train_numbers, test_numbers, tag_names = probes.numbered(train_tags, test_tags)
train, test = labeled(model, train_words, train_numbers), labeled(model, test_words, test_numbers)
baseline = probes.baselines(train, test)
probed = probes.probe(train, test, "linear")

fig, ax = plt.subplots(figsize=(6.5, 3.4))
ax.plot(probed.accuracy, marker="o", label="accuracy")
ax.plot(probed.control, marker="o", label="control task")
ax.plot(probed.selectivity, marker="o", label="selectivity")
for style, (name, value) in zip(("--", ":"), baseline.items()):
    ax.axhline(value, linestyle=style, color="gray", label=name)
ax.set(xlabel="layer (0: embeddings)", xticks=range(LAYERS + 1), ylim=(0, 1.05))
ax.legend(frameon=False, fontsize=7, ncols=2, loc="center right")
plt.show()
print("accuracy by layer:", np.round(probed.accuracy, 3))
assert probed.accuracy[1:].max() > baseline["most frequent label of the word"] + 0.01
assert probed.selectivity[-1] > probed.selectivity[0]

# %% [markdown]
# The figures say: in this small grammar most words have one part of speech, so the baseline is high; what is left are words such as *plants* and *waters*, nouns in one sentence and verbs in another. The embeddings see no context, only the word and its position, and guess by these; attention decides. The falling control curve is as telling as the rising one: deeper layers forget *which word* this was, and keep what it *does*.
#
# ## The logit lens: what would each layer say?
#
# Each layer adds to the same residual stream, and the masked LM's head reads its end. Nothing keeps us from giving the head the stream of an earlier layer: *were it the last, what would it predict?* Two sentences with an attractor between subject and verb:


# %%
def look(sentence):
    (question,) = predictions.ask(model, [sentence])
    return np.exp(lens.look(model, question.row).log_probabilities())[:, 0]  # [layers, V]


verbs = [model.tokenizer.encode_words([word])[0][0] for word in ("is", "are")]
fig, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True, layout="constrained")
for ax, sentence in zip(axes, ("The keys near the door [MASK] old.", "The key near the doors [MASK] old.")):
    p = look(sentence)
    for word, i in zip(("is", "are"), verbs):
        ax.plot(p[:, i], marker="o", label=word)
    best = [model.tokenizer.token(int(i)) for i in p.argmax(-1)]
    ax.set_xticks(range(LAYERS + 1), [f"{layer}\n{word}" for layer, word in enumerate(best)])
    ax.set(title=sentence, xlabel="layer, and its likeliest token", ylim=(0, 1.05))
    ax.legend(frameon=False)
axes[0].set_ylabel("probability")
plt.show()
assert look("The keys near the door [MASK] old.")[-1, verbs[1]] > 0.8
assert look("The key near the doors [MASK] old.")[-1, verbs[0]] > 0.8

# %% [markdown]
# Embeddings and first layer say nothing sensible at the mask; then a form of the verb *to be* appears, and only at the end is its number certain. The lens shows *when*. It does not show *from where*.
#
# ## Patching: where is the number?
#
# Two texts that differ in one thing only:
#
# - base: *The **key** near the door [MASK] old.* The model says *is*.
# - donor: *The **keys** near the door [MASK] old.* It says *are*.
#
# We run the base, and at **one** layer and **one** token put in the donor's hidden state. If the prediction turns from *is* to *are*, the number is there. The score is $\text{logit}(are) - \text{logit}(is)$, scaled so that 0 is the base and 1 the donor; we do it for every layer and token, and for eight pairs of nouns.

# %%
NOUNS = ["key", "lamp", "book", "chair", "cup", "hat", "bottle", "coat"]
frame = "The {} near the door [MASK] old."
questions = predictions.ask(model, [frame.format(noun) for noun in NOUNS], ["are"] * 8, ["is"] * 8)
donors = rows_of_texts(model, [frame.format(f"{noun}s") for noun in NOUNS], masks=True)
hidden = [patching.patch(model, q, donor, "hidden") for q, donor in zip(questions, donors)]
restored = np.mean([one.restored for one in hidden], axis=0)
print(
    f"logit(are) - logit(is): base {np.mean([x.base for x in hidden]):.1f}, donor {np.mean([x.donor for x in hidden]):.1f}"
)

tokens = ["[CLS]", "the", "NOUN", *questions[0].row.tokens[3:]]
figure = pictures.heat_map(
    restored,
    [f"layer {i}" if i else "embeddings" for i in range(LAYERS + 1)],
    tokens,
    title="Effect of the donor's hidden state",
    label="0: base, 1: donor",
    limits=(0, 1),
)
display(figure)
noun, mask = tokens.index("NOUN"), tokens.index("[MASK]")
assert restored[0, noun] > 0.99 and restored[-1, mask] > 0.99

# %% [markdown]
# The path is visible: up to layer 1 the number is at the noun, after layer 3 it is at the mask, and nowhere else. In between it **moves**. Only attention moves information between tokens; so we patch single heads there. `part="heads"` puts in what a head has read, at all tokens.

# %%
of_heads = np.mean([patching.patch(model, q, donor, "heads").restored for q, donor in zip(questions, donors)], axis=0)
without, whole = ablation.ablate(model, questions, "heads")
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for ax, values, title in zip(
    axes, (of_heads, without.mean(0)), ("patched: 0 base, 1 donor", "ablated: change of are - is")
):
    limit = 1.5 * np.abs(values).max()
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (layer, head), value in np.ndenumerate(values):
        ax.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=8)
    ax.set(xlabel="head", ylabel="layer", xticks=range(HEADS), yticks=range(LAYERS), title=title)
plt.show()
by_effect = [divmod(int(i), HEADS) for i in np.argsort(-of_heads.ravel())]  # (layer, head), the strongest first
for layer, head in by_effect[:3]:
    print(f"layer {layer}, head {head} restores {of_heads[layer, head]:.0%} of the difference")
carriers = by_effect[:2]
assert sum(of_heads[one] for one in carriers) > 0.6

# %% [markdown]
# Layers of heads count from 0, as in `encoder/layer_0`; in the picture of hidden states *layer 1* is what `layer_0` puts out. Two heads, in two layers that follow each other, carry three quarters of it; all others next to nothing. What do the two look at from the mask? If our story is true, it must be the **subject**, however far away it stands and whatever stands between. We test that on 200 sentences that the story has not seen, with a relative clause or a phrase such as *near the doors* between subject and verb.

# %%
rng, cases = random.Random(11), []
nouns = {**make_small_world.THINGS, **make_small_world.PEOPLE}
nouns = {*nouns, *nouns.values()}
while len(cases) < 200:
    words, place, _ = make_small_world.sentence(rng)
    inside = [i for i in range(place) if words[i] in nouns]
    if words[place] in ("is", "are") and len(inside) == 2:
        cases.append(([*words[:place], "[MASK]", *words[place + 1 :]], inside))
rows = rows_of_texts(model, [" ".join(words) for words, _ in cases], masks=True)
assert all(len(one.ids) == len(words) + 2 for one, (words, _) in zip(rows, cases))  # every word is one token
for layer, head in carriers:
    site = f"encoder/layer_{layer}/attention/probabilities"
    weights = []
    for (words, inside), values in zip(cases, capture.collect(model, rows, [site])):
        from_mask = values[site][head, words.index("[MASK]") + 1]
        weights.append([from_mask[i + 1] for i in inside])
    subject, attractor = np.mean(weights, axis=0)
    print(f"layer {layer}, head {head}: weight from the mask on subject {subject:.2f}, on attractor {attractor:.2f}")
    assert subject > 2 * attractor

# %% [markdown]
# So the story is: at the noun its number is known from the first layer on; two heads, from the mask, look for the subject and fetch its number; the last layer makes *is* or *are* of it. We have it from an intervention (patching), its opposite (ablation) and a prediction about new sentences. That is how a claim about the inside of a model should look; a picture of attention alone would have been an anecdote.
#
# ## Attribution: which tokens does a prediction come from?
#
# Patching asks by pairs of texts. For a single text there are gradients. *Integrated gradients* go in small steps from a neutral text (all words masked) to the real one and add up the gradients along the way:
#
# $$\mathrm{IG}_i = (x_i - x'_i)\cdot\int_0^1 \frac{\partial f\left(x' + \alpha (x - x')\right)}{\partial x_i}\, d\alpha, \qquad \sum_i \mathrm{IG}_i = f(x) - f(x')$$
#
# The second formula, *completeness*, can be checked, and we do. Beside it: occlusion (mask one token, look at what is lost), and attention rollout, which multiplies the attention of all layers and knows nothing about the question.

# %%
(question,) = predictions.ask(model, ["The keys near the door [MASK] old."], ["are"], ["is"])
embedded = attribution.Embedded(model, question)
integrated, missed, steps = attribution.complete(embedded)
occluded = attribution.occlusion(embedded.score, embedded.x, embedded.baseline)
rolled = attribution.rollout(model, question.row)[question.place]
ends = embedded.score(np.stack([embedded.x, embedded.baseline]))
print(f"sum {integrated.sum():.3f}, difference of the scores {ends[0] - ends[1]:.3f}, with {steps} steps")
assert missed < 0.01

tokens = question.row.tokens
fig, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained")
for ax, values, title in zip(
    axes, (integrated, occluded, rolled), ("integrated gradients", "occlusion", "attention rollout")
):
    ax.bar(range(len(tokens)), values)
    ax.set_xticks(range(len(tokens)), tokens, rotation=60)
    ax.axhline(0, color="gray", linewidth=0.5)
    ax.set_title(title, fontsize=9)
plt.show()
assert tokens[int(integrated.argmax())] == tokens[int(occluded.argmax())] == "keys"

# %% [markdown]
# The two methods that ask about the *prediction* agree: *are* comes from *keys*. Rollout spreads its weight over everything, since everything is mixed into the mask's vector; it cannot know that of all this only the number decides between *is* and *are*. "Attention is not explanation" (Jain and Wallace 2019) is no verdict on attention, but on reading more from a picture than it shows.
#
# ## Exercises
#
# 1. Patch with a donor that is the base itself. What must come out, and why is this test worth its line?
# 2. Repeat the patching of hidden states with `part="mlp"` and `part="attention"`. In which layer does attention matter most at the mask?
# 3. Train the probe on a model of the same shape with random parameters. How much of the accuracy was a merit of the training?
# 4. Count, on the 200 sentences, how often the model chooses the right verb without its strongest head; without the strongest two, three, ...; and in the reverse order. What does that say about ablating one head at a time?

# %% [markdown]
# ## Solutions
#
# **1.** Nothing may change: a test of the tool, not of the model. Whoever intervenes checks first that the intervention alone does nothing.

# %%
same = patching.patch(model, questions[0], questions[0].row, "hidden")
print(f"largest change {np.abs(same.scores - same.base).max():.1e}")
assert np.abs(same.scores - same.base).max() < 1e-3

# %% [markdown]
# **2.** At the mask, in the layers of the two heads. The MLPs matter in the first layer at the noun, and then at the mask: they work on what is already there.

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
for ax, part in zip(axes, ("attention", "mlp")):
    grid = np.mean([patching.patch(model, q, d, part).restored for q, d in zip(questions, donors)], axis=0)
    image = ax.imshow(grid, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    ax.set_xticks(range(grid.shape[1]), ["[CLS]", "the", "NOUN", *questions[0].row.tokens[3:]], rotation=60)
    ax.set(title=part, ylabel="layer", yticks=range(LAYERS))
    if part == "attention":
        assert np.unravel_index(grid.argmax(), grid.shape) == (carriers[0][0], mask)
fig.colorbar(image, label="0: base, 1: donor")
plt.show()

# %% [markdown]
# **3.** Random vectors also tell words apart, so the probe learns most of it by heart: a warning. What the training adds is the difference, above all in words with two parts of speech.

# %%
fresh = dataclasses.replace(model, params=registry.init_params(model.model, jax.random.key(0)))
of_fresh = probes.probe(labeled(fresh, train_words, train_numbers), labeled(fresh, test_words, test_numbers), "linear")
print("trained:", np.round(probed.accuracy, 3), "\nrandom: ", np.round(of_fresh.accuracy, 3))
assert probed.accuracy.max() > of_fresh.accuracy.max()

# %% [markdown]
# **4.** Without the strongest head *nothing happens*: the second does its work. Without both, the verb is often wrong, without three it is guessed. In the reverse order seven heads may go, and nothing is lost. Whoever had ablated one head at a time would have concluded that none matters.

# %%
plurals = {*make_small_world.THINGS.values(), *make_small_world.PEOPLE.values()}
plural = np.array([words[inside[0]] in plurals for words, inside in cases])
at = np.array([words.index("[MASK]") + 1 for words, _ in cases])
inputs = {key: jax.numpy.asarray(value) for key, value in arrays(rows, model.model, 24).items()}


@jax.jit
def logits(params, gates):
    output, _ = capture.run(model.model, params, inputs, write=ablation.gated_heads(model.model, gates))
    return output.logits["masked_lm"]


def accuracy(removed):
    gates = np.ones((LAYERS, HEADS), np.float32)
    for one in removed:
        gates[one] = 0
    x = np.asarray(logits(model.params, gates))[np.arange(len(at)), at]
    return np.mean((x[:, verbs[1]] > x[:, verbs[0]]) == plural)


curves = {
    name: [accuracy(order[:n]) for n in range(11)]
    for name, order in (("strongest first", by_effect), ("weakest first", by_effect[::-1]))
}
fig, ax = plt.subplots(figsize=(6, 3))
for name, values in curves.items():
    ax.plot(values, marker="o", label=name)
ax.set(xlabel="heads removed", ylabel="right verb", ylim=(0.3, 1.05))
ax.legend(frameon=False)
plt.show()
assert curves["strongest first"][1] > 0.95 and curves["strongest first"][3] < 0.7
assert curves["weakest first"][7] > 0.95

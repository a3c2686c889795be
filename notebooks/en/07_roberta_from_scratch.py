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
# # 7. A RoBERTa from scratch, from one text file
#
# **What you will learn**
#
# - to go from one text file to a model that fills masks, without downloading anything: tokenizer, data, model, training;
# - how byte-level BPE learns its tokens, by learning the first forty yourself and comparing;
# - the five things that RoBERTa changed in BERT, three of which you will see in the data;
# - where the 83.5 million parameters of the course's model, KantaiBERT, are;
# - to say with figures what a model has learned, and what it cannot have learned.
#
# Time: about an hour of reading; the code takes a minute and a half on two cores. References: Liu et al. 2019, *RoBERTa: A Robustly Optimized BERT Pretraining Approach*; Sennrich et al. 2016 (BPE).

# %%
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import tx_jax
from tx_jax import text, tree
from tx_jax.config import from_config_dict
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare
from tx_jax.interpret import texts
from tx_jax.models import registry
from tx_jax.tasks.registry import open_task

sys.path += ["../..", "../data"]  # the clone, for its folder configs; and the generator of the text
import make_small_world

from configs import kantaibert

folder = tempfile.TemporaryDirectory()
WORK = Path(folder.name)

# %% [markdown]
# ## The text
#
# KantaiBERT, in the course that this notebook follows, is trained on some megabytes of Kant. Two minutes do not suffice for that: this program, with two layers of width 128, on 300,000 characters of Shakespeare, found 18.0% of the masked tokens after 1,200 steps, little more than frequencies give. So we take a text whose world is small. It was written by a grammar (`notebooks/data/make_small_world.py`): people in places who do what one does there, sentences whose verbs agree with their subjects, and facts that are asked about a little later. Two hundred and some words, but real regularities, of which we know what there is to be learned. That is an advantage: of a model of Kant nobody could say what it ought to know.

# %%
source = WORK / "world.txt"
source.write_text(make_small_world.texts(make_small_world.document, 4000, seed=7))
corpus = source.read_text()
print(
    f"{len(corpus):,} characters, {len(corpus.split()):,} words, {len(set(corpus.lower().split())):,} different ones\n"
)
print(corpus[:900])

# %% [markdown]
# ## The tokenizer
#
# BPE (*byte pair encoding*) begins with single characters and repeats one step: find the most frequent pair of neighbors inside words, and make it a token. After as many steps as you like, the list of merges is the tokenizer. Twenty lines do it. Ours writes the space before a word as `Ġ`, as GPT-2 and RoBERTa do, so that "the" at the start of a word and "the" inside of *mother* are different tokens.


# %%
def learn_merges(corpus, count):
    frequency = Counter("Ġ" + word for word in corpus.replace(".", " .").replace("?", " ?").split())
    pieces = {word: list(word) for word in frequency}
    for _ in range(count):
        pairs = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += frequency[word]
        (left, right), times = max(pairs.items(), key=lambda item: item[1])
        yield left + right, times
        for word, parts in pieces.items():
            joined = []
            for part in parts:
                merges = joined and (joined[-1], part) == (left, right)
                joined[-1:] = [left + right] if merges else [*joined[-1:], part]
            pieces[word] = joined


mine = list(learn_merges(corpus, 40))
print(", ".join(f"{token} {times:,}" for token, times in mine))

# %% [markdown]
# The library's tokenizer does the same on bytes instead of characters (so that no text of any language is unknown), and much faster. Are its first merges ours?

# %%
tokenizer = text.train("byte_bpe", corpus.split("\n\n"), vocab_size=1000)
tokenizer.save(WORK / "tokenizer")
merges = (WORK / "tokenizer/merges.txt").read_text().splitlines()
theirs = ["".join(line.split()) for line in merges if not line.startswith("#")][:40]
common = {token for token, _ in mine} & set(theirs)
print(f"{len(common)} of 40 in common; only ours: {sorted({t for t, _ in mine} - common)}")
assert len(common) >= 35

for sentence in ("The farmer plants a tree.", "the farmer plants a tree", "Un año después llegó la señora."):
    ids = tokenizer.encode(sentence)
    print(tokenizer.tokens(ids))
    assert tokenizer.decode(ids) == sentence

# %% [markdown]
# The frequent words of this world are one token; Spanish, which it never saw, falls apart into bytes (`ñ` is two of them), but comes back exactly. BERT's WordPiece would have given `[UNK]`.
#
# ## The data: what RoBERTa changed
#
# RoBERTa is BERT's architecture. What changed is how it is trained (Liu et al. 2019, section 4):
#
# 1. **dynamic masking**: a sequence is masked anew each time it is seen, instead of once in preprocessing (4.1);
# 2. **no next-sentence prediction**, and rows filled with whole sentences, across documents (*full sentences*, 4.2);
# 3. larger batches (4.3): 8,192 sequences instead of 256;
# 4. byte-level BPE with 50,000 tokens (4.4);
# 5. more data and longer training (5): 160 GB of text.
#
# The first, second and fourth are in our configuration. We prepare the token store, then look at what the model will read.

# %%
prepared = prepare(
    PrepareConfig(
        WORK / "store",
        SourceConfig(specs=(str(source),)),
        tokenizer=str(WORK / "tokenizer"),
        validation_fraction=0.05,
        workers=1,
    )
)
for split, counts in prepared.meta["splits"].items():
    print(split, {name: counts[name] for name in ("documents", "sentences", "tokens")})

c = kantaibert.get_config()
c.model.vocab_size = tokenizer.vocab_size
c.model.dim, c.model.num_layers, c.model.num_heads, c.model.mlp_dim = 64, 2, 4, 128
c.model.max_length = 64
c.model.dropout = c.model.attention_dropout = 0.0  # a minute is too short to overfit
c.model.init_stddev = 0.1  # about 1 / sqrt(dim); 0.02 is for models ten times as wide
c.data.store = str(WORK / "store")
c.data.sequence_length, c.data.max_predictions = 32, 5
task = open_task(from_config_dict(c))
batches = task.batches("train", batch_size=4, repeat=True)
row = batches.batch_at(0)
print(tokenizer.decode(row["tokens"][0]))

# %% [markdown]
# Of the tokens 15% are chosen, and of these 80% become `<mask>`, 10% a random token and 10% stay as they are, as in BERT. Let us count, and see whether a sequence that comes back in a later epoch is masked elsewhere.

# %%
fates, seen = Counter(), {}
for step in range(6000):
    batch = batches.batch_at(step)
    for i in range(4):
        original = batch["tokens"][i].copy()
        used = batch["masked_weights"][i] > 0
        places, targets = batch["masked_positions"][i][used], batch["masked_targets"][i][used]
        for now, before in zip(original[places], targets):
            fates["mask" if now == tokenizer.mask_id else "kept" if now == before else "random"] += 1
        fates["tokens"] += int(batch["valid"][i].sum())
        original[places] = targets
        seen.setdefault(original.tobytes(), []).append(places)
chosen = fates["mask"] + fates["kept"] + fates["random"]
print(f"chosen {chosen / fates['tokens']:.1%} of the tokens")
shares = {name: fates[name] / chosen for name in ("mask", "random", "kept")}
print({name: f"{share:.1%}" for name, share in shares.items()})
assert abs(shares["mask"] - 0.8) < 0.01 and abs(shares["kept"] - 0.1) < 0.01

again = next(places for places in seen.values() if len(places) >= 3)
fig, ax = plt.subplots(figsize=(8, 1.6))
for epoch, places in enumerate(again[:3]):
    ax.scatter(places, [epoch] * len(places), marker="s", s=28)
ax.set(xlim=(0, 32), ylim=(2.5, -0.5), yticks=range(3), xlabel="position in the row", ylabel="epoch")
plt.show()
assert set(again[0]) != set(again[1])

# %% [markdown]
# ## The model
#
# KantaiBERT has six layers of width 768. Where are its parameters? A shape costs no memory: `param_shapes` computes them all without allocating one, and we add them up by their paths.


# %%
def parameters(config):
    """The number of parameters of each part."""
    found = Counter()
    for path, leaf in tree.flatten(registry.param_shapes(config)).items():
        part = (
            "layers: attention" if "/attention/" in path else "layers: MLP" if "/mlp/" in path else path.split("/")[0]
        )
        found["layers: norms" if part == "encoder" else part] += int(np.prod(leaf.shape))
    return found


published, ours = (parameters(from_config_dict(x).model) for x in (kantaibert.get_config(), c))
for name, count in published.items():
    print(f"{name:20} {count:12,} {ours[name]:10,}")
print(f"{'all':20} {published.total():12,} {ours.total():10,}")
assert published.total() == 83_504_416

# %% [markdown]
# Almost half of them are the table of 52,000 tokens; the output layer uses the same table (tied weights), and only adds a bias for each token. Positions begin at 2: RoBERTa counts them from its padding's index plus one, a quirk of its first implementation that all its descendants have (`position_offset`).
#
# ## Training
#
# The recipe is KantaiBERT's with a higher learning rate, since a small model and little time want one. `tx_jax.train` writes everything into a run directory: the configuration, the metrics, checkpoints.

# %%
c.optimizer.learning_rate, c.optimizer.warmup_steps, c.optimizer.beta2 = 4e-3, 100, 0.98
c.training.num_steps, c.training.batch_size = 3000, 32
c.training.log_every, c.training.eval_every, c.training.checkpoint_every = 50, 250, 3000
c.training.eval_batches, c.training.keep_best = 0, 0
metrics = tx_jax.train(c, WORK / "kantai", progress=False)["validation"]
print({name: round(value, 3) for name, value in metrics.items()})

# %%
loader = task.batches("validation", batch_size=64, repeat=False)
held_out = [loader.batch_at(step) for step in range(len(loader))]
baselines = task.baselines(held_out, "validation")
log = [json.loads(line) for line in (WORK / "kantai/metrics.jsonl").read_text().splitlines()]
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for ax, name in zip(axes, ("masked_lm_loss", "masked_lm_accuracy")):
    for split in ("train", "validation"):
        rows = [row for row in log if row["split"] == split and name in row]
        ax.plot([row["step"] for row in rows], [row[name] for row in rows], label=split)
    ax.axhline(baselines[name][0], linestyle="--", color="gray", label=baselines[name][1])
    ax.set(xlabel="step", title=name)
    ax.legend(frameon=False, fontsize=7)
plt.show()
assert metrics["masked_lm_loss"] < baselines["masked_lm_loss"][0] - 1.5
assert metrics["masked_lm_accuracy"] > baselines["masked_lm_accuracy"][0] + 0.2

# %% [markdown]
# The dashed lines are what needs no model at all: always the most frequent token, and the entropy of the frequencies. For a while the model is there, too: the first thing it learns is which words are frequent. Then the curve falls, steeply at first, and later in small steps, each of which is something that attention has found.
#
# ## Filling masks

# %%
model = tx_jax.load(WORK / "kantai")
for sentence in (
    "Ana is in the<mask>. She plants a tree. There she waters the flowers.",
    "Ana is in the hospital.<mask> calls the nurse.",
    "Luis is in the hospital.<mask> calls the nurse.",
    "The keys of the teacher<mask> old.",
    "The key of the teachers<mask> old.",
    "The lamp is in the garden. Pedro has the key. Where is the lamp? The lamp is in the<mask>.",
):
    (found,) = model.fill_mask(sentence, top=3)
    print(sentence, "\n     ", ", ".join(f"{word} {p:.0%}" for word, p in found))

# %% [markdown]
# Each of these sentences asks for something else: knowledge of the world (what one does where), agreement in gender (*She*, *He*), agreement in number across an *attractor* (*keys of the teacher*), and copying a fact from two sentences before. Single examples prove nothing. We make 200 fresh sentences of each kind, by the same grammar with another seed, and count.

# %%
rng = random.Random(99)


def examples(kind):
    """A text with a mask, and the right word."""
    if kind == "place":
        place = rng.choice(list(make_small_world.PLACES))
        one, two = rng.sample(make_small_world.PLACES[place], 2)
        return f"Ana is in the<mask>. She {one}. There she {two}.", place
    if kind == "gender":
        name, pronoun = make_small_world.person(rng)
        place = rng.choice(list(make_small_world.PLACES))
        return f"{name} is in the {place}.<mask> {make_small_world.PLACES[place][0]}.", pronoun.capitalize()
    if kind == "number":
        words, place = [], 0
        while not (words and words[place] in ("is", "are") and place > 3):
            words, place, _ = make_small_world.sentence(rng)
        masked = make_small_world.text([*words[:place], "<mask>", *words[place + 1 :]])
        return masked.replace(" <mask>", "<mask>"), words[place]
    while True:
        story, asked = make_small_world.facts(rng)
        for question, answer, sentence in asked:
            if answer.startswith("in the"):
                place = answer.split()[-1]
                return f"{story} {question} {sentence.replace(' ' + place + '.', '<mask>.')}", place


@jax.jit
def likeliest(params, tokens, valid):
    return model.apply(params, tokens, valid_BT=valid).logits["masked_lm"].argmax(-1)


def score(model, count=200):
    found = {}
    for kind in ("place", "gender", "number", "copy"):
        made = [examples(kind) for _ in range(count)]
        inputs = texts.arrays(texts.rows_of_texts(model, [masked for masked, _ in made], masks=True), model.model, 64)
        best = np.asarray(likeliest(model.params, inputs["tokens"], inputs["valid"]))
        guesses = [tokenizer.decode(row[ids == tokenizer.mask_id]).strip() for row, ids in zip(best, inputs["tokens"])]
        found[kind] = np.mean([guess == word for guess, (_, word) in zip(guesses, made)])
    return found


chance = {"place": 0.1, "gender": 0.5, "number": 0.5, "copy": 0.1}
found = score(model)
fig, ax = plt.subplots(figsize=(6, 2.8))
ax.bar(range(4), list(found.values()), width=0.5, label="model")
ax.scatter(range(4), list(chance.values()), marker="_", s=900, color="black", label="guessing among the possible words")
ax.set_xticks(range(4), found)
ax.set(ylim=(0, 1.05), ylabel="right at first try")
ax.legend(frameon=False, fontsize=8)
plt.show()
print({name: f"{value:.0%}" for name, value in found.items()})
assert found["place"] > 0.5 and found["number"] > 0.85

# %% [markdown]
# Not all of it is learned to the same degree in a minute, and the order is instructive. What is decided **inside a sentence** comes first: after 1,600 steps the verb already agreed with its subject in all of 200 sentences, whereas the places were hardly better than guesses (20%). What needs **another sentence** comes later: by 3,000 steps the place is known, *She* or *He* for a name not yet, or hardly. And copying needs two steps of attention: find the sentence that has the same subject, then fetch its last word. Networks learn that late and rather suddenly. This one has not: its answers to the last question are guesses among the places. Neither has the larger model of the next notebook, where we shall catch it at that.
#
# ## Taking it home
#
# The model is a run directory now. `to_hf` writes it in the format of Hugging Face, where any program that reads RoBERTa can open it, and so can ours.

# %%
print(model.to_hf(WORK / "huggingface"))
for path in sorted((WORK / "huggingface").iterdir()):
    print(f"{path.name:26} {path.stat().st_size:10,} bytes")
again = tx_jax.load(WORK / "huggingface")
sentence = "Ana is in the<mask>. She plants a tree."
ours, theirs = (one.fill_mask(sentence, top=3)[0] for one in (model, again))
assert [word for word, _ in ours] == [word for word, _ in theirs]
assert np.allclose([p for _, p in ours], [p for _, p in theirs], atol=1e-4)

# %% [markdown]
# ## Exercises
#
# 1. How many tokens does a word take with vocabularies of 280, 400, 600, 1,000 and 2,000 tokens? From which size on does a larger vocabulary bring nothing in this world?
# 2. With `c.data.mask_unit = "whole_word"` all pieces of a word are masked together. Make a tokenizer of 300 tokens, and show a row with each unit. Why is the task harder?
# 3. Look up the nearest neighbors of *garden*, *red*, *Ana* and *is* by the cosine of their rows in the token table. Nobody told the model about parts of speech.
# 4. A model that was not trained: what loss do you expect of it, and why? Compute it with `model.apply` and parameters from `registry.init_params`.

# %% [markdown]
# ## Solutions
#
# **1.** More tokens, fewer pieces, until every word of this small world is one token.

# %%
sizes, per_word = (280, 400, 600, 1000, 2000), []
for size in sizes:
    one = text.train("byte_bpe", corpus.split("\n\n"), vocab_size=size)
    ids = one.encode(corpus[:20_000])
    per_word.append(len(ids) / len(corpus[:20_000].split()))
    print(f"asked for {size:5}, got {one.vocab_size:5}: {per_word[-1]:.2f} tokens per word")
assert per_word[0] > 2 * per_word[2] and per_word[2] > per_word[3] > 1

# %% [markdown]
# More than 1 remains because the points and question marks are tokens, too. The text has no more merges to offer than its words need: asked for more, the training gives fewer.
#
# **2.** With single tokens the rest of the word gives the answer away: `Ġgar` is followed by `den`. The whole word must be guessed from the sentence.

# %%
small = text.train("byte_bpe", corpus.split("\n\n"), vocab_size=300)
small.save(WORK / "small_tokenizer")
options = {"tokenizer": str(WORK / "small_tokenizer"), "validation_fraction": 0.05, "workers": 1}
prepare(PrepareConfig(WORK / "small_store", SourceConfig(specs=(str(source),)), **options))
for unit in ("token", "whole_word"):
    other = kantaibert.get_config()
    other.model.vocab_size, other.data.store, other.data.mask_unit = small.vocab_size, str(WORK / "small_store"), unit
    other.data.sequence_length = 64
    row = open_task(from_config_dict(other)).batches("train", batch_size=1, repeat=True).batch_at(3)
    print(f"{unit}: {' '.join(small.tokens(row['tokens'][0]))}\n")
    alone = [small.tokens([i])[0] for i, w in zip(row["masked_targets"][0], row["masked_weights"][0]) if w]
    print("  to predict:", alone)

# %% [markdown]
# **3.** Words that stand in the same places get similar rows.

# %%
from tx_jax.evaluation import domain

near = domain.neighbours(model, ["garden", "red", "Ana", "is"], top=5)
for word, others in near.items():
    print(f"{word:8}", ", ".join(f"{other.strip('Ġ')} {cosine:.2f}" for other, cosine in others))
places = {f"Ġ{place}" for place in make_small_world.PLACES}
assert sum(other in places for other, _ in near["garden"]) >= 3

# %% [markdown]
# **4.** About $\ln V$, as if all tokens were equally probable; a little more, because random logits are not quite uniform.

# %%
batch = held_out[0]
fresh = registry.init_params(model.model, jax.random.key(0))
logits = model.apply(fresh, jnp.asarray(batch["tokens"]), valid_BT=jnp.asarray(batch["valid"])).logits["masked_lm"]
log_p = np.asarray(jax.nn.log_softmax(logits))
places, targets, weights = (batch[f"masked_{name}"] for name in ("positions", "targets", "weights"))
of_targets = log_p[np.arange(len(places))[:, None], places, targets]
loss = -(of_targets * weights).sum() / weights.sum()
print(f"loss {loss:.2f}, ln V = {np.log(model.model.vocab_size):.2f}")
assert abs(loss - np.log(model.model.vocab_size)) < 1.5

# %%
folder.cleanup()

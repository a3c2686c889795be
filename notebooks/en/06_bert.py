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
# # 6. BERT
#
# **What you will learn**
#
# - what BERT reads: pairs of sentences with `[CLS]`, `[SEP]` and segments;
# - to mask by hand, 80/10/10, and to compute the loss of the masked language model;
# - how the model turns a vector into a word: the output layer, rebuilt with numpy;
# - to pretrain a small BERT in a minute, and to read its curves;
# - what it has learned (agreement, context, which sentences belong together) and what it has not.
#
# Time: an hour of reading; the code takes one to two minutes. Reference: Devlin et al. 2018, *BERT: Pre-training of Deep Bidirectional Transformers*. It is `make quickstart-long` from the inside, in Spanish and in small.

# %%
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import tx_jax
from tx_jax import tree

sys.path.insert(0, "../..")  # the clone, for its configs
work = tempfile.TemporaryDirectory()
source = Path("../data/stories.txt")
print(source.read_text(encoding="utf-8")[:600])

# %% [markdown]
# ## From text to numbers
#
# The text is 800 short stories from a grammar of our own (`notebooks/data/make_stories.py`), each about one person in one place. `prepare` does three things: it trains a WordPiece vocabulary (notebook 1), splits the documents into sentences, and stores them as numbers. One document in ten or so is held out for evaluation. We ask for 640 tokens, since there are no more to be had from this text: with them each of its 233 words is a token of its own, and WordPiece has nothing left to join (ask it for 800, and it gives 640).
#
# For Spanish one has to say that accents are kept: the original BERT strips them, and then *año* (year) and *ano* (anus) are the same word.

# %%
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare
from tx_jax.data.corpus.token_store import TokenStore

path = Path(work.name) / "store"
prepare(PrepareConfig(
    store=path, source=SourceConfig(specs=(str(source),)), vocab_size=640, strip_accents=False,
    validation_fraction=0.1, workers=1,
))  # fmt: skip
store = TokenStore.open(path)
tokenizer = store.tokenizer()
for split in ("train", "validation"):
    print(split, {name: store.meta["splits"][split][name] for name in ("documents", "sentences", "tokens")})
print(tokenizer.vocab_size, "tokens:", tokenizer.tokens(tokenizer.encode("Lucía está en la estación.")))

# %% [markdown]
# ## What BERT reads
#
# An input of BERT is a pair of segments, A and B (figure 2 of the paper):
#
# $$\texttt{[CLS]}\ A_1 \dots A_n\ \texttt{[SEP]}\ B_1 \dots B_m\ \texttt{[SEP]}$$
#
# Three vectors are added for each token: its own, that of its position and that of its segment (0 for A, 1 for B). Each input gives **two tasks** without anybody having labeled anything:
#
# 1. **Masked language model** (MLM): hide 15% of the tokens and guess them.
# 2. **Next sentence** (NSP): half of the time B really follows A; the other half it is from another document. Which is it?
#
# We begin with the configuration of `make quickstart-long`, smaller, and ask it for a batch:

# %%
from configs import quickstart
from tx_jax.config import from_config_dict
from tx_jax.data.pretraining import preview
from tx_jax.data.pretraining.batches import masked_lm_batches

config = quickstart.get_config("long")
config.model.update(vocab_size=store.vocab_size, dim=64, mlp_dim=128, num_layers=2, num_heads=4, max_length=64)
config.data.update(store=str(path), sequence_length=64, max_predictions=10)
config.optimizer.update(learning_rate=4e-3, warmup_steps=150)
config.training.update(num_steps=1500, batch_size=32, log_every=50, eval_every=100, eval_batches=0)
config.training.update(checkpoint_every=1500, keep_best=0)
config.phases.update(dict.fromkeys(config.phases, ()))  # one phase: the same length throughout

loader = masked_lm_batches(store, "train", from_config_dict(config).data, batch_size=32, seed=0, repeat=True)
batch = loader.batch_at(0)
examples = preview.examples(batch, tokenizer)
for example in [next(one for one in examples if one.follows is truth) for truth in (True, False)]:
    print("B follows A:" if example.follows else "B is from elsewhere:")
    shown = [p.seen if p.kind in ("text", "special") else f"{p.seen}<-{p.text.strip()}" for p in example.pieces]
    print("".join(shown), "\n")


# %% [markdown]
# `a<-b` means: the model sees `a` and has to say `b`. Not all of the chosen tokens appear as `[MASK]`. The paper (section 3.1) divides them: 80% `[MASK]`, 10% a random word, 10% the same word. If it always were `[MASK]`, the model would have to think only where it sees one, and in fine-tuning, where there is none, it would not know what to do. Let us program it:

# %%
def corrupt(tokens, rng, rate=0.15):
    ordinary = np.setdiff1d(np.arange(tokenizer.vocab_size), tokenizer.special_ids)
    chosen = (rng.random(tokens.shape) < rate) & np.isin(tokens, ordinary)
    kind = rng.random(tokens.shape)
    seen = np.where(chosen & (kind < 0.8), tokenizer.mask_id, tokens)
    random = chosen & (kind >= 0.8) & (kind < 0.9)
    return np.where(random, rng.choice(ordinary, tokens.shape), seen), chosen


rng = np.random.default_rng(0)
tokens = np.tile(tokenizer.encode("Lucía está en la estación."), (20_000, 1))
seen, chosen = corrupt(tokens, rng)
ours = {
    "chosen": chosen.mean(),
    "mask": (seen == tokenizer.mask_id)[chosen].mean(),
    "kept": (seen == tokens)[chosen].mean(),
}
theirs = preview.statistics((loader.batch_at(step) for step in range(50)), tokenizer)
print({name: round(float(value), 3) for name, value in ours.items()})
print({name: round(theirs[name], 3) for name in ("chosen", "mask", "random", "kept", "follows")})
assert abs(ours["mask"] - 0.8) < 0.02 and abs(theirs["mask"] - 0.8) < 0.02
assert abs(theirs["follows"] - 0.5) < 0.1

# %% [markdown]
# ## The model
#
# An encoder of two layers (notebook 4) with two **heads**, here in the other sense of the word: output layers. Let us see where the parameters are.

# %%
from tx_jax.models import registry

shape = from_config_dict(config).model
shapes = tree.flatten(registry.param_shapes(shape))
parts = {}
for name, value in shapes.items():
    part = name.split("/")[0]
    parts[part] = parts.get(part, 0) + value.size
print(parts, "in all:", sum(parts.values()))
print([f"{name} {value.shape}" for name, value in shapes.items() if name.startswith("masked_lm")])
assert sum(parts.values()) == registry.num_params(shape)


# %% [markdown]
# The output layer of the MLM has no $D \times V$ matrix of its own: it reuses the table of embeddings $E$ (*tied* weights). If $h$ is the vector of the last layer at a position,
#
# $$\text{logits} = E \cdot \operatorname{LayerNorm}\big(\operatorname{GELU}(W h + c)\big) + b$$
#
# that is: the model builds a vector and compares it with that of *each word* of the vocabulary. Let us check it with untrained parameters.

# %%
def logits_by_hand(params, hidden):
    head, table = params["masked_lm"], params["embeddings"]["token"]["embedding"]
    h = hidden @ head["transform"]["kernel"] + head["transform"]["bias"]
    h = jax.nn.gelu(h, approximate=False)
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + shape.layer_norm_eps)
    return (h * head["norm"]["scale"] + head["norm"]["bias"]) @ table.T + head["bias"]


untrained = registry.init_params(shape, jax.random.key(0))
names = {"segments_BT": "segments", "valid_BT": "valid", "masked_positions_BP": "masked_positions"}
inputs = {name: batch[key] for name, key in names.items()}
output = registry.build(shape).apply({"params": untrained}, batch["tokens"], **inputs, deterministic=True)
rows = np.arange(32)[:, None]
ours = logits_by_hand(untrained, output.hidden[rows, batch["masked_positions"]])
print("largest difference:", float(jnp.abs(ours - output.logits["masked_lm"]).max()))
assert jnp.allclose(ours, output.logits["masked_lm"], atol=1e-4)


# %% [markdown]
# The **loss** is the cross-entropy, at the chosen positions alone: $-\log p(\text{true token})$, on average. What should one compare it with? Who knows nothing spreads the probability evenly over $V$ tokens: $\log V$. Who only knows which tokens are frequent reaches the entropy of the unigrams. A model that does not get below that has not understood a single sentence.

# %%
def masked_loss(logits, batch):
    log_probs = jax.nn.log_softmax(logits)
    each = -jnp.take_along_axis(log_probs, batch["masked_targets"][..., None], axis=-1)[..., 0]
    return float((each * batch["masked_weights"]).sum() / batch["masked_weights"].sum())


counts = np.asarray(store.split("train").unigram, float)
counts[list(tokenizer.special_ids)] = 0
shares = counts[counts > 0] / counts.sum()
unigrams = float(-(shares * np.log(shares)).sum())
print(f"log V {np.log(store.vocab_size):.2f}, unigrams {unigrams:.2f}, untrained {masked_loss(ours, batch):.2f}")
assert masked_loss(ours, batch) > unigrams

# %% [markdown]
# ## Pretraining
#
# 1500 steps of 32 pairs. While it runs, a prediction: which task will be learned first, guessing words or telling whether two segments belong together?

# %%
metrics = tx_jax.train(config, workdir=Path(work.name) / "run")["validation"]
{name: round(value, 3) for name, value in metrics.items()}

# %%
from tx_jax.runs import metrics_log

records = [r for r in metrics_log.read(Path(work.name) / "run") if r["split"] == "validation"]
steps = [r["step"] for r in records]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(steps, [r["masked_lm_loss"] for r in records], "o-", label="masked LM")
left.axhline(unigrams, color="gray", ls=":", label="unigrams")
left.set(xlabel="step", ylabel="held-out loss, nats", ylim=(0, None))
for name in ("masked_lm_accuracy", "next_sentence_accuracy"):
    right.plot(steps, [r[name] for r in records], "o-", label=name)
right.set(xlabel="step", ylabel="held-out accuracy", ylim=(0, 1))
left.legend()
right.legend()
assert metrics["masked_lm_loss"] < unigrams - 2
assert metrics["next_sentence_accuracy"] > 0.8

# %% [markdown]
# Next sentence comes first: it is enough to notice that *andén* (platform) and *cebolla* (onion) are not from the same story. The MLM takes longer: it begins with frequencies, and has to discover that it can *look* at the words around, and at which. With real text that may take thousands of steps in which the loss hardly moves, and then it falls as over a step.
#
# ## What has it learned?

# %%
model = tx_jax.load(Path(work.name) / "run")
texts = [
    "Ana está en el banco. Ella cuenta el [MASK].",
    "Lucía se sienta en el [MASK] de madera.",
    "El [MASK] sale tarde.",
    "Él lleva la maleta [MASK].",
    "Él mira el perro [MASK].",
]
for text in texts:
    (best,) = model.fill_mask(text, top=4)
    print(f"{text:46}", ", ".join(f"{word} {p:.2f}" for word, p in best))
assert model.fill_mask(texts[0])[0][0][0] == "dinero"

# %% [markdown]
# The last two are a small test of grammar: *maleta* (suitcase) wants a feminine adjective, *perro* (dog) a masculine one. Let us measure it: of the probability that the model gives to the eight adjectives, how much goes to the right gender?

# %%
adjectives = ["nuev", "viej", "pequeñ", "bonit", "blanc", "roj", "negr", "amarill"]
right = {}
for text, gender in {
    "Él lleva la maleta [MASK].": "a", "Ella lava el plato [MASK].": "o", "Ella abre el libro [MASK].": "o",
    "Él compra la naranja [MASK].": "a", "Ella mira la bicicleta [MASK].": "a", "Él elige el queso [MASK].": "o",
}.items():  # fmt: skip
    found = dict(model.fill_mask(text, top=store.vocab_size)[0])
    mass = {end: sum(found.get(f"{stem}{end}", 0) for stem in adjectives) for end in "ao"}
    right[text] = mass[gender] / (mass["a"] + mass["o"])
print({text: round(share, 3) for text, share in right.items()})
assert np.mean(list(right.values())) > 0.7

# %% [markdown]
# Nobody has told it what gender is.
#
# **Context, from both sides.** Where is Ana? The answer comes *after* the gap; a model that reads from left to right could not know it.

# %%
riddles = {
    "Ana está en el [MASK]. Ella cuenta el dinero.": "banco",
    "Ana está en el [MASK]. Ella pregunta el precio.": "mercado",
    "Ana está en el [MASK]. Ella tiene mucha fiebre.": "hospital",
    "Ana está en el [MASK]. Ella pasea entre las flores.": "parque",
    "Ana está en la [MASK]. Ella sube al vagón.": "estación",
    "Ana está en la [MASK]. Ella bate los huevos.": "cocina",
}
solved = []
for text, place in riddles.items():
    (best,) = model.fill_mask(text, top=2)
    solved.append(best[0][0] == place)
    print(f"{text:52}", ", ".join(f"{word} {p:.2f}" for word, p in best))
assert sum(solved) >= 5

# %% [markdown]
# Where does it get it from? Let us look at the row of `[MASK]` in the attention of each head (notebooks 3 and 11 explain how to read it).

# %%
from tx_jax.interpret import view

(kind,) = view.attention(model, "Ana está en el [MASK]. Ella cuenta el dinero.").kinds
place = kind.queries.index("[MASK]")
rows = kind.weights[:, :, place].reshape(8, -1)  # [layers x heads, keys]
fig, ax = plt.subplots(figsize=(7, 3))
image = ax.imshow(rows, cmap="Blues", vmin=0, vmax=1, aspect="auto")
ax.set_xticks(range(len(kind.keys)), kind.keys, rotation=50, ha="right")
ax.set_yticks(range(8), [f"layer {i // 4}, head {i % 4}" for i in range(8)])
fig.colorbar(image, label="weight")
assert np.allclose(rows.sum(axis=1), 1, atol=1e-3)


# %% [markdown]
# **The next sentence.** The NSP head reads the vector of `[CLS]` and gives two logits; 0 is "B follows A". Let us cut the held-out stories in two, those that BERT was not trained on, and give each beginning its own ending, and then the ending of the next story. (Four in five of their sentences occur in other stories too; none of the stories does.)

# %%
@jax.jit
def next_sentence(params, tokens, segments, valid):
    logits = model.apply(params, tokens, segments_BT=segments, valid_BT=valid).logits["next_sentence"]
    return jax.nn.softmax(logits)[:, 0]


def follows(firsts, seconds):
    tokens, segments, valid = np.zeros((3, len(firsts), 64), int)
    for row, (first, second) in enumerate(zip(firsts, seconds)):
        a, b = tokenizer.encode(first), tokenizer.encode(second)
        ids = [tokenizer.cls_id, *a, tokenizer.sep_id, *b, tokenizer.sep_id][:64]
        tokens[row, : len(ids)], valid[row, : len(ids)] = ids, 1
        segments[row, len(a) + 2 : len(ids)] = 1
    return np.asarray(next_sentence(model.params, tokens, segments, valid > 0))


def joined(sentences):
    return " ".join(f"{text.rstrip('.')}." for text in sentences)


held_out = store.split("validation")
bounds = held_out.sentence_offsets[held_out.document_offsets]  # where each story begins
unseen = {tuple(held_out.read(bounds[i : i + 1], bounds[i + 1 : i + 2])) for i in range(held_out.num_documents)}
stories = [story.strip() for story in source.read_text(encoding="utf-8").split("\n\n")]
told = [story.split(". ") for story in stories if tuple(tokenizer.encode(story)) in unseen]
told = [story for story in told if len(story) >= 5]
begins, ends = [joined(story[:3]) for story in told], [joined(story[3:]) for story in told]
other_ends = [*ends[1:], ends[0]]
own, others = follows(begins, ends), follows(begins, other_ends)
print(f"{len(told)} stories: its own ending {own.mean():.2f}, that of the next story {others.mean():.2f}")
print(f"{own[0]:.3f} {begins[0]} | {ends[0]}")
print(f"{others[0]:.3f} {begins[0]} | {other_ends[0]}")
assert len(told) > 40 and np.mean(own) > np.mean(others) + 0.3

# %% [markdown]
# ## Sentences as vectors
#
# `encode` averages the vectors of the last layer. Without ever having seen a label of a place, the model puts sentences together that happen in the same one. Let us draw the two principal directions.

# %%
from tx_jax.interpret.contexts import plane
from tx_jax.interpret.vectors import similarities

scenes = {
    "kitchen": ["Ella corta la cebolla.", "Él prueba la sopa.", "El agua hierve.", "Ella lava el plato."],
    "beach": ["Él nada en el mar.", "Las olas llegan a la arena.", "Ella toma el sol.", "El agua está fría."],
    "station": ["Él espera el tren.", "El revisor pide los billetes.", "Ella sube al vagón.", "El tren sale tarde."],
    "bank": ["Ella saca dinero.", "Él paga las facturas.", "El cajero le da el cheque.", "Él cuenta el dinero."],
}
sentences = [text for texts in scenes.values() for text in texts]
labels = np.repeat(list(scenes), 4)
vectors = model.encode(sentences)
points = plane(vectors, "pca")
fig, ax = plt.subplots(figsize=(8, 5.5))
for scene in scenes:
    ax.scatter(*points[labels == scene].T, label=scene)
for point, text in zip(points, sentences):
    ax.annotate(text, point, fontsize=8, xytext=(4, 4), textcoords="offset points")
ax.margins(0.2)
ax.legend()
plt.show()

# %%
cosines = similarities(vectors, vectors)
same = (labels[:, None] == labels) & ~np.eye(16, dtype=bool)
print(
    f"mean cosine, same place {cosines[same].mean():.2f}, other places {cosines[labels[:, None] != labels].mean():.2f}"
)
assert cosines[same].mean() > cosines[labels[:, None] != labels].mean() + 0.05

# %% [markdown]
# ## Exercises
#
# 1. **Perplexity.** Turn the loss of the MLM into a perplexity, $e^{\text{loss}}$, and compare it with that of the unigrams. What does the number mean?
# 2. **Understanding, or a shortcut?** Reverse the order of the sentences in the ending of each story: what does NSP say? Then take the first sentence (*X está en…*, X is in…) away from each beginning, and measure again with the true ending. What does the model look at?
# 3. **What is easy.** Mask the words of *Ella corta la cebolla con el cuchillo.* one by one and note the probability of the right one. Which are the easiest?
# 4. **The sense of *banco*.** With `tx_jax.interpret.contexts.look` and `within_and_across`, see whether the vectors of *banco* in the last layer separate by sense. And why would they not have to?
# 5. **On both sides.** A model that goes from left to right cannot use what comes after. Compare the prediction of `[MASK]` in *Lucía se sienta en el `[MASK]`* and in *Lucía se sienta en el `[MASK]` de madera.*

# %% [markdown]
# ## Solutions
#
# **1.** The perplexity is the number of words among which the model hesitates, as if they were equally probable.

# %%
print(f"model {np.exp(metrics['masked_lm_loss']):.1f}, unigrams {np.exp(unigrams):.0f}, vocabulary {store.vocab_size}")
assert np.exp(metrics["masked_lm_loss"]) < np.exp(unigrams) / 5

# %% [markdown]
# **2.** It does not care about order: the topic is the same, and it never saw a disordered ending as a negative example. Without the first sentence, however, it may reject true endings: in the data, a B that really follows reaches to the end of its story, so that A always contains the beginning; at random, not always. It is a **shortcut** in the data, not understanding. For such reasons RoBERTa dropped NSP (notebook 7), and ALBERT (Lan et al. 2019) replaced it by the order of sentences.

# %%
backwards = follows(begins, [joined(story[:2:-1]) for story in told])
headless = follows([joined(story[1:3]) for story in told], ends)
print(
    f"as told {np.mean(own):.2f}, ending backwards {np.mean(backwards):.2f}, no first sentence {np.mean(headless):.2f}"
)
assert np.mean(backwards) > np.mean(own) - 0.2

# %% [markdown]
# **3.** Function words (*la*, *con*, *el*) are nearly certain; content words depend on the clues that are left (here they nearly always suffice: the sentence is in the stories). The subject is the hardest: it could be anybody.

# %%
words = "Ella corta la cebolla con el cuchillo".split()
chances = {}
for place, word in enumerate(words):
    hidden = " ".join("[MASK]" if i == place else w for i, w in enumerate(words)) + "."
    chances[word] = dict(model.fill_mask(hidden, top=store.vocab_size)[0]).get(word.lower(), 0.0)
print({word: round(p, 2) for word, p in chances.items()})
assert chances["la"] > chances["Ella"]

# %% [markdown]
# **4.** No: the cosines across senses are no lower than those within one. The MLM asks to guess *hidden* words; for a visible word such as *banco* it is enough to go on saying *banco*, and each `[MASK]` collects the context that it needs by itself. In a large BERT, with many layers and much text, senses do separate: Wiedemann, Remus, Chawla and Biemann 2019, *Does BERT Make Any Sense?*, told the sense of a word by its nearest neighbors among BERT's vectors (notebook 11 has the tools).

# %%
from tx_jax.interpret import contexts

money = ["Ana firma un papel en el banco.", "Luis saca dinero del banco.", "El banco cierra por la tarde."]
wood = [
    "Marta lee en un banco de piedra.",
    "Pedro se sienta en el banco de madera.",
    "Las palomas comen pan junto al banco.",
]
looked = contexts.look(model, [*money, *wood], ["banco"])
within, across = looked.within_and_across(["money"] * 3 + ["wood"] * 3)
for layer, (a, b) in enumerate(zip(within, across)):
    print(f"layer {layer}: same sense {a:.2f}, other sense {b:.2f}, any two tokens {looked.baseline[layer]:.2f}")
assert within[-1] > looked.baseline[-1]

# %% [markdown]
# **5.** *De madera* (of wood) decides. With what comes before alone, the model hesitates more.

# %%
both_sides = dict(model.fill_mask("Lucía se sienta en el [MASK] de madera.", top=store.vocab_size)[0])["banco"]
one_side = dict(model.fill_mask("Lucía se sienta en el [MASK]", top=store.vocab_size)[0])["banco"]
print(f"banco: {one_side:.2f} before, {both_sides:.2f} with 'de madera'")
assert both_sides > 0.5

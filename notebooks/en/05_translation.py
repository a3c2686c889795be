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
# # 5. The Transformer translates
#
# **What you will learn**
#
# - to train the original Transformer, encoder and decoder, in a minute: Spanish to English;
# - why both languages share a vocabulary, and what label smoothing and warming up the learning rate do;
# - to translate token by token with a loop of your own, and what beam search improves;
# - to measure with BLEU, and to read in the attention which word comes from which;
# - what a model does not know that has seen a small grammar alone.
#
# Time: an hour of reading; the code takes one to two minutes. Reference: Vaswani et al. 2017, *Attention Is All You Need*. Read notebooks 3 and 4 first.

# %%
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import tx_jax
from tx_jax import decoding

sys.path.insert(0, "../..")  # the clone, for its configs
data, work = Path("../data"), tempfile.TemporaryDirectory()


# %% [markdown]
# ## The data
#
# A real corpus, such as WMT14, has millions of sentences and takes days of GPU time. To watch the model learn in a minute we use sentences from a grammar of our own (`notebooks/data/make_pairs.py`). It is small, but not trivial: it forces words to *move*.

# %%
def read(name):
    lines = (data / f"es_en_{name}.tsv").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


pairs = {name: read(name) for name in ("train", "validation", "test")}
print({name: len(found) for name, found in pairs.items()})
for spanish, english in pairs["train"][:12]:
    print(f"{spanish:55} {english}")
assert not set(pairs["train"]) & set(pairs["test"])

# %% [markdown]
# Note what cannot be done word by word:
#
# | phenomenon | Spanish | English |
# |---|---|---|
# | the adjective changes sides | *la manzana **roja*** | *the **red** apple* |
# | the possessive turns around | *el perro **de la vecina*** | *the **neighbor's** dog* |
# | the pronoun goes to the end | *la abuela **lo** compró* | *the grandmother bought **it*** |
# | negation needs an auxiliary | ***no** come* | ***does not** eat* |
# | the subject is missing | *compré pan* | ***I** bought…* |
# | one word, two senses | *el **banco** abre / el **banco** de madera* | *the **bank** opens / the wooden **bench*** |
#
# ## One vocabulary for both
#
# The paper (section 5.1) trains a single vocabulary of subwords on both languages together. So encoder, decoder and output layer share one table of embeddings (section 3.4), and what is the same in both, such as names and numbers, has the same token. `prepare` trains the tokenizer and writes the pairs as numbers.

# %%
from tx_jax.data.translation.sources import PairSource
from tx_jax.data.translation.store import prepare

sources = {name: PairSource(str(data / f"es_en_{name}.tsv")) for name in pairs}
store = prepare(Path(work.name) / "pairs", sources, vocab_size=700)
tokenizer = store.tokenizer()
for text in pairs["test"][0]:
    print(tokenizer.tokens(tokenizer.encode(text)))
print("special tokens:", tokenizer.tokens(tokenizer.special_ids), "vocabulary:", store.vocab_size)

# %% [markdown]
# The symbol `▁` is SentencePiece's space. The source ends in `</s>`. The decoder receives `<s>` and the tokens translated so far, and at each position has to predict the next one, until it writes `</s>`.
#
# ## The model and its recipe
#
# We begin with the library's configuration for Multi30k, which is the paper's in small, and shrink it further: two layers on each side, 64 wide.

# %%
from configs import multi30k

config = multi30k.get_config()
config.model.update(vocab_size=store.vocab_size, dim=64, mlp_dim=128, num_layers=2, num_decoder_layers=2)
config.model.update(num_heads=4, max_length=64, dropout=0.1, init_stddev=64**-0.5)
config.data.update(store=str(store.path), sequence_length=32, buckets=(16, 32), metrics=("bleu",))
config.optimizer.update(learning_rate=5e-3, warmup_steps=150)
config.training.update(keep_best=0, num_steps=600, batch_size=32, log_every=50, eval_every=100, checkpoint_every=600)
print("label smoothing:", config.data.label_smoothing, "schedule:", config.optimizer.schedule)

# %% [markdown]
# Two parts of the recipe deserve a formula.
#
# **Warmup** (section 5.3). The learning rate rises in a straight line over the first steps, then falls as the root of the step. In the beginning, what Adam knows of the gradients comes from few steps and is not to be trusted:
#
# $$\eta(t) = \eta_{\max} \cdot \min\!\left(\frac{t}{w},\ \sqrt{\frac{w}{t}}\right)$$
#
# **Label smoothing** (section 5.4). The target is not "the right token with probability 1", but $1-\varepsilon$ for it and $\varepsilon/V$ for all. The model has nothing to gain by becoming infinitely sure. That is why the training loss does not reach zero: its minimum is the entropy of that target.

# %%
steps = np.arange(1, 601)
rate = 5e-3 * np.minimum(steps / 150, np.sqrt(150 / steps))
smoothed = np.full(store.vocab_size, 0.1 / store.vocab_size)
smoothed[0] += 0.9
least = -(smoothed * np.log(smoothed)).sum()
fig, ax = plt.subplots(figsize=(5, 2.4))
ax.plot(steps, rate)
ax.set(xlabel="step", ylabel="learning rate")
print(f"the smallest loss with label smoothing: {least:.2f} nats a token")

# %%
metrics = tx_jax.train(config, workdir=Path(work.name) / "run")
metrics["validation"]["bleu"]

# %% [markdown]
# At each evaluation the model translates the validation sentences. Let us see the curve: `metrics.jsonl` keeps all that happened.

# %%
from tx_jax.runs import metrics_log

records = metrics_log.read(Path(work.name) / "run")
training = [(r["step"], r["loss"]) for r in records if r["split"] == "train"]
held_out = [(r["step"], r["bleu"]) for r in records if r["split"] == "validation"]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(*zip(*training))
left.axhline(least, color="gray", ls=":", label="minimum")
left.set(xlabel="step", ylabel="training loss, nats a token")
left.legend()
right.plot(*zip(*held_out), "o-")
right.set(xlabel="step", ylabel="BLEU of validation sentences", ylim=(0, 100))
assert training[-1][1] > least  # nothing is below the minimum
assert held_out[-1][1] > 90

# %% [markdown]
# ## Translating with a loop
#
# In training the decoder sees the right translation and predicts all positions at once (*teacher forcing*). When translating there is no translation: one has to write a token, add it to the input and ask again. Always choosing the most probable one is called **greedy** search.

# %%
model = tx_jax.load(Path(work.name) / "run")
special = tokenizer.pair_tokens


def padded(ids, length=32):
    return jnp.array([[*ids, *[0] * (length - len(ids))]]), jnp.arange(length)[None] < len(ids)


@jax.jit
def decoder_logits(params, source, source_valid, target, target_valid):
    given = {"target_tokens_BT": target, "target_valid_BT": target_valid}
    return model.apply(params, source, valid_BS=source_valid, **given).logits["causal_lm"][0]


def next_log_probs(source, target):
    inputs = [*padded([*tokenizer.encode(source), *special.after]), *padded([special.start, *target])]
    return jax.nn.log_softmax(decoder_logits(model.params, *inputs)[len(target)])


# %%
source, target = "La abuela de la niña no compró la manzana roja.", []
while len(target) < 30 and special.end not in target:
    log_probs = next_log_probs(source, target)
    best = jnp.argsort(-log_probs)[:3]
    print(" | ".join(f"{tokenizer.token(int(i)):>14} {np.exp(log_probs[i]):.2f}" for i in best))
    target.append(int(best[0]))
by_hand = tokenizer.decode(target[:-1])
print(by_hand)
assert by_hand == model.translate(source, num_beams=1)

# %% [markdown]
# Each line shows the three candidates of a step. The library does the same, but keeps the keys and values of the tokens written so far in a **cache**, so as not to compute them again each time.
#
# ## Beam search
#
# The most probable choice at each step does not always lead to the most probable sentence. **Beam search** keeps the $b$ best unfinished sentences. As each further token takes away log-probability, short sentences would win; the paper (section 6.1) uses $b=4$ and divides by the penalty of Wu et al. 2016:
#
# $$\text{score}(y) = \frac{\log P(y \mid x)}{\left(\frac{5+|y|}{6}\right)^{\alpha}}, \qquad \alpha = 0.6$$

# %%
options = decoding.Options(num_beams=4, num_return_sequences=4, length_penalty=0.6, length_normalization="gnmt")
for one in decoding.generate(model, ["Este perro espera en el banco del parque."], options):
    total = sum(one.log_probs)
    penalty = ((5 + len(one.tokens)) / 6) ** 0.6
    print(f"score {one.score:6.2f} = {total:6.2f} / {penalty:.2f}  {one.text}")
    assert abs(one.score - total / penalty) < 1e-3

# %% [markdown]
# The grammar never lets anybody *wait* on a bench, so there is something to decide. Compare the four sentences with the original: is anything missing?
#
# ## BLEU
#
# How good are 300 translations? **BLEU** (Papineni et al. 2002) counts how many n-grams of the translation are in the reference, for $n = 1 \dots 4$, and multiplies the geometric mean by a penalty if the translation is short:
#
# $$\text{BLEU} = \min\!\left(1, e^{1 - r/c}\right) \cdot \exp\Big(\tfrac14 \sum_{n=1}^{4} \log p_n\Big)$$
#
# where $c$ and $r$ are the lengths of translation and reference. There are many variants, which differ by whole points; that is why one publishes sacrebleu's signature (Post 2018).

# %%
from tx_jax.tasks.translation_scores import scores

test, references = zip(*pairs["test"])
searches = {
    "greedy": decoding.Options(temperature=0.0),
    "4 beams": decoding.Options(num_beams=4, length_penalty=0.6, length_normalization="gnmt"),
}
translated = {}
for name, options in searches.items():
    translated[name] = [one.text for one in decoding.generate(model, test, options)]
    values, lines = scores(translated[name], references, metrics=("bleu",))
    exact = np.mean([a == b for a, b in zip(translated[name], references)])
    print(f"{name:8} BLEU {values['bleu']:.1f}, whole sentences right {exact:.0%}")
print(lines[0])
assert values["bleu"] > 90

# %% [markdown]
# Such a BLEU is impossible on a real corpus (the paper reports 27.3 from English to German): here each sentence has one translation only, and both languages together have little more than 400 words. Let us look at the mistakes, which teach more than the figure.

# %%
wrong = [row for row in zip(test, references, translated["greedy"]) if row[1] != row[2]]
for source, reference, translation in wrong[:5]:
    print(f"{source}\n    reference:   {reference}\n    translation: {translation}")

# %% [markdown]
# ## Which word comes from which?
#
# The decoder's **cross-attention** asks the encoder's output. Mind the indices: the row of token $i$ computes the prediction of token $i+1$. That is why we label each row with the token that is *predicted* in it. We take the last layer and average its heads.

# %%
source = "El perro de la vecina no come la manzana roja."
target = "The neighbor's dog does not eat the red apple."
name = "decoder/layer_1/cross_attention/probabilities"
(found,) = model.capture([source], [name], targets=[target])
weights = found[name].mean(axis=0)  # [T, S]: the mean of the heads
keys = [*tokenizer.tokens(tokenizer.encode(source)), "</s>"]
predicted = [*tokenizer.tokens(tokenizer.encode(target)), "</s>"]

fig, ax = plt.subplots(figsize=(6.5, 5))
ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
ax.set_xticks(range(len(keys)), keys, rotation=60)
ax.set_yticks(range(len(predicted)), predicted)
ax.set(xlabel="source token that is read", ylabel="token that is predicted")
plt.show()


# %% [markdown]
# The dark trace does not follow the diagonal: *red* reads *roja*, which comes last, and *apple* reads *manzana*; *dog* jumps to *perro* once the owner is written. Let us check it on the adjectives of the whole test set: when the English adjective is predicted, does the model read the Spanish one?

# %%
def places(text, word):
    (aligned,) = tokenizer.encode_aligned([text])
    start = text.lower().index(word)
    return [i for i, (first, last) in enumerate(aligned.spans) if last > start and first < start + len(word)]


hits = []
for adjective, root in {"red": "roj", "white": "blanc", "old": "viej", "black": "negr"}.items():
    chosen = [pair for pair in pairs["test"] if f" {adjective} " in pair[1] and root in pair[0]]
    found = model.capture([a for a, _ in chosen], [name], targets=[b for _, b in chosen])
    for (spanish, english), one in zip(chosen, found):
        row = places(english, f"{adjective} ")[0]
        hits.append(one[name].mean(axis=0)[row, places(spanish, root)].sum())
print(f"{len(hits)} adjectives, mean weight on the Spanish adjective: {np.mean(hits):.2f}")
assert np.mean(hits) > 0.4

# %% [markdown]
# ## *Banco*
#
# The same word, two translations. The decision must come from the context. How does it get there? One expects the encoder's self-attention to carry the context into the vector of *banco*, and the decoder to read that vector. Let us look at what the row that predicts *bank* or *bench* really reads.

# %%
sentences = [
    "El banco está cerrado hoy.", "Este banco abre por la noche.", "Mi banco está abierto ahora.",
    "El banco de madera está sucio.", "El banco del parque está sucio.", "Este banco del jardín está roto.",
]  # fmt: skip
outside = []
for text in sentences:
    translation = model.translate(text)
    (found,) = model.capture([text], [name], targets=[translation])
    word = "wooden" if "wooden" in translation else "bench" if "bench" in translation else "bank"
    row = found[name].mean(axis=0)[places(translation, word)[0]]
    tokens = [*tokenizer.tokens(tokenizer.encode(text)), "</s>"]
    most = ", ".join(f"{tokens[i]} {row[i]:.2f}" for i in np.argsort(-row)[:3])
    print(f"{text:34} {translation:36} {word:6} reads {most}")
    outside.append(1 - row[places(text, "banco")].sum())
print(f"weight outside banco: {np.mean(outside):.2f}")
assert all("bank" in model.translate(text) for text in sentences[:3])
assert all("bench" in model.translate(text) for text in sentences[3:])
assert np.mean(outside) > 0.1

# %% [markdown]
# There is no single answer. At times it reads *banco*, whose vector already has the context; at others it fetches the word that decides (*madera*, wood; *del* parque, of the park) without passing through *banco*. Cross-attention can read the context where it is, and the model does not care by which way it arrives. In BERT, which has no cross-attention, the context has to reach the vector of each word: we shall see it in notebook 6. The moral: a hypothesis about what a model does is there to be checked.
#
# ## What it does not know
#
# The model speaks with the same confidence about what it has never seen. The word *elefante* is not in the corpus, and only benches are made of wood.

# %%
strange = ["El elefante come la manzana.", "El barco de madera está roto.", "El niño come pan y la niña lee una carta."]
for text in strange:
    (one,) = decoding.generate(model, [text], decoding.Options(temperature=0.0))
    print(f"{text:45} {one.text:45} log-probability {sum(one.log_probs):.1f}")
assert "elephant" not in model.translate(strange[0])

# %% [markdown]
# ## Exercises
#
# 1. **BLEU by hand.** With `Counter`, compute the BLEU of the translation *the dog eats the apple* with the reference *the dog eats the red apple*. Compare it with `sacrebleu.sentence_bleu` without smoothing (`smooth_method="none"`).
# 2. **Does order matter?** Shuffle the words of every source sentence of the test set and measure BLEU again. Why does it not fall to zero?
# 3. **Two translations, one judge.** With `next_log_probs`, add up the log-probability of *The bank is closed.* and of *The bench is closed.* as translations of *El banco está cerrado.* How many times as probable is the first?
# 4. **No penalty on length.** Translate 50 sentences of the test set with 4 beams and `length_penalty=0.0`, and compare the mean length with that of `length_penalty=3.0`.
# 5. **One head at a time.** Which head of the last layer is the most concentrated, that is, has the smallest mean entropy, on the sentence in the picture?

# %% [markdown]
# ## Solutions
#
# **1.** The precisions are 5/5, 3/4, 2/3 and 1/2, and the penalty is $e^{1-6/5}$.

# %%
from collections import Counter

import sacrebleu


def grams(words, n):
    return Counter(zip(*(words[i:] for i in range(n))))


translation, reference = "the dog eats the apple".split(), "the dog eats the red apple".split()
precisions = [
    (grams(translation, n) & grams(reference, n)).total() / grams(translation, n).total() for n in range(1, 5)
]
bleu = 100 * min(1, np.exp(1 - 6 / 5)) * np.exp(np.mean(np.log(precisions)))
official = sacrebleu.sentence_bleu(" ".join(translation), [" ".join(reference)], smooth_method="none").score
print(precisions, f"{bleu:.2f} {official:.2f}")
assert abs(bleu - official) < 0.01

# %% [markdown]
# **2.** It falls, but less than one might fear: single words are still translated, and the model rebuilds a plausible order from what it knows of English. Where several words could take the same place, however, it goes wrong.

# %%
rng = np.random.default_rng(0)
shuffled = [" ".join(rng.permutation(text.split())) for text in test[:150]]
found = [one.text for one in decoding.generate(model, shuffled, searches["greedy"])]
after = scores(found, references[:150], metrics=("bleu",))[0]["bleu"]
print(f"BLEU {after:.1f}; {shuffled[0]} -> {found[0]}")
assert 1 < after < values["bleu"] - 10


# %% [markdown]
# **3.** One adds token by token, with the translation so far as the input; the closing `</s>` counts too.

# %%
def log_probability(source, translation):
    ids = [*tokenizer.encode(translation), special.end]
    return sum(float(next_log_probs(source, ids[:i])[token]) for i, token in enumerate(ids))


both = [log_probability("El banco está cerrado.", f"The {word} is closed.") for word in ("bank", "bench")]
print(both, f"{np.exp(both[0] - both[1]):.0f} times")
assert both[0] > both[1]

# %% [markdown]
# **4.** Almost nothing changes: where the model is sure, shorter or longer alternatives are so improbable that no penalty rescues them. On real corpora, with models that are unsure, it does matter.

# %%
mean_length = {}
for penalty in (0.0, 3.0):
    options = decoding.Options(num_beams=4, length_penalty=penalty, length_normalization="gnmt")
    mean_length[penalty] = np.mean([len(one.tokens) for one in decoding.generate(model, test[:50], options)])
print(mean_length)
assert mean_length[0.0] <= mean_length[3.0] + 0.01

# %% [markdown]
# **5.** The entropy of a row is $-\sum_j w_j \log w_j$: zero if it looks at one token alone, $\log S$ if it looks at all alike.

# %%
(found,) = model.capture(["El perro de la vecina no come la manzana roja."], [name], targets=[target])
entropies = -(found[name] * np.log(found[name] + 1e-9)).sum(-1).mean(-1)
print("entropy by head:", entropies.round(2), "of", round(float(np.log(found[name].shape[-1])), 2))
assert entropies.max() < np.log(found[name].shape[-1])

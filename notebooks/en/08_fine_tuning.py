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
# # 8. Fine-tuning: one body, four heads
#
# **What you will learn**
#
# - how one pretrained model becomes four different ones: acceptability (as CoLA), tagging, extractive questions (as SQuAD), multiple choice (as SWAG), each with a head of a few dozen to a few hundred numbers;
# - why CoLA is scored by Matthews' correlation, which you compute by hand;
# - to compare with baselines, above all with the same model **without** pretraining;
# - how an answer is read from start and end scores;
# - to test a fine-tuned model outside of what it was trained on, and what you may then not say any more.
#
# Time: an hour and a half of reading; the code takes two to three minutes on two cores. Reference: Devlin et al. 2018, section 4 and figure 4.

# %%
import csv
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import tx_jax
from tx_jax import tree
from tx_jax.interpret import texts

sys.path.append("../..")  # the clone, for its folder configs
from configs import classification, squad, swag, tagging

DATA = Path("../data")
folder = tempfile.TemporaryDirectory()
WORK = Path(folder.name)
bert = tx_jax.load(DATA / "small_bert", heads=("masked_lm",))
print("can:", bert.can)
for sentence in ("The keys of the teacher [MASK] old.", "Ana is in the [MASK]. She plants a tree."):
    print(sentence, ", ".join(f"{word} {p:.0%}" for word, p in bert.fill_mask(sentence, top=3)[0]))

# %% [markdown]
# ## What we begin with
#
# CoLA, SQuAD and SWAG may not be passed on freely, and BERT base does not learn in two minutes on a laptop. So the data of this notebook was made by a grammar (`notebooks/data/make_small_world.py`, a few hundred examples each), and the model is a BERT of four layers of width 64, pretrained on the same small world for some minutes (`notebooks/data/train_small_bert.py`). All steps are those with the originals: `configs/glue.py:cola`, `configs/squad.py`, `configs/swag.py` read the published files.
#
# The recipe is always the same. Take the body; put a new head on top, with random weights; train **everything**, with a small learning rate, for a few epochs. One function does it, for the four tasks:


# %%
def fine_tune(c, name, *, epochs, length=24, rate=2e-3, fresh=False):
    """Metrics by split, and the fine-tuned model. fresh: from random parameters instead of the pretrained ones."""
    c.start_from, c.start_fresh = str(DATA / "small_bert"), fresh
    c.model.dtype = "float32"
    c.data.sequence_length = length
    c.optimizer.learning_rate = rate
    c.training.num_epochs, c.training.batch_size = epochs, 32
    metrics = tx_jax.train(c, WORK / name, progress=False)
    return metrics, tx_jax.load(WORK / name)


# %% [markdown]
# ## Acceptability, and Matthews
#
# *The keys of the teacher are old* is English; *The keys of the teacher is old* is not, although every word is. The Corpus of Linguistic Acceptability asks a model for this judgment. Ours has four kinds of errors: agreement, word order, determiner, missing verb. Two thirds of the sentences are acceptable, as in CoLA.


# %%
def table(name):
    with (DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


rows = table("acceptability_test.csv")
for row in rows[:8]:
    print(f"{row['label']:13} {row['kind']:11} {row['text']}")
print(Counter(row["label"] for row in table("acceptability.csv")))

c = classification.get_config()
c.data.train, c.data.validation = str(DATA / "acceptability.csv"), str(DATA / "acceptability_test.csv")
c.data.more_splits = (f"other={DATA / 'acceptability_other.csv'}",)
c.data.metrics = ("mcc", "accuracy")
metrics, judge = fine_tune(c, "acceptability", epochs=6.0, rate=1e-3)
print({name: round(value, 3) for name, value in metrics["validation"].items()})
head = {path: leaf.shape for path, leaf in tree.flatten(judge.params).items() if "classif" in path}
print("the head:", head)

# %% [markdown]
# Whoever always says *acceptable* is right in two of three cases without having read anything. Accuracy rewards that. Matthews' correlation does not: it is the correlation between prediction and truth as two columns of zeros and ones,
#
# $$\mathrm{MCC} = \frac{TP\cdot TN - FP\cdot FN}{\sqrt{(TP+FP)(TP+FN)(TN+FP)(TN+FN)}},$$
#
# 1 for perfect, 0 for chance and for everyone who always says the same.


# %%
def matthews(truth, predicted):
    tp, tn = (truth & predicted).sum(), (~truth & ~predicted).sum()
    fp, fn = (~truth & predicted).sum(), (truth & ~predicted).sum()
    below = float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)
    return 0.0 if below == 0 else (tp * tn - fp * fn) / below**0.5


truth = np.array([row["label"] == "acceptable" for row in rows])
found = judge.classify([row["text"] for row in rows])
predicted = np.array([one["prediction"] == "acceptable" for one in found])
always = np.ones_like(truth)
for name, guess in (("always acceptable", always), ("the model", predicted)):
    print(f"{name:18} accuracy {(guess == truth).mean():.3f}, MCC {matthews(truth, guess):.3f}")
assert abs(matthews(truth, predicted) - metrics["validation"]["mcc"]) < 1e-6
assert abs(np.corrcoef(truth, predicted)[0, 1] - metrics["validation"]["mcc"]) < 1e-6
assert metrics["validation"]["mcc"] > 0.6

# %% [markdown]
# **How much of that is pretraining?** The same architecture, the same data, the same steps, only with random parameters at the start. This is the comparison without which a fine-tuning says nothing about the model it started from. And beside the total, the share of errors found by kind.

# %%
of_fresh, fresh_judge = fine_tune(c, "acceptability_fresh", epochs=6.0, rate=1e-3, fresh=True)
print(f"MCC: pretrained {metrics['validation']['mcc']:.3f}, fresh {of_fresh['validation']['mcc']:.3f}")
kinds = ("agreement", "determiner", "order", "missing")
of_kinds = {}
fig, ax = plt.subplots(figsize=(6.5, 3))
for number, (name, one) in enumerate((("pretrained", judge), ("fresh", fresh_judge))):
    guesses = one.classify([row["text"] for row in rows])
    shares = [
        np.mean([g["prediction"] == "unacceptable" for g, row in zip(guesses, rows) if row["kind"] == kind])
        for kind in kinds
    ]
    of_kinds[name] = dict(zip(kinds, shares))
    ax.bar(np.arange(len(kinds)) + 0.4 * number, shares, 0.4, label=name)
ax.set_xticks(np.arange(len(kinds)) + 0.2, kinds)
ax.set(ylabel="share of errors found", ylim=(0, 1.05))
ax.legend(frameon=False)
plt.show()
assert metrics["validation"]["mcc"] > of_fresh["validation"]["mcc"] + 0.2
assert all(of_kinds["pretrained"][kind] > of_kinds["fresh"][kind] for kind in kinds)

# %% [markdown]
# Every kind of error is found more often. Agreement is the hardest for both, and pretraining more than doubles what is found of it: a masked LM has had to choose between *is* and *are* thousands of times, with the subject far away; from 1,200 labels alone that cannot be learned so fast.
#
# **And outside?** The file `acceptability_other.csv` has a kind of error that training never showed: *The boy sees **themselves** in the mirror*. The split was evaluated, too:

# %%
print({name: round(value, 3) for name, value in metrics["other"].items()})
other = table("acceptability_other.csv")
said = Counter(one["prediction"] for one in judge.classify([row["text"] for row in other]))
print("predictions:", dict(said), "truth:", dict(Counter(row["label"] for row in other)))
assert metrics["other"]["mcc"] < metrics["validation"]["mcc"] - 0.3

# %% [markdown]
# The model has learned to find four kinds of errors, **not** what acceptable English is. Its accuracy there looks like something only because most sentences are acceptable; MCC tells the truth. In CoLA, too, the figure that counts is the one out of domain.
#
# ## Tagging
#
# A label for each word, from the vector of its first piece (Devlin et al. 2018, 5.3). The honest baseline is each word's most frequent tag, which needs a dictionary and no model. It fails at words such as *plants* and *waters*: nouns in *the plants are green*, verbs in *she plants a tree*.

# %%
c = tagging.get_config()
c.data.train, c.data.validation = str(DATA / "tags.conll"), str(DATA / "tags_test.conll")
tagging_metrics, tagger = fine_tune(c, "tags", epochs=8.0)


def tagged(name):
    blocks = (DATA / name).read_text().strip().split("\n\n")
    return [[tuple(line.split("\t")) for line in block.split("\n")] for block in blocks]


counts = Counter(pair for sentence in tagged("tags.conll") for pair in sentence)
most = {word: tag for (word, tag), _ in sorted(counts.items(), key=lambda item: item[1])}
pairs = [pair for sentence in tagged("tags_test.conll") for pair in sentence]
baseline = np.mean([most.get(word, "NOUN") == tag for word, tag in pairs])
print(f"most frequent tag of the word {baseline:.3f}, the model {tagging_metrics['validation']['accuracy']:.3f}")
for sentence in ("the plants are green .", "she plants a tree .", "the waters are blue .", "he waters the flowers ."):
    print(" ".join(f"{word}/{tag}" for word, tag, _ in tagger.tag(sentence.split())))
assert tagging_metrics["validation"]["accuracy"] > baseline + 0.005

# %% [markdown]
# ## Questions with an answer in the text
#
# The model reads `[CLS] question [SEP] context [SEP]` and gives each token two numbers: how well the answer would **start** here, and how well it would **end** here (Devlin et al. 2018, 4.2). The score of a span is $S_i + E_j$ with $j \ge i$; the best span is the answer. The head is two vectors of width 64. Evaluated are exact match and F1, the overlap in words.

# %%
c = squad.get_config()
c.data.train, c.data.validation = str(DATA / "questions.json"), str(DATA / "questions_test.json")
c.data.more_splits = (f"other={DATA / 'questions_other.json'}",)
c.data.stride, c.data.max_question_length, c.data.max_answer_length = 8, 12, 6
qa_metrics, reader = fine_tune(c, "questions", epochs=6.0, length=48)
for split in ("validation", "other"):
    print(split, {name: round(qa_metrics[split][name], 3) for name in ("exact_match", "f1")})

context = "Lucia is in the garden. She finds the old umbrella. She picks a rose."
for question in ("Where is Lucia?", "What does Lucia find?", "Who finds the umbrella?"):
    answer = reader.answer(question, context)
    print(f"{question:26} {answer['prediction']!r} ({answer['probability']:.0%})")
assert qa_metrics["validation"]["exact_match"] > 0.7

# %%
(row,) = texts.rows_of_texts(reader, ["What does Lucia find?"], [context])
inputs = {key: jnp.asarray(value) for key, value in texts.arrays([row], reader.model).items()}
output = reader.apply(reader.params, inputs["tokens"], valid_BT=inputs["valid"], segments_BT=inputs["segments"])
scores = np.array(output.logits["question_answering"][0])
allowed = np.array([segment == 1 and not special for segment, special in zip(row.segments, row.special)])
scores[~allowed] = -np.inf
spans = [(scores[i, 0] + scores[j, 1], i, j) for i in range(len(scores)) for j in range(i, min(i + 6, len(scores)))]
_, i, j = max(spans)
by_hand = context[row.spans[i][0] : row.spans[j][1]]
assert by_hand == reader.answer("What does Lucia find?", context)["prediction"]

fig, ax = plt.subplots(figsize=(9, 2.8))
for number, name in enumerate(("start", "end")):
    p = np.array(jax.nn.softmax(scores[:, number]))
    ax.bar(np.arange(len(p)) + 0.4 * number, p, 0.4, label=name)
ax.set_xticks(range(len(row.tokens)), row.tokens, rotation=70, fontsize=8)
ax.set(ylabel="probability")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Very good on texts like those of the training. Then why is `other` so much worse? There every text has three people and things, so that **several** spans could answer a question of its kind. *Where is the key?* has two or three places to choose from, and the model, which never had to choose, mostly takes a wrong one. What it has learned is the *kind* of an answer: *where* asks for a place, *who* for a name. As long as there is one of each kind in a text, nobody notices. Jia and Liang (2017) showed the same of the SQuAD models of their day, with one sentence added to the text. A high figure on the test set says only: on texts like these.
#
# ## Multiple choice
#
# SWAG asks which of four endings continues a scene. Each ending is paired with the scene and read as a text of its own; a single vector $w$ scores them all, and a softmax runs over **the four**: $p_i \propto \exp(w\cdot h_i)$. The endings know nothing of each other.


# %%
def choice_config():
    c = swag.get_config()
    c.data.train, c.data.validation = str(DATA / "choices.csv"), str(DATA / "choices_test.csv")
    c.data.text = ("scene", "begins")
    return c


choice_metrics, chooser = fine_tune(choice_config(), "choices", epochs=8.0, length=28)
fresh_metrics, _ = fine_tune(choice_config(), "choices_fresh", epochs=8.0, length=28, fresh=True)
for name, one in (("pretrained", choice_metrics), ("fresh", fresh_metrics)):
    print(f"{name:10} accuracy {one['validation']['accuracy']:.3f} (chance 0.25)")
assert choice_metrics["validation"]["accuracy"] > fresh_metrics["validation"]["accuracy"] + 0.1


# %%
def choose(row):
    """The probabilities of the four endings, by hand."""
    endings = [f"{row['begins']} {row[f'ending{i}']}" for i in range(4)]
    inputs = texts.arrays(texts.rows_of_texts(chooser, [row["scene"]] * 4, endings), chooser.model, 28)
    output = apply(chooser.params, inputs["tokens"], inputs["valid"], inputs["segments"])
    return endings, np.array(jax.nn.softmax(output.logits["multiple_choice"]))


apply = jax.jit(
    lambda params, tokens, valid, segments: chooser.apply(params, tokens, valid_BT=valid, segments_BT=segments)
)
test = table("choices_test.csv")
right = np.mean([choose(row)[1].argmax() == int(row["label"]) for row in test])
print(f"by hand {right:.3f}, the library {choice_metrics['validation']['accuracy']:.3f}")
assert abs(right - choice_metrics["validation"]["accuracy"]) < 0.02
for row in test[:2]:
    print(row["scene"])
    for i, (ending, p) in enumerate(zip(*choose(row))):
        print(f"   {'->' if i == int(row['label']) else '  '} {p:.2f} {ending}")

# %% [markdown]
# What decides here is knowledge of the world that is in no label: one waters flowers in a garden. The model read it in pretraining; the fresh one has to find it in 400 examples.
#
# ## Exercises
#
# 1. How do accuracy and MCC change if the decision threshold for *acceptable* moves from 0.5 to other values? Draw both.
# 2. Learning curves: fine-tune on 100, 300 and 1,200 acceptability sentences. How many labels is pretraining worth?
# 3. Freeze the body (`c.optimizer.frozen = ("^embeddings/", "^encoder/")`) and train the tagger's head alone. What does the difference tell?
# 4. Put a second place into the context of a question (*Pedro is in the market.*) and ask *Where is Lucia?* again. Does the answer depend on the order of the sentences?

# %% [markdown]
# ## Solutions
#
# **1.** Accuracy is flat over a wide range; MCC falls to zero at both ends, where everything gets the same answer.

# %%
p = np.array([one["probability_acceptable"] for one in found])
thresholds = np.linspace(0, 1, 51)
curves = np.array([((p > t) == truth, matthews(truth, p > t)) for t in thresholds], dtype=object)
fig, ax = plt.subplots(figsize=(5.5, 2.8))
ax.plot(thresholds, [float(np.mean(hits)) for hits, _ in curves], label="accuracy")
ax.plot(thresholds, [float(value) for _, value in curves], label="MCC")
ax.set(xlabel="threshold")
ax.legend(frameon=False)
plt.show()
assert curves[-1][1] == 0

# %% [markdown]
# **2.** One more training, on the first 300 sentences, to save your time (100 and a fresh model are left to you). Compare with the fresh model on all 1,200.

# %%
few = WORK / "few.csv"
few.write_text("".join((DATA / "acceptability.csv").read_text().splitlines(keepends=True)[:301]))
c = classification.get_config()
c.data.train, c.data.validation = str(few), str(DATA / "acceptability_test.csv")
c.data.metrics = ("mcc", "accuracy")
of_few, _ = fine_tune(c, "few", epochs=10.0, rate=1e-3)
print(f"MCC: pretrained on 300 {of_few['validation']['mcc']:.3f}, fresh on 1,200 {of_fresh['validation']['mcc']:.3f}")

# %% [markdown]
# **3.** What the head alone can read is what pretraining has left *linearly* in the last layer (a probe, notebook 11); the rest is what fine-tuning changes in the body.

# %%
c = tagging.get_config()
c.data.train, c.data.validation = str(DATA / "tags.conll"), str(DATA / "tags_test.conll")
c.optimizer.frozen = ("^embeddings/", "^encoder/")
head_alone, _ = fine_tune(c, "tags_head", epochs=8.0, rate=1e-2)
print(f"all {tagging_metrics['validation']['accuracy']:.3f}, head alone {head_alone['validation']['accuracy']:.3f}")

# %% [markdown]
# **4.** An answer that changes when sentences that have nothing to do with it change places has not been found, but guessed.

# %%
parts = ["Lucia is in the garden.", "Pedro is in the market.", "Carmen is in the station."]
answers = Counter(
    reader.answer("Where is Lucia?", " ".join(order))["prediction"] for order in itertools.permutations(parts)
)
print(answers)
assert all(answer.startswith("in the") for answer in answers)
folder.cleanup()

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
# # 1. Tokens and embeddings
#
# **What you will learn**
#
# - why models read neither words nor letters, but subwords;
# - how WordPiece (BERT), byte-level BPE (GPT-2, RoBERTa) and SentencePiece (T5, XLM-R) split the same sentence;
# - to program both algorithms: merging the most frequent pairs, and cutting off the longest piece;
# - what an embedding is, and how vectors with a meaning come from counting neighbors alone;
# - the limit of static vectors: *banco* (bank, bench) has only one, and is two words.
#
# Time: about 45 minutes of reading; the code takes seconds. References: Sennrich et al. 2016 (BPE), Kudo 2018 (unigrams), Devlin et al. 2018 (BERT), Levy and Goldberg 2014 (vectors by counting).

# %%
import itertools
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tx_jax import text

stories = Path("../data/stories.txt").read_text(encoding="utf-8").split("\n\n")
words = Counter(word for story in stories for word in re.findall(r"\w+", story.lower()))
print(stories[0])
print(f"{len(stories)} stories, {words.total()} words, {len(words)} different ones")

# %% [markdown]
# ## Neither words nor letters
#
# A model works with numbers: it needs a fixed list of symbols, the **vocabulary**. If the symbols are words, Spanish needs hundreds of thousands (*escribir*, to write, alone has more than fifty forms), and one will always be missing: a missing one becomes `[UNK]`, "unknown". If they are letters, some dozens are enough, but sentences become very long, and attention costs the square of the length (notebook 3).
#
# **Subwords** are the middle way: what is frequent is a single token, what is rare is put together from pieces. There are three families, and this library trains them all. The test sentence (*the fisherwoman wrote quietly on the bench*) has words that are not in the stories, an accent and an emoji:

# %%
sentence = "La pescadora escribía tranquilamente en el banco 😀."
tokenizers = {
    "WordPiece": text.train("wordpiece", stories, vocab_size=400, strip_accents=False),
    "byte-level BPE": text.train("byte_bpe", stories, vocab_size=400),
    "SentencePiece BPE": text.train("sentencepiece_bpe", stories, vocab_size=400),
}
for name, tokenizer in tokenizers.items():
    ids = tokenizer.encode(sentence)
    print(f"{name}, {len(ids)} tokens:\n  {' '.join(tokenizer.tokens(ids))}\n  {tokenizer.decode(ids)}")
assert tokenizers["byte-level BPE"].decode(tokenizers["byte-level BPE"].encode(sentence)) == sentence
assert tokenizers["WordPiece"].unk_id in tokenizers["WordPiece"].encode(sentence)


# %% [markdown]
# Look at the details, because each of them will make trouble some day:
#
# - **WordPiece** marks with `##` what continues a word. Here it lowercases everything. What it cannot put together is `[UNK]`: the emoji is lost.
# - **Byte-level BPE** begins with the 256 bytes, so it can write *anything* and never loses a thing: the emoji is four tokens. The space is a part of the token and is written `Ġ`; the *í*, two bytes in UTF-8, shows as `ÃŃ`.
# - **SentencePiece** needs nobody to separate words and punctuation first: the space is a symbol like others, `▁`. That is why it suits languages without spaces, too. The emoji, which is not in its vocabulary, is `<unk>`.
#
# ## BPE in twenty lines
#
# *Byte pair encoding* begins with the characters and repeats: find the most frequent pair of neighboring symbols and merge it into one. That is the whole training; its result is the list of merges, in order.

# %%
def merge(symbols, pair):
    merged, i = [], 0
    while i < len(symbols):
        together = tuple(symbols[i : i + 2]) == pair
        merged.append("".join(pair) if together else symbols[i])
        i += 2 if together else 1
    return merged


def learn_merges(words, count):
    spelled, merges = {word: list(f"▁{word}") for word in words}, []
    for _ in range(count):
        pairs = Counter()
        for word, symbols in spelled.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = {word: merge(symbols, best) for word, symbols in spelled.items()}
    return merges, spelled


merges, spelled = learn_merges(words, 200)
print("first:", merges[:8])
print("last: ", merges[-4:])


# %%
def bpe(word):
    symbols = list(f"▁{word}")
    for pair in merges:  # in the order in which they were learned
        symbols = merge(symbols, pair)
    return symbols


for word in ("banco", "bancos", "pescadora", "tranquilamente"):
    print(word, bpe(word))
assert bpe("banco") == ["▁banco"]
assert all(bpe(word) == spelled[word] for word in words)

# %% [markdown]
# *banco* is a single token already; *bancos*, which is not in the stories, is *banco* and an *s*. The algorithm knows nothing of plurals: it has found them by counting.
#
# ## WordPiece: the longest piece
#
# WordPiece learns its vocabulary in a similar way, but to **encode** it uses no merges: it walks along the word and always cuts off the longest piece that is in the vocabulary. Let us program it, and compare with the library on all words of the stories.

# %%
wordpiece = tokenizers["WordPiece"]
vocabulary = set(wordpiece.tokens(range(wordpiece.vocab_size)))


def longest_first(word):
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


for word in ("banco", "tranquilamente", "escribía", "kiwi"):
    print(word, longest_first(word))
for word in [*words, "tranquilamente", "escribía", "kiwi"]:
    assert longest_first(word) == wordpiece.tokens(wordpiece.encode(word))

# %% [markdown]
# ## What size of vocabulary?
#
# More vocabulary, shorter sentences, but more rows in the table of embeddings (and each is seen less often). **Fertility** measures the tokens per word.

# %%
sizes = (100, 150, 200, 300, 400, 600)
strange = "La pescadora escribía tranquilamente mientras esperaba un barquito azul."
curves = {"the stories": " ".join(stories[:100]), "another sentence": strange}
fertility = {name: [] for name in curves}
for size in sizes:
    tokenizer = text.train("wordpiece", stories, vocab_size=size, strip_accents=False)
    for name, content in curves.items():
        fertility[name].append(len(tokenizer.encode(content)) / len(re.findall(r"\w+", content)))
plt.figure(figsize=(5, 3))
for name, values in fertility.items():
    plt.plot(sizes, values, "o-", label=name)
plt.xlabel("vocabulary")
plt.ylabel("tokens per word")
plt.legend()
plt.ylim(0, None)
assert fertility["the stories"][0] > fertility["the stories"][-1]
assert fertility["another sentence"][-1] > fertility["the stories"][-1]

# %% [markdown]
# The second curve is the warning: a tokenizer trained on one text breaks others to pieces. That is why BETO has a vocabulary of its own for Spanish, and why we add tokens when we adapt a model to a domain (notebook 9).
#
# ## From numbers to vectors
#
# An **embedding** is a row of a table $E$, $V \times D$: token number $i$ is the vector $E_i$. One also says "multiplying by a *one-hot* vector", which is the same, only slower:

# %%
table = np.random.default_rng(0).normal(size=(wordpiece.vocab_size, 8))
ids = wordpiece.encode("El banco abre.")
one_hot = np.eye(wordpiece.vocab_size)[ids]
assert np.allclose(one_hot @ table, table[ids])
print(ids, table[ids].shape)


# %% [markdown]
# In a Transformer, $E$ begins at random and is trained with the rest. But the idea that *a word is known by the company it keeps* (Firth, 1957) can be seen without any network: by **counting**.
#
# 1. We count how often each word $c$ occurs fewer than 5 places from each word $w$.
# 2. We compare with what chance would give, the pointwise mutual information: $\operatorname{PPMI}(w, c) = \max\!\big(0, \log \frac{P(w,c)}{P(w)\,P(c)}\big)$.
# 3. We sum up each row of hundreds of numbers in 16, by a singular value decomposition.
#
# Levy and Goldberg (2014) showed that *word2vec* in the end does nearly the same.

# %%
def static_vectors(documents, dim=16, window=4):
    counts = Counter(word for document in documents for word in document)
    known = [word for word, count in counts.most_common() if count >= 5]
    index = {word: i for i, word in enumerate(known)}
    together = np.zeros((len(known), len(known)))
    for document in documents:
        places = [index.get(word) for word in document]
        for i, one in enumerate(places):
            for other in places[max(0, i - window) : i] + places[i + 1 : i + 1 + window]:
                if one is not None and other is not None:
                    together[one, other] += 1
    joint = together / together.sum()
    chance = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    ppmi = np.maximum(0, np.log(np.maximum(joint, 1e-12) / chance))
    left, values, _ = np.linalg.svd(ppmi)
    found = left[:, :dim] * np.sqrt(values[:dim])
    return dict(zip(known, found / np.linalg.norm(found, axis=1, keepdims=True)))


documents = [re.findall(r"\w+", story.lower()) for story in stories]
vectors = static_vectors(documents)


def nearest(vectors, vector, count=6):
    return sorted(vectors, key=lambda word: -vectors[word] @ vector)[:count]


for word in ("manzana", "roja", "andén", "dinero", "madera"):
    print(f"{word:8}", nearest(vectors, vectors[word]))
assert "naranja" in nearest(vectors, vectors["manzana"], 3)
assert {"blanca", "negra", "amarilla"} & set(nearest(vectors, vectors["roja"], 4))

# %% [markdown]
# Nobody has said what a fruit is, or a color. *manzana* (apple) and *naranja* (orange) are alike because they are *used* alike.
#
# ## *Banco*
#
# Let us take four groups of words, one for each place, and measure how like each word is to those of the bank of the money (horizontal) and to those of the park (vertical). Where does *banco* fall?

# %%
groups = {
    "bank": ["dinero", "cajero", "caja", "facturas", "ahorra"],
    "park": ["parque", "madera", "piedra", "hierba", "flores"],
    "kitchen": ["olla", "cebolla", "sopa", "horno", "huevos"],
    "station": ["andén", "vagón", "revisor", "horario", "viajeros"],
}


def likeness(vectors, word):
    return {name: float(np.mean([vectors[word] @ vectors[other] for other in group])) for name, group in groups.items()}


fig, ax = plt.subplots(figsize=(5, 4))
for name, group in {**groups, "?": ["banco"]}.items():
    found = [likeness(vectors, word) for word in group]
    ax.scatter([one["bank"] for one in found], [one["park"] for one in found], label=name, s=60, alpha=0.6)
    ax.annotate(group[0], (found[0]["bank"], found[0]["park"]), xytext=(8, 6), textcoords="offset points")
ax.set(xlabel="mean cosine with the words of bank", ylabel="with those of park", xlim=(-0.1, 1.3), ylim=(-0.15, 1.1))
ax.legend()
plt.show()

# %% [markdown]
# *banco* ends in no man's land, because its vector is an average of all its uses: it is half like the words of both places, and like those of no other.

# %%
both = likeness(vectors, "banco")
print({name: round(value, 2) for name, value in both.items()})
assert min(both["bank"], both["park"]) > max(both["kitchen"], both["station"]) + 0.2

# %% [markdown]
# Let us cheat: in each story we write `banco_1` if it is about the bank of the money and `banco_2` if not, and count again.

# %%
tagged = []
for document in documents:
    sense = "banco_1" if document[4] == "banco" else "banco_2"  # "Ana está en el banco": the story's place
    tagged.append([sense if word == "banco" else word for word in document])
two = static_vectors(tagged)
for sense in ("banco_1", "banco_2"):
    print(sense, nearest(two, two[sense]))
print(f"cosine of the two senses: {two['banco_1'] @ two['banco_2']:.2f}")
assert two["banco_1"] @ two["banco_2"] < 0.4
assert likeness(two, "banco_1")["bank"] > both["bank"]
assert likeness(two, "banco_2")["park"] > both["park"]

# %% [markdown]
# They were two words, almost perpendicular. A **static** vector, one for each entry of the vocabulary, cannot separate them: it depends on the word and not on the sentence. We need vectors that change with the **context**, and mixing in information from the context is just what attention does (notebook 3).
#
# ## Exercises
#
# 1. **Without accents.** The original BERT strips accents. Train a WordPiece with `strip_accents=True` and see what happens to *año* (year) and *ano* (anus), *él* (he) and *el* (the). How many different words of the stories are confused?
# 2. **Another language.** What is the fertility of the three tokenizers on *The fisherwoman was writing quietly on the bench*? Why is it so high?
# 3. **The vocabulary grows.** Plot how many tokens it takes to write the stories by the number of merges of `learn_merges`, from 0 to 200.
# 4. **Analogies.** Compute *roja* − *rojo* + *negro* (red, feminine and masculine; black, masculine) with the static vectors and look at the nearest words. What has been understood, and what not?
# 5. **The window.** Repeat `static_vectors` with `window=1`. Do the neighbors of *manzana* (apple) change? And those of *ella* (she)?

# %% [markdown]
# ## Solutions
#
# **1.** Only one pair is confused, but it is among the most frequent: *él* and *el*. In a large text there are thousands (*esta* and *está*, *publico*, *público* and *publicó*).

# %%
stripped = text.train("wordpiece", stories, vocab_size=400, strip_accents=True)
assert stripped.encode("año") == stripped.encode("ano")
assert wordpiece.encode("año") != wordpiece.encode("ano")
encoded = {}
for word in words:
    encoded.setdefault(tuple(stripped.encode(word)), []).append(word)
confused = [group for group in encoded.values() if len(group) > 1]
print(confused)
assert ["el", "él"] in [sorted(group) for group in confused]

# %% [markdown]
# **2.** Nearly five tokens a word: the frequent tokens of Spanish are of no use for English, and nearly everything is written letter by letter. WordPiece looks better, but it cheats: a word with a letter that it does not know is a single `[UNK]`.

# %%
english = "The fisherwoman was writing quietly on the bench"
rates = {name: len(t.encode(english)) / len(english.split()) for name, t in tokenizers.items()}
print({name: round(rate, 1) for name, rate in rates.items()})
assert rates["byte-level BPE"] > 3
assert wordpiece.unk_id in wordpiece.encode(english)

# %% [markdown]
# **3.** The first merges save much and the last ones little: frequencies follow Zipf's law.

# %%
lengths, current = [], {word: list(f"▁{word}") for word in words}
for pair in merges:
    lengths.append(sum(words[word] * len(symbols) for word, symbols in current.items()))
    current = {word: merge(symbols, pair) for word, symbols in current.items()}
plt.figure(figsize=(5, 2.6))
plt.plot(lengths)
plt.xlabel("merges")
plt.ylabel("tokens of the stories")
plt.ylim(0, None)
assert lengths[0] - lengths[20] > lengths[-21] - lengths[-1]

# %% [markdown]
# **4.** It gets the gender right (all are feminine adjectives) but not the color: in these stories the eight adjectives are used in exactly the same places, and what is used alike cannot be told apart by counting.

# %%
target = vectors["roja"] - vectors["rojo"] + vectors["negro"]
found = [word for word in nearest(vectors, target, 7) if word not in ("roja", "rojo", "negro")][:4]
print(found)
assert all(word.endswith("a") for word in found[:3])

# %% [markdown]
# **5.** With a window of one word, grammar counts more than the topic: the neighbors of *manzana* become nouns that take the same place, and those of *ella* other subjects.

# %%
narrow = static_vectors(documents, window=1)
for word in ("manzana", "ella"):
    print(
        f"{word:8} window 4: {nearest(vectors, vectors[word], 5)}\n{'':8} window 1: {nearest(narrow, narrow[word], 5)}"
    )
assert nearest(narrow, narrow["manzana"]) != nearest(vectors, vectors["manzana"])

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
# # 1. Tokens y embeddings
#
# **Qué vas a aprender**
#
# - por qué los modelos no leen palabras ni letras, sino subpalabras;
# - cómo parten la misma frase WordPiece (BERT), BPE de bytes (GPT-2, RoBERTa) y SentencePiece (T5, XLM-R);
# - a programar los dos algoritmos: fundir los pares más frecuentes y cortar por el trozo más largo;
# - qué es un embedding, y cómo salen vectores con sentido de solo contar vecinos;
# - el límite de los vectores estáticos: *banco* tiene uno solo, y son dos palabras.
#
# Tiempo: unos 45 minutos de lectura; el código tarda unos segundos. Referencias: Sennrich et al. 2016 (BPE), Kudo 2018 (unigramas), Devlin et al. 2018 (BERT), Levy y Goldberg 2014 (vectores por recuento).

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
# ## Ni palabras ni letras
#
# Un modelo trabaja con números: hace falta una lista fija de símbolos, el **vocabulario**. Si los símbolos son palabras, el español necesita cientos de miles (solo *escribir* tiene más de cincuenta formas), y siempre faltará alguna: la que falte se convierte en `[UNK]`, «desconocida». Si son letras, bastan unas decenas, pero las frases se vuelven larguísimas, y la atención cuesta el cuadrado de la longitud (cuaderno 3).
#
# Las **subpalabras** son el término medio: lo frecuente es un solo token y lo raro se compone de trozos. Hay tres familias, y esta biblioteca las entrena todas. La frase de prueba tiene palabras que no están en los cuentos, una tilde y un emoji:

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
# Mira los detalles, porque cada uno dará problemas algún día:
#
# - **WordPiece** marca con `##` lo que continúa una palabra. Aquí pasa todo a minúsculas. Lo que no puede componer es `[UNK]`: el emoji se ha perdido.
# - **BPE de bytes** empieza por los 256 bytes, así que puede escribir *cualquier* cosa y nunca pierde nada: el emoji son cuatro tokens. El espacio es parte del token y se escribe `Ġ`; la *í*, que en UTF-8 son dos bytes, se ve como `ÃŃ`.
# - **SentencePiece** no necesita que nadie separe antes palabras y signos: el espacio es un símbolo más, `▁`. Por eso sirve también para lenguas sin espacios. El emoji, que no está en su vocabulario, es `<unk>`.
#
# ## BPE en veinte líneas
#
# *Byte pair encoding* empieza por los caracteres y repite: busca el par de símbolos vecinos más frecuente y fúndelo en uno. Eso es todo el entrenamiento; el resultado es la lista de fusiones, en orden.

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
# *banco* ya es un solo token; *bancos*, que no está en los cuentos, es *banco* y una *s*. El algoritmo no sabe nada de plurales: los ha encontrado contando.
#
# ## WordPiece: el trozo más largo
#
# WordPiece aprende su vocabulario de un modo parecido, pero al **codificar** no usa fusiones: recorre la palabra y corta siempre el trozo más largo que esté en el vocabulario. Programémoslo y comparemos con la biblioteca en todas las palabras de los cuentos.

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
# ## ¿Qué tamaño de vocabulario?
#
# Más vocabulario, frases más cortas, pero más filas en la tabla de embeddings (y cada una se ve menos veces). La **fertilidad** mide los tokens por palabra.

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
# La segunda curva es la advertencia: un tokenizador entrenado con un texto rompe los demás en pedazos. Por eso BETO tiene vocabulario propio para el español, y por eso añadimos tokens al adaptar un modelo a un dominio (cuaderno 9).
#
# ## De números a vectores
#
# Un **embedding** es una fila de una tabla $E$ de $V \times D$: el token número $i$ es el vector $E_i$. Se dice también «multiplicar por un vector *one-hot*», y es lo mismo, más lento:

# %%
table = np.random.default_rng(0).normal(size=(wordpiece.vocab_size, 8))
ids = wordpiece.encode("El banco abre.")
one_hot = np.eye(wordpiece.vocab_size)[ids]
assert np.allclose(one_hot @ table, table[ids])
print(ids, table[ids].shape)


# %% [markdown]
# En un Transformer, $E$ empieza al azar y se entrena con lo demás. Pero la idea de que *el significado de una palabra está en su compañía* (Firth, 1957) se puede ver sin ninguna red: **contando**.
#
# 1. Contamos cuántas veces aparece cada palabra $c$ a menos de 5 lugares de cada palabra $w$.
# 2. Comparamos con lo que tocaría por azar, la información mutua puntual: $\operatorname{PPMI}(w, c) = \max\!\big(0, \log \frac{P(w,c)}{P(w)\,P(c)}\big)$.
# 3. Resumimos cada fila, de cientos de números, en 16, con una descomposición en valores singulares.
#
# Levy y Goldberg (2014) mostraron que *word2vec* hace, en el fondo, casi lo mismo.

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
# Nadie ha dicho qué es una fruta o un color. *manzana* y *naranja* se parecen porque se *usan* igual.
#
# ## *Banco*
#
# Tomemos cuatro grupos de palabras, uno por lugar, y midamos cuánto se parece cada palabra a las del banco del dinero (eje horizontal) y a las del parque (eje vertical). ¿Dónde cae *banco*?

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
# *banco* queda en tierra de nadie, porque su vector promedia todos sus usos: se parece a medias a las palabras de los dos lugares, y a las de ningún otro.

# %%
both = likeness(vectors, "banco")
print({name: round(value, 2) for name, value in both.items()})
assert min(both["bank"], both["park"]) > max(both["kitchen"], both["station"]) + 0.2

# %% [markdown]
# Hagamos trampa: en cada cuento escribamos `banco_1` si trata del banco del dinero y `banco_2` si no, y contemos otra vez.

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
# Eran dos palabras, casi perpendiculares. Un vector **estático**, uno por entrada del vocabulario, no puede separarlas: depende de la palabra y no de la frase. Necesitamos vectores que cambien con el **contexto**, y mezclar información del contexto es justo lo que hace la atención (cuaderno 3).
#
# ## Ejercicios
#
# 1. **Sin tildes.** El BERT original quita las tildes. Entrena un WordPiece con `strip_accents=True` y mira qué pasa con *año* y *ano*, *él* y *el*. ¿Cuántas palabras distintas de los cuentos se confunden?
# 2. **Otro idioma.** ¿Cuál es la fertilidad de los tres tokenizadores con *The fisherwoman was writing quietly on the bench*? ¿Por qué es tan alta?
# 3. **El vocabulario crece.** Traza cuántos tokens hacen falta para escribir los cuentos según el número de fusiones de `learn_merges`, de 0 a 200.
# 4. **Analogías.** Calcula *roja* − *rojo* + *negro* con los vectores estáticos y mira las palabras más cercanas. ¿Qué ha entendido y qué no?
# 5. **La ventana.** Repite `static_vectors` con `window=1`. ¿Cambian los vecinos de *manzana*? ¿Y los de *ella*?

# %% [markdown]
# ## Soluciones
#
# **1.** Solo se confunde un par, pero de los más frecuentes: *él* y *el*. En un texto grande son miles (*esta* y *está*, *publico*, *público* y *publicó*).

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
# **2.** Casi cinco tokens por palabra: los tokens frecuentes del español no sirven para el inglés, y casi todo se escribe letra a letra. WordPiece parece mejor, pero hace trampa: una palabra con una letra que no conoce es un solo `[UNK]`.

# %%
english = "The fisherwoman was writing quietly on the bench"
rates = {name: len(t.encode(english)) / len(english.split()) for name, t in tokenizers.items()}
print({name: round(rate, 1) for name, rate in rates.items()})
assert rates["byte-level BPE"] > 3
assert wordpiece.unk_id in wordpiece.encode(english)

# %% [markdown]
# **3.** Las primeras fusiones ahorran mucho y las últimas poco: las frecuencias siguen la ley de Zipf.

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
# **4.** Acierta el género (todas son adjetivos femeninos) pero no el color: en estos cuentos los ocho adjetivos se usan exactamente en los mismos sitios, y lo que se usa igual no se puede distinguir contando.

# %%
target = vectors["roja"] - vectors["rojo"] + vectors["negro"]
found = [word for word in nearest(vectors, target, 7) if word not in ("roja", "rojo", "negro")][:4]
print(found)
assert all(word.endswith("a") for word in found[:3])

# %% [markdown]
# **5.** Con una ventana de una palabra cuenta la gramática más que el tema: los vecinos de *manzana* pasan a ser nombres femeninos que ocupan su mismo lugar, y los de *ella*, otros sujetos.

# %%
narrow = static_vectors(documents, window=1)
for word in ("manzana", "ella"):
    print(
        f"{word:8} window 4: {nearest(vectors, vectors[word], 5)}\n{'':8} window 1: {nearest(narrow, narrow[word], 5)}"
    )
assert nearest(narrow, narrow["manzana"]) != nearest(vectors, vectors["manzana"])

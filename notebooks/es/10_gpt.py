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
# # 10. GPT: predecir el token siguiente
#
# **Qué vas a aprender**
#
# - cómo una frase de la teoría de la probabilidad se convierte en una tarea de entrenamiento que no necesita etiquetas;
# - qué garantiza la máscara causal, y cómo se comprueba;
# - a leer una perplejidad por token, por palabra y por byte, y cuál de ellas se puede comparar entre modelos;
# - qué le hacen a una distribución la temperatura, top-k, top-p, min-p y la penalización por repetición, dibujado en vez de contado;
# - por qué el texto más probable no es el mejor texto.
#
# Tiempo: alrededor de una hora de lectura; el código tarda un minuto y medio en dos núcleos. Referencias: Radford et al. 2018 y 2019 (GPT, GPT-2); Holtzman et al. 2019, *The Curious Case of Neural Text Degeneration*.

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
# ## Un producto y ninguna etiqueta
#
# La probabilidad de un texto es un producto, por la regla de la cadena:
#
# $$p(x_1, \dots, x_T) = \prod_{t=1}^{T} p(x_t \mid x_1, \dots, x_{t-1})$$
#
# Un modelo de lenguaje no es más que una función que da esos factores. Para entrenarlo hace falta texto y ninguna etiqueta: la etiqueta de cada posición es el token que viene después. La pérdida es la media de $-\log p(x_t \mid x_{<t})$, una entropía cruzada en nats.
#
# Nuestro texto son 300 000 caracteres de Shakespeare. El tokenizador es el de GPT-2, un BPE de bytes (cuaderno 1), con solo 512 tokens: tan poco texto no podría enseñar el significado de más. `sentences="verbatim"` conserva los saltos de línea: quien quiera escribir teatro tiene que saber dónde acaba un verso. Un documento es una intervención; se reserva una décima parte.

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
# ## El entrenamiento
#
# Tomamos la configuración `configs/shakespeare.py` y la hacemos más pequeña: tres capas de ancho 128, filas de 64 tokens. A diferencia de un masked LM, que aprende del 15 % de los tokens, aquí cada posición da una pérdida: un LM causal aprovecha más cada paso. Las filas son un solo flujo de intervenciones, cortado cada 64 tokens (`packing="chunks"`).

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
# Antes del primer paso la pérdida es $\ln V$, la línea de puntos: un modelo que no sabe nada da a todos los tokens la misma probabilidad. El primer punto de la curva es ya la media de 20 pasos, y queda por debajo. En esos pasos aprende con qué frecuencia aparece cada token, luego cuál sigue a cuál, luego cosas más largas. Para saber hasta dónde ha llegado necesitamos referencias que cualquiera puede calcular contando:
#
# - **unigrama**: cada token según su frecuencia, venga lo que venga antes;
# - **bigrama**: cada token dado el anterior, suavizado con el unigrama.
#
# Los tres se evalúan en los mismos tokens, los primeros 64 de cada intervención reservada. Y la pérdida del GPT la calculamos aquí a mano: logits en la posición $t$, log-softmax, y de ahí la entrada del token $t+1$.

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
# ## La máscara causal, a prueba
#
# La posición $t$ puede atender a las posiciones hasta $t$ y a ninguna posterior; si no, copiaría la respuesta. Es una línea de código en `tx_jax/nn/masks.py`, y el error más caro de este oficio cuando está mal: la pérdida bajaría a cero y el modelo no habría aprendido nada. Comprobarlo es fácil. Cambiamos un token y miramos qué logits cambian.

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
# ## Perplejidad: ¿por qué unidad?
#
# La perplejidad es la exponencial de una pérdida media: $\mathrm{PPL} = \exp\left(-\frac{1}{N}\sum_t \ln p(x_t \mid x_{<t})\right)$, como si en cada paso el modelo dudara entre PPL opciones igual de probables. Todo depende de $N$. Con tokens en el denominador, un tokenizador que parte el mismo texto en más trozos da una perplejidad menor sin haber predicho nada mejor. Por eso:
#
# - **por token**: solo entre modelos con el mismo tokenizador;
# - **por palabra**: $N$ = número de palabras. Es lo que dan los artículos antiguos, y se puede comparar si ambos cuentan igual las palabras;
# - **por byte**, normalmente en bits por byte, $\frac{1}{\ln 2}\cdot\frac{\text{nats}}{\text{bytes}}$: siempre comparable, y es lo que lograría un compresor.
#
# El numerador, los nats de todo el texto, es el mismo en los tres casos.

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
# ## De una distribución a un token
#
# El modelo da una distribución; un texto necesita un token. En medio hay una decisión que no tiene nada que ver con el entrenamiento y que lo cambia todo. Primero, la distribución en sí: ¿qué sigue a `KING RICHARD III:\nMy lord,`?
#
# La **temperatura** $\tau$ divide los logits: $p_i \propto e^{z_i/\tau}$. Con $\tau \to 0$ solo queda el token más probable (*greedy*, o voraz), con $\tau = 1$ la distribución es la del modelo, con $\tau \to \infty$ todos los tokens son igual de probables.

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
# La temperatura deja a todos los tokens en juego. Ese es el problema de los textos largos: la cola tiene cientos de tokens con probabilidades pequeñas, cuya suma no es pequeña; tarde o temprano sale uno de ellos, y el modelo tiene que seguir desde un texto que nadie habría escrito. Los mandos siguientes cortan la cola, cada uno con un criterio distinto:
#
# - **top-k**: los $k$ más probables. Sencillo, pero $k$ no sabe si el modelo está seguro;
# - **top-p** (núcleo, Holtzman et al. 2019): los menos posibles cuya probabilidad sume $p$. Pocos cuando el modelo está seguro, muchos cuando no;
# - **min-p** (Nguyen et al. 2024): los que sean al menos $p$ veces tan probables como el primero.

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
# La diferencia se ve donde el modelo está seguro. Después de `KING RICH` apenas hay duda; después de `My`, muchas. Un $k$ fijo se equivoca en uno de los dos sitios. Abajo, para cada posición de un texto, cuántos tokens deja cada criterio.

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
# La **penalización por repetición** (Keskar et al. 2019) es de otra clase: mira el texto escrito hasta ahora. Los logits de los tokens que ya han aparecido se dividen por la penalización si son positivos y se multiplican si son negativos, de modo que en ambos casos se vuelven menos probables. Es una herramienta tosca: una coma también ha aparecido ya.

# %%
seen = jnp.zeros((1, V), bool).at[0, jnp.array(tokenizer.encode(prompt))].set(True)
draw({f"penalty {x}": processors.penalized(logits, seen, jnp.float32(x)) for x in (1.0, 1.5)})
p, q = (jax.nn.softmax(processors.penalized(logits, seen, jnp.float32(x)))[0] for x in (1.0, 1.5))
assert float(jnp.where(seen[0], q, 0).sum()) < float(jnp.where(seen[0], p, 0).sum())

# %% [markdown]
# ## Los textos
#
# Ahora sortea la biblioteca. `model.generate` recibe los mandos con estos nombres; una semilla hace que la muestra se pueda repetir. Primero greedy, porque «siempre el mejor token» suena sensato.

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
# Midamos, en vez de mirar una sola muestra. Para 32 muestras de cada ajuste: la proporción de trigramas de tokens distintos (1 = nada se repite), y la media de las log-probabilidades que el propio modelo da a lo que ha escrito. El texto humano, el de las intervenciones reservadas, es la estrella del dibujo; sin la línea con el nombre de quien habla, que nuestras muestras tampoco escriben, sino que continúan.


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
# Greedy tiene la mayor probabilidad y es el que más se repite: **la gente no escribe el texto más probable**, escribe con más o menos la misma incertidumbre que tiene el modelo (Holtzman et al. 2019, sección 3). Sortear con temperatura 1 cae sobre Shakespeare, según las dos medidas: a un modelo que ha aprendido bien sus probabilidades, sus propias muestras le sorprenden más o menos lo mismo que un texto que no ha visto. Top-p 0,9 deja fuera la cola, así que lo que escribe es algo más probable que el texto de Shakespeare, y aun así queda mucho más cerca de él que greedy. Y, con todo, se distinguen a simple vista: estas dos medidas ven cuánto sorprende un texto, no si tiene sentido. Lo que falta no es el ruido adecuado, sino un modelo mejor.
#
# ## Ejercicios
#
# 1. Dibuja la entropía de la distribución en función de la temperatura, de 0,1 a 4. ¿Con qué temperatura llega a la mitad de su máximo, $\ln V$?
# 2. Escribe tú top-p, ordenando, en numpy, y comprueba que deja los mismos tokens que la de la biblioteca para diez valores de $p$.
# 3. `decoding.generate` devuelve las log-probabilidades de lo que ha salido. Calcúlalas de nuevo a partir de los logits de la secuencia entera. ¿Son las de antes o las de después de la temperatura?
# 4. ¿Cuántos bits por byte necesita un buen compresor general (`lzma`) para el texto reservado? ¿Y si antes puede ver el texto de entrenamiento? Compáralo con el GPT.

# %% [markdown]
# ## Soluciones
#
# **1.** La entropía crece con la temperatura, desde 0 hasta $\ln V$.

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
# **2.** Ordenados de más a menos probable, un token se queda si los anteriores todavía no suman $p$.


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
# **3.** Las de antes de la temperatura: la biblioteca informa de lo que el modelo piensa de un token, se haya sorteado como se haya sorteado.

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
# **4.** Comprimir y predecir son el mismo problema: un codificador aritmético con este modelo gastaría los bits de su pérdida. `lzma` por sí solo empieza de cero; con el texto de entrenamiento delante ha visto lo mismo que el GPT.

# %%
seen_text, new_text = ("\n\n".join(map(tokenizer.decode, part)).encode() for part in (train, held_out))
alone = len(lzma.compress(new_text)) * 8 / len(new_text)
after = (len(lzma.compress(seen_text + new_text)) - len(lzma.compress(seen_text))) * 8 / len(new_text)
print(f"lzma alone {alone:.2f}, after the training text {after:.2f}, GPT {metrics['bits_per_byte']:.2f} bits per byte")
assert metrics["bits_per_byte"] < after < alone

# %%
folder.cleanup()

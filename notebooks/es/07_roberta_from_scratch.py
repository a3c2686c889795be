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
# # 7. Un RoBERTa desde cero, a partir de un solo archivo de texto
#
# **Qué vas a aprender**
#
# - a ir de un archivo de texto a un modelo que rellena máscaras, sin descargar nada: tokenizador, datos, modelo, entrenamiento;
# - cómo aprende sus tokens el BPE de bytes: aprenderás tú los cuarenta primeros y los compararás;
# - las cinco cosas que RoBERTa cambió en BERT, tres de las cuales verás en los datos;
# - dónde están los 83,5 millones de parámetros de KantaiBERT, el modelo del curso;
# - a decir con cifras qué ha aprendido un modelo y qué no puede haber aprendido.
#
# Tiempo: alrededor de una hora de lectura; el código tarda un minuto y medio en dos núcleos. Referencias: Liu et al. 2019, *RoBERTa: A Robustly Optimized BERT Pretraining Approach*; Sennrich et al. 2016 (BPE).

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
# ## El texto
#
# KantaiBERT, en el curso que sigue este cuaderno, se entrena con unos megabytes de Kant. Con dos minutos no alcanza para eso: este programa, con dos capas de ancho 128 y 300 000 caracteres de Shakespeare, acertaba el 18,0 % de los tokens enmascarados después de 1200 pasos, poco más de lo que dan las frecuencias. Por eso tomamos un texto cuyo mundo es pequeño. Lo ha escrito una gramática (`notebooks/data/make_small_world.py`): gente en lugares haciendo lo que se hace allí, frases cuyo verbo concuerda con el sujeto, y datos por los que se pregunta un poco después. Doscientas y pico palabras, pero regularidades de verdad, y de las que sabemos qué hay que aprender. Es una ventaja: de un modelo de Kant nadie podría decir qué debería saber.

# %%
source = WORK / "world.txt"
source.write_text(make_small_world.texts(make_small_world.document, 4000, seed=7))
corpus = source.read_text()
print(
    f"{len(corpus):,} characters, {len(corpus.split()):,} words, {len(set(corpus.lower().split())):,} different ones\n"
)
print(corpus[:900])

# %% [markdown]
# ## El tokenizador
#
# BPE (*byte pair encoding*) empieza con caracteres sueltos y repite un único paso: buscar el par de vecinos más frecuente dentro de las palabras y convertirlo en un token. Tras tantos pasos como quieras, la lista de fusiones es el tokenizador. Bastan veinte líneas. El nuestro escribe el espacio que precede a una palabra como `Ġ`, igual que GPT-2 y RoBERTa, de modo que «the» al principio de una palabra y «the» dentro de *mother* son tokens distintos.


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
# El tokenizador de la biblioteca hace lo mismo con bytes en lugar de caracteres (así ningún texto de ningún idioma le es desconocido), y mucho más deprisa. ¿Son sus primeras fusiones las nuestras?

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
# Las palabras frecuentes de este mundo son un solo token; el español, que no ha visto nunca, se deshace en bytes (`ñ` son dos), pero se recupera exactamente. El WordPiece de BERT habría dado `[UNK]`.
#
# ## Los datos: qué cambió RoBERTa
#
# RoBERTa tiene la arquitectura de BERT. Lo que cambia es cómo se entrena (Liu et al. 2019, sección 4):
#
# 1. **enmascaramiento dinámico**: cada vez que se ve una secuencia se enmascara de nuevo, y no una sola vez en el preprocesamiento (4.1);
# 2. **sin predicción de la siguiente frase**, y con filas llenas de frases completas, aunque crucen documentos (*full sentences*, 4.2);
# 3. lotes más grandes (4.3): 8192 secuencias en lugar de 256;
# 4. BPE de bytes con 50 000 tokens (4.4);
# 5. más datos y más tiempo de entrenamiento (5): 160 GB de texto.
#
# La primera, la segunda y la cuarta están en nuestra configuración. Preparamos el almacén de tokens y miramos qué va a leer el modelo.

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
# Se elige un 15 % de los tokens, y de estos el 80 % se convierte en `<mask>`, el 10 % en un token al azar y el 10 % se queda como está, igual que en BERT. Contémoslo, y veamos si una secuencia que vuelve en una época posterior se enmascara en otro sitio.

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
# ## El modelo
#
# KantaiBERT tiene seis capas de ancho 768. ¿Dónde están sus parámetros? Una forma (*shape*) no ocupa memoria: `param_shapes` las calcula todas sin reservar nada, y las sumamos según sus rutas.


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
# Casi la mitad son la tabla de 52 000 tokens; la capa de salida usa la misma tabla (pesos compartidos) y solo añade un sesgo por token. Las posiciones empiezan en 2: RoBERTa las cuenta a partir del índice de su relleno más uno, una rareza de la primera implementación que tienen todos sus descendientes (`position_offset`).
#
# ## El entrenamiento
#
# La receta es la de KantaiBERT con una tasa de aprendizaje mayor, que es lo que piden un modelo pequeño y poco tiempo. `tx_jax.train` lo escribe todo en un directorio: la configuración, las métricas, los checkpoints.

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
# Las líneas discontinuas son lo que no necesita ningún modelo: siempre el token más frecuente, y la entropía de las frecuencias. Durante un rato el modelo también está ahí: lo primero que aprende es qué palabras son frecuentes. Después la curva cae, al principio mucho y luego poco a poco; cada tramo es algo que ha encontrado la atención.
#
# ## Rellenar máscaras

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
# Cada una de estas frases pide otra cosa: saber cómo es el mundo (qué se hace en cada lugar), concordancia de género (*She*, *He*), concordancia de número por encima de un *atractor* (*keys of the teacher*), y copiar un dato de dos frases antes. Ejemplos sueltos no prueban nada. Hacemos 200 frases nuevas de cada clase, con la misma gramática y otra semilla, y contamos.

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
# En un minuto no se aprende todo por igual, y el orden es instructivo. Primero llega lo que se decide **dentro de una frase**: a los 1600 pasos el verbo ya concordaba con su sujeto en las 200 frases, mientras que los lugares apenas superaban el azar (20 %). Lo que necesita **otra frase** llega después: a los 3000 pasos el lugar ya se sabe; si a un nombre le toca *She* o *He*, todavía no, o apenas. Y copiar exige dos pasos de atención: encontrar la frase con el mismo sujeto y luego traer su última palabra. Las redes lo aprenden tarde y bastante de golpe. Esta no lo ha aprendido: sus respuestas a la última pregunta son lugares dichos al azar. Tampoco el modelo más grande del cuaderno siguiente, al que veremos adivinar.
#
# ## Llevárselo a casa
#
# El modelo es ahora un directorio de entrenamiento. `to_hf` lo escribe en el formato de Hugging Face, donde lo puede abrir cualquier programa que lea RoBERTa, y también el nuestro.

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
# ## Ejercicios
#
# 1. ¿Cuántos tokens ocupa una palabra con vocabularios de 280, 400, 600, 1000 y 2000 tokens? ¿A partir de qué tamaño deja de servir un vocabulario mayor en este mundo?
# 2. Con `c.data.mask_unit = "whole_word"` se enmascaran juntos todos los trozos de una palabra. Haz un tokenizador de 300 tokens y muestra una fila con cada unidad. ¿Por qué es más difícil la tarea?
# 3. Busca los vecinos más próximos de *garden*, *red*, *Ana* e *is* por el coseno de sus filas en la tabla de tokens. Nadie le ha hablado al modelo de categorías gramaticales.
# 4. Un modelo sin entrenar: ¿qué pérdida esperas, y por qué? Calcúlala con `model.apply` y parámetros de `registry.init_params`.

# %% [markdown]
# ## Soluciones
#
# **1.** Más tokens, menos trozos, hasta que cada palabra de este mundo pequeño es un solo token.

# %%
sizes, per_word = (280, 400, 600, 1000, 2000), []
for size in sizes:
    one = text.train("byte_bpe", corpus.split("\n\n"), vocab_size=size)
    ids = one.encode(corpus[:20_000])
    per_word.append(len(ids) / len(corpus[:20_000].split()))
    print(f"asked for {size:5}, got {one.vocab_size:5}: {per_word[-1]:.2f} tokens per word")
assert per_word[0] > 2 * per_word[2] and per_word[2] > per_word[3] > 1

# %% [markdown]
# Queda más de 1 porque los puntos y los signos de interrogación también son tokens. El texto no ofrece más fusiones de las que necesitan sus palabras: si pides más, el entrenamiento da menos.
#
# **2.** Con tokens sueltos, el resto de la palabra delata la respuesta: a `Ġgar` le sigue `den`. La palabra entera hay que adivinarla por la frase.

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
# **3.** Las palabras que ocupan los mismos sitios reciben filas parecidas.

# %%
from tx_jax.evaluation import domain

near = domain.neighbours(model, ["garden", "red", "Ana", "is"], top=5)
for word, others in near.items():
    print(f"{word:8}", ", ".join(f"{other.strip('Ġ')} {cosine:.2f}" for other, cosine in others))
places = {f"Ġ{place}" for place in make_small_world.PLACES}
assert sum(other in places for other, _ in near["garden"]) >= 3

# %% [markdown]
# **4.** Alrededor de $\ln V$, como si todos los tokens fueran igual de probables; un poco más, porque unos logits al azar no son del todo uniformes.

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

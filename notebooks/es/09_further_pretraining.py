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
# # 9. Seguir preentrenando: adaptar un modelo a un dominio
#
# **Qué vas a aprender**
#
# - a medir lo ajeno que le es un dominio a un modelo, antes de hacer nada;
# - a añadir palabras al vocabulario, y por qué no deberían empezar al azar;
# - a continuar el masked LM con textos del dominio, con máscaras al azar y con máscaras sobre palabras elegidas;
# - a comparar antes y después en texto reservado, con cifras que valen para modelos de vocabularios distintos;
# - qué ha olvidado un modelo adaptado, y qué ayuda a evitarlo.
#
# Tiempo: una hora de lectura; el código tarda un minuto y medio en dos núcleos. Referencias: Gururangan et al. 2020, *Don't Stop Pretraining*; Timoneda y Vallejo Vera 2025 (enmascaramiento selectivo); Hewitt 2021 (tokens nuevos).

# %%
import dataclasses
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tx_jax
from tx_jax.config import from_config_dict
from tx_jax.config.further import experiment_values
from tx_jax.convert import model_dir, new_tokens
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.evaluation import domain
from tx_jax.evaluation.evaluate import evaluate_model, held_out
from tx_jax.runs.open_model import open_model
from tx_jax.tasks.registry import open_task

sys.path += ["../..", "../data"]  # the clone, for its folder configs; and the generator of the texts
import make_small_world

from configs import further_pretrain

DATA = Path("../data")
START = DATA / "small_bert"
folder = tempfile.TemporaryDirectory()
WORK = Path(folder.name)
clinic = (DATA / "clinic.txt").read_text()
print(*clinic.split("\n\n")[:4], sep="\n")

# %% [markdown]
# ## Paso 1: medir el dominio
#
# El modelo conoce un mundo pequeño en el que hay un hospital, pero ninguna enfermedad. El dominio: 450 notas breves de una médica, hechas con una gramática (`make_small_world.py`) en la que van juntos los síntomas, la enfermedad y el tratamiento. Dos medidas dicen lo ajenas que son.
#
# **Palabras en trozos.** Un tokenizador parte las palabras que no conoce. Los trozos alargan el texto, y sus embeddings juntos no significan nada. Contamos, y las palabras de arriba de la lista son las candidatas a tokens nuevos.

# %%
original = tx_jax.load(START, heads=("masked_lm",))
tokenizer = original.tokenizer
world = make_small_world.texts(make_small_world.document, 450, seed=123)


def words_of(text):
    return Counter(text.lower().replace(".", " ").replace("?", " ").split())


for name, text in (("small world", world), ("clinic", clinic)):
    counts = words_of(text)
    pieces = dict(zip(counts, map(len, tokenizer.encode_words(list(counts)))))
    per_word = sum(counts[w] * n for w, n in pieces.items()) / counts.total()
    print(f"{name:12} {counts.total():6,} words, {len(counts):4} different, {per_word:.2f} pieces per word")
split = sorted(((counts[w], w) for w, n in pieces.items() if n > 1), reverse=True)
for times, word in split[:14]:
    print(f"{times:4} times {word:10} {' '.join(tokenizer.tokens(tokenizer.encode_words([word])[0]))}")
assert per_word > 1.2

# %% [markdown]
# **Perplejidad de las palabras enmascaradas.** ¿Cuánto sorprende al modelo un texto reservado del dominio, comparado con uno de su propio mundo? Ambos se preparan como almacenes de tokens con el *mismo* tokenizador, para poder comparar las cifras.

# %%
(WORK / "world.txt").write_text(world)
(WORK / "clinic.txt").write_text(clinic)


def store(text, tokenizer, name):
    tokenizer.save(WORK / f"{name}_tokenizer")
    source = SourceConfig(specs=(str(WORK / f"{text}.txt"),))
    options = {"tokenizer": str(WORK / f"{name}_tokenizer"), "validation_fraction": 0.2, "workers": 1}
    prepare(PrepareConfig(WORK / name, source, **options))
    return str(WORK / name)


def configuration(store):
    c = further_pretrain.get_config("mini")
    c.start_from, c.data.store = str(START), store
    c.model.heads = ("masked_lm",)
    c.model.dtype = "float32"
    c.data.sequence_length, c.data.max_predictions = 48, 8
    return c


def perplexity(model, store):
    """Of masked tokens of the held-out documents."""
    values = experiment_values(configuration(store).to_dict())
    config = dataclasses.replace(from_config_dict(values), model=model.model)
    task = open_task(config, store, model.tokenizer)
    batches = task.batches("validation", batch_size=32, repeat=False)
    found = evaluate_model(model, task, held_out(batches, 0))
    return math.exp(found["masked_lm_loss"])


own, foreign = (perplexity(original, store(text, tokenizer, f"{text}_original")) for text in ("world", "clinic"))
print(f"perplexity on its own world {own:.1f}, on the clinic {foreign:.1f}")
assert foreign > 3 * own

# %% [markdown]
# La lista de arriba mezcla palabras del dominio con otras tan corrientes como *and* y *have*, que el mundo pequeño no tenía. Un modelo publicado ya conoce estas últimas; con él, una lista así muestra solo el dominio.
#
# ## Paso 2: tokens nuevos
#
# Las palabras del dominio pasan a ser tokens: seis enfermedades y sus síntomas. Un token necesita una fila en la tabla de embeddings (y en la capa de salida, que usa la misma tabla). Si empezara al azar sería un extraño para las capas de arriba, que nunca han visto vectores así. `add_tokens` hace que empiece como la **media de palabras parecidas** que tú indicas, o si no, de los trozos que era. Para enfermedades y síntomas este mundo no tiene sinónimos; tomamos lo más cercano por el tema, *hospital* y *doctor*. (Con un modelo publicado: *covid* como media de *virus* y *pandemia*.)

# %%
ILLNESSES = tuple(make_small_world.ILLNESS)
SIGNS = tuple(sorted({sign for signs in make_small_world.SIGNS.values() for sign in signs}))
new = (*ILLNESSES, *SIGNS)
similar = dict.fromkeys(new, ("hospital", "doctor"))
larger = new_tokens.add_tokens(open_model(START, heads=("masked_lm",)), new, similar)
model_dir.save(larger, WORK / "start")
before = tx_jax.load(WORK / "start")
print(f"{tokenizer.vocab_size} tokens before, {before.tokenizer.vocab_size} now")

rows = np.asarray(before.params["embeddings"]["token"]["embedding"])
covid, hospital, doctor = (before.tokenizer.encode_words([word])[0][0] for word in ("covid", "hospital", "doctor"))
assert np.allclose(rows[covid], (rows[hospital] + rows[doctor]) / 2, atol=1e-6)
near = [word for word, _ in domain.neighbours(before, ["covid"], top=20)["covid"]]
print("next to covid, without the other new ones:", [word for word in near if word not in new][:4])

# %% [markdown]
# ## Paso 3: continuar el masked LM
#
# El objetivo es el mismo; el texto, el del dominio. Hay dos formas de elegir las máscaras:
#
# - **al azar**: el 15 % de los tokens, como en BERT. La mayoría son *the*, *is* y puntos, que el modelo conoce de sobra;
# - **selectiva** (Timoneda y Vallejo Vera 2025): solo palabras de una lista, aquí las nuevas. Cada máscara cae donde hay algo que aprender.
#
# Los dos entrenamientos tienen el mismo número de pasos.

# %%
clinic_store = store("clinic", before.tokenizer, "clinic_new")
(WORK / "words.txt").write_text("\n".join(new))


def adapt(name, steps=300, **data):
    c = configuration(clinic_store)
    c.start_from = str(WORK / "start")
    for key, value in data.items():
        c.data[key] = value
    c.optimizer.learning_rate = 3e-3
    c.training.num_steps, c.training.batch_size, c.training.log_every = steps, 16, 25
    c.training.eval_every = c.training.checkpoint_every = steps
    c.training.keep_best = 0
    tx_jax.train(c, WORK / name, progress=False)
    return tx_jax.load(WORK / name)


selective = {"selective_words": str(WORK / "words.txt"), "mask_rate": 0.5, "max_predictions": 24}
adapted = {"random": adapt("random"), "selective": adapt("selective", **selective)}

# %% [markdown]
# ## Paso 4: antes y después
#
# La cifra que comparten todos estos modelos, tengan el vocabulario que tengan: la probabilidad que el masked LM da a una palabra del dominio en su sitio, en notas reservadas, con todos sus trozos enmascarados. Para el modelo original es el producto sobre los trozos.

# %%
notes = TokenStore.open(clinic_store).split("validation")
found = domain.occurrences(notes, new, before.tokenizer, 20)
models = {"original": original, "new tokens, untrained": before, **adapted}
probabilities = {name: domain.word_probabilities(model, found) for name, model in models.items()}
means = {
    name: {word: float(np.mean([p for p, one in zip(values, found) if one.word == word])) for word in new}
    for name, values in probabilities.items()
}
fig, ax = plt.subplots(figsize=(10, 3.2))
for number, (name, of_words) in enumerate(means.items()):
    ax.bar(np.arange(len(new)) + 0.2 * number, list(of_words.values()), 0.2, label=name)
ax.set_xticks(np.arange(len(new)) + 0.3, new, rotation=40, ha="right")
ax.set(ylabel="probability of the masked word")
ax.legend(frameon=False, fontsize=8)
plt.show()
for name, values in probabilities.items():
    print(f"{name:24} {values.mean():.4f}")
assert probabilities["random"].mean() > 10 * probabilities["original"].mean()

# %%
table = {
    name: (perplexity(model, clinic_store), probabilities[name].mean()) for name, model in list(models.items())[1:]
}
print(f"{'':24} {'perplexity':>10} {'P(domain word)':>15}")
for name, (of_all, of_words) in table.items():
    print(f"{name:24} {of_all:10.1f} {of_words:15.3f}")
near = domain.neighbours(adapted["selective"], ["covid", "fever"], top=4)
print({word: [other for other, _ in others] for word, others in near.items()})
for name, model in models.items():
    (guesses,) = adapted.get(name, model).fill_mask(
        "Ana has cough and wheezing. It is [MASK]. She avoids the smoke.", top=3
    )
    print(f"{name:24}", ", ".join(f"{word} {p:.0%}" for word, p in guesses))
assert table["random"][0] < table["new tokens, untrained"][0] / 3 < table["selective"][0]
assert min(table[name][1] for name in adapted) > 10 * table["new tokens, untrained"][1]

# %% [markdown]
# Lee la tabla con las dos columnas a la vista. En las palabras *de la lista* los dos van igualados, aunque uno de ellos no ha practicado otra cosa. Sobre *todos* los tokens, el enmascaramiento al azar va muy por delante: el modelo selectivo nunca ha tenido que predecir nada fuera de su lista, ahora pone esas palabras en todas partes, y su perplejidad se sale de la escala. Así que en este pequeño experimento el enmascaramiento selectivo por sí solo no ha ganado nada y ha perdido mucho; si compensa en el tuyo hay que medirlo, y el ejercicio 3 prueba un término medio. Mira también las respuestas: con tan pocos pasos los dos saben *qué clase* de palabra falta, una enfermedad, y apenas *cuál*; lo que una frase dice de otra se aprende después (cuaderno 7). Qué es mejor depende de para qué quieres el modelo; si es para clasificar notas, la última palabra la tiene el ajuste fino (`--config.downstream` de `experiments.further_pretrain` lo hace antes y después, con varias semillas).
#
# ## ¿Qué se ha olvidado?
#
# La pregunta que casi nunca se hace. ¿Cómo le va al modelo adaptado en su mundo de antes?

# %%
world_store = store("world", before.tokenizer, "world_new")
old = {name: perplexity(model, world_store) for name, model in {"new tokens, untrained": before, **adapted}.items()}
for name, value in old.items():
    print(f"{name:24} perplexity on the old world {value:8.1f}")
assert old["random"] > 1.5 * old["new tokens, untrained"]

# %% [markdown]
# Ha pagado lo nuevo con lo viejo (*olvido catastrófico*): en el texto nuevo ya nada preguntaba por jardines ni estaciones. El remedio es tan simple como antiguo: mezclar. Lo hace el ejercicio 1.
#
# ## Ejercicios
#
# 1. Entrena con una mezcla de los dos almacenes (`data.store` admite varios, `data.mixture_weights` dice cuánto de cada uno), mitad y mitad. ¿Qué ganas y qué pierdes?
# 2. ¿Cuánto vale empezar bien? Añade los mismos tokens sin palabras parecidas, de modo que empiecen como la media de sus trozos, y entrena solo 50 pasos con cada comienzo.
# 3. `selective_share` enmascara de forma selectiva solo una parte de las secuencias, y las demás al azar. Prueba con 0.5: ¿se puede tener todo?

# %% [markdown]
# ## Soluciones
#
# **1.** Algo menos aprendido en los mismos pasos, y casi nada olvidado.

# %%
mixed = adapt("mixed", store=f"{clinic_store},{world_store}", mixture_weights=(0.5, 0.5))
for name, model in (("random", adapted["random"]), ("mixed", mixed)):
    print(f"{name:8} clinic {perplexity(model, clinic_store):6.1f}, old world {perplexity(model, world_store):6.1f}")
assert perplexity(mixed, world_store) < old["random"] / 1.3

# %% [markdown]
# **2.** Una palabra con una letra que el tokenizador no ha visto nunca no tiene trozos, solo `[UNK]`: necesita sus palabras parecidas de todos modos. Con tan pocos pasos la diferencia se ve bien, a favor de las palabras parecidas; con suficientes pasos, el comienzo se olvida. Empezar bien ahorra pasos, no añade conocimiento.

# %%
unknown = [word for word in new if tokenizer.unk_id in tokenizer.encode_words([word])[0]]
print("no pieces at all:", unknown)
needed = {word: similar[word] for word in unknown}
model_dir.save(new_tokens.add_tokens(open_model(START, heads=("masked_lm",)), new, needed), WORK / "start_pieces")
starts = {}
for name in ("start", "start_pieces"):
    c = configuration(clinic_store)
    c.start_from = str(WORK / name)
    c.training.num_steps = c.training.eval_every = c.training.checkpoint_every = 50
    c.training.log_every, c.training.keep_best = 25, 0
    tx_jax.train(c, WORK / f"short_{name}", progress=False)
    short = tx_jax.load(WORK / f"short_{name}")
    starts[name] = domain.word_probabilities(short, found).mean()
    print(f"{name:14} P(domain word) {starts[name]:.3f}")
assert starts["start"] > 2 * starts["start_pieces"]

# %% [markdown]
# **3.** Aquí sí: las palabras de la lista se saben por lo menos igual de bien que antes, y lo demás no se ha perdido.

# %%
both = adapt("both", selective_share=0.5, **selective)
of_words = domain.word_probabilities(both, found).mean()
print(f"perplexity {perplexity(both, clinic_store):.1f}, P(domain word) {of_words:.3f}")
assert perplexity(both, clinic_store) < 2 * table["random"][0]
assert of_words > 0.8 * table["selective"][1]
folder.cleanup()

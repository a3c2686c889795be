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
# # 11. Dentro de un Transformer
#
# **Qué vas a aprender**
#
# - a mirar la atención cabeza por cabeza, y a reconstruir los pesos de una cabeza a partir de sus consultas y claves;
# - a decir qué hacen las cabezas con cifras y no con impresiones;
# - a preguntar a cada capa qué sabe (sondas, *probes*) y a desconfiar de la respuesta (tareas de control);
# - a preguntar a cada capa qué diría (*logit lens*);
# - a encontrar el sitio donde se toma una decisión, metiendo las activaciones de un texto en otro (*patching*) y quitando piezas (ablación);
# - de qué tokens viene una predicción (gradientes integrados), y por qué la atención no responde a eso.
#
# Tiempo: una hora y media de lectura; el código tarda un minuto en dos núcleos. Referencias: Clark et al. 2019 (cabezas), Hewitt y Liang 2019 (tareas de control), nostalgebraist 2020 (logit lens), Vig et al. 2020 y Meng et al. 2022 (patching), Sundararajan et al. 2017 (gradientes integrados).

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
# ## El objeto de estudio
#
# Nuestro paciente es un BERT de 4 capas y 4 cabezas, preentrenado unos minutos con el mundo pequeño de `make_small_world.py` (cuaderno 7). Es lo bastante pequeño para verlo entero, y ha aprendido algo que no es trivial: el verbo concuerda con su sujeto, y **no** con el sustantivo que tenga al lado. *The keys of the teacher ___ old*: el sustantivo más cercano es singular, el verbo correcto es plural. ¿Cómo lo hace? ¿Dónde se guarda el número de *keys* y cómo llega hasta la máscara? Al final lo sabremos, hasta dar con las cabezas que lo hacen.
#
# Todo lo que hay dentro tiene un nombre, como en un árbol de parámetros:

# %%
known = sites.of(model.model)
for name in ("encoder/input", *(name for name in known if "layer_0" in name), "encoder/output"):
    print(f"{name:42} [{', '.join(known[name].axes)}]")

# %% [markdown]
# ## La atención, vista y reconstruida
#
# `view.attention` enseña la atención de un texto como una página dentro del cuaderno: elige capa y cabeza, y señala un token. (Los cuadernos se guardan sin salidas: ejecuta la celda.)

# %%
TEXT = "The keys of the teacher [MASK] old."
view.attention(model, TEXT)

# %% [markdown]
# Lo mismo en dieciséis dibujos pequeños: las filas son consultas (quién mira) y las columnas claves (a quién se mira). Y para que no quede nada mágico, tomamos las consultas y claves de una cabeza y calculamos los pesos nosotros: $\operatorname{softmax}(QK^\top/\sqrt{K})$.

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
# ## Qué hacen las cabezas, con cifras
#
# Con una sola frase uno se inventa historias. `heads.patterns` promedia sobre todos los tokens de muchas frases: cuánto peso va al token anterior, al siguiente, a los especiales; lo repartido que está (entropía). Clark et al. 2019 lo hicieron con BERT y encontraron cabezas de cada clase. Usamos las 200 frases de prueba de los datos de etiquetado.


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
# Las cabezas que miran a un vecino aparecen en casi todos los Transformers, en las primeras capas: con posiciones absolutas, «el token anterior» hay que aprenderlo, y sobre eso se construyen muchas otras cosas.
#
# ## Sondas: ¿qué sabe una capa?
#
# Una *sonda* es un clasificador pequeño sobre los estados ocultos de una capa. Si una sonda lineal lee la categoría gramatical de una palabra en la capa 2 con un 99 %, es que esa información está ahí y es fácil de leer. Pero antes de alegrarse hay que hacer dos preguntas:
#
# - **¿Cuánto se acertaría sin el modelo?** La etiqueta más frecuente de cada palabra no necesita estados ocultos.
# - **¿Aprendería la sonda cualquier cosa?** Hewitt y Liang 2019: dale a cada palabra una etiqueta al azar (la *tarea de control*), que solo se puede aprender de memoria. La **selectividad** es la exactitud menos la exactitud en el control.


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
# Las cifras dicen que en esta gramática pequeña casi todas las palabras tienen una sola categoría, de modo que la referencia es alta; quedan palabras como *plants* y *waters*, sustantivos en una frase y verbos en otra. Los embeddings no ven el contexto, solo la palabra y su posición, y adivinan con eso; la atención decide. La curva de control, que baja, dice tanto como la que sube: las capas profundas olvidan *qué palabra* era y se quedan con lo que *hace*.
#
# ## Logit lens: ¿qué diría cada capa?
#
# Todas las capas suman sobre el mismo flujo residual, y la cabeza del masked LM lee el final. Nada impide darle el flujo de una capa anterior: *si fuera la última, ¿qué predeciría?* Dos frases con un atractor entre el sujeto y el verbo:


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
# Los embeddings y la primera capa no dicen nada sensato en la máscara; luego aparece una forma de *to be*, y solo al final es seguro su número. La lente muestra *cuándo*. No muestra *de dónde*.
#
# ## Patching: ¿dónde está el número?
#
# Dos textos que se diferencian en una sola cosa:
#
# - base: *The **key** near the door [MASK] old.* El modelo dice *is*.
# - donante: *The **keys** near the door [MASK] old.* Dice *are*.
#
# Ejecutamos la base, y en **una** capa y **un** token ponemos el estado oculto del donante. Si la predicción pasa de *is* a *are*, el número está ahí. La puntuación es $\text{logit}(are) - \text{logit}(is)$, en una escala donde 0 es la base y 1 el donante; lo hacemos con cada capa y cada token, y con ocho pares de sustantivos.

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
# El camino se ve: hasta la capa 1 el número está en el sustantivo, después de la 3 está en la máscara, y en ningún otro sitio. Entre medias se **mueve**. Lo único que mueve información entre tokens es la atención; así que parcheamos cabezas sueltas. `part="heads"` mete lo que ha leído una cabeza, en todos los tokens.

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
# Las capas de las cabezas se cuentan desde 0, como en `encoder/layer_0`; en el dibujo de los estados ocultos, *layer 1* es lo que sale de `layer_0`. Dos cabezas, en dos capas seguidas, llevan tres cuartas partes; las demás, casi nada. ¿A qué miran las dos desde la máscara? Si nuestra historia es cierta, tiene que ser al **sujeto**, por lejos que esté y haya lo que haya en medio. Lo comprobamos con 200 frases que la historia no ha visto, con una oración de relativo o un complemento como *near the doors* entre sujeto y verbo.

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
# Así que la historia es esta: en el sustantivo se sabe su número desde la primera capa; dos cabezas, desde la máscara, buscan el sujeto y traen su número; la última capa hace con él *is* o *are*. Lo sabemos por una intervención (patching), por la contraria (ablación) y por una predicción sobre frases nuevas. Así debería ser una afirmación sobre el interior de un modelo; un dibujo de la atención habría sido una anécdota.
#
# ## Atribución: ¿de qué tokens viene una predicción?
#
# El patching pregunta con pares de textos. Para un texto solo están los gradientes. Los *gradientes integrados* van a pasos pequeños desde un texto neutro (todas las palabras enmascaradas) hasta el de verdad, y suman los gradientes por el camino:
#
# $$\mathrm{IG}_i = (x_i - x'_i)\cdot\int_0^1 \frac{\partial f\left(x' + \alpha (x - x')\right)}{\partial x_i}\, d\alpha, \qquad \sum_i \mathrm{IG}_i = f(x) - f(x')$$
#
# La segunda fórmula, la *completitud*, se puede comprobar, y lo hacemos. Al lado: la oclusión (enmascarar un token y ver qué se pierde) y el *attention rollout*, que multiplica la atención de todas las capas y no sabe nada de la pregunta.

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
# Los dos métodos que preguntan por la *predicción* coinciden: *are* viene de *keys*. El rollout reparte su peso entre todo, porque todo se mezcla en el vector de la máscara; no puede saber que de todo eso solo el número decide entre *is* y *are*. «Attention is not explanation» (Jain y Wallace 2019) no es una condena de la atención, sino de leer en un dibujo más de lo que dice.
#
# ## Ejercicios
#
# 1. Haz patching con un donante que sea la propia base. ¿Qué tiene que salir, y por qué vale la pena esta prueba?
# 2. Repite el patching con `part="mlp"` y `part="attention"`. ¿En qué capa importa más la atención en la máscara?
# 3. Entrena la sonda con un modelo de la misma forma y parámetros al azar. ¿Cuánta de la exactitud era mérito del entrenamiento?
# 4. Cuenta, en las 200 frases, cuántas veces elige bien el verbo el modelo sin su cabeza más fuerte; sin las dos, las tres... más fuertes; y en el orden inverso. ¿Qué dice eso de quitar una sola cabeza cada vez?

# %% [markdown]
# ## Soluciones
#
# **1.** No debe cambiar nada: es una prueba de la herramienta, no del modelo. Quien interviene comprueba primero que la intervención, por sí sola, no hace nada.

# %%
same = patching.patch(model, questions[0], questions[0].row, "hidden")
print(f"largest change {np.abs(same.scores - same.base).max():.1e}")
assert np.abs(same.scores - same.base).max() < 1e-3

# %% [markdown]
# **2.** En la máscara, en las capas de las dos cabezas. Las MLP importan en la primera capa en el sustantivo, y luego en la máscara: trabajan con lo que ya está ahí.

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
# **3.** Los vectores al azar también distinguen palabras, así que la sonda aprende la mayor parte de memoria: un aviso. Lo que añade el entrenamiento es la diferencia, sobre todo en las palabras con dos categorías.

# %%
fresh = dataclasses.replace(model, params=registry.init_params(model.model, jax.random.key(0)))
of_fresh = probes.probe(labeled(fresh, train_words, train_numbers), labeled(fresh, test_words, test_numbers), "linear")
print("trained:", np.round(probed.accuracy, 3), "\nrandom: ", np.round(of_fresh.accuracy, 3))
assert probed.accuracy.max() > of_fresh.accuracy.max()

# %% [markdown]
# **4.** Sin la cabeza más fuerte *no pasa nada*: la segunda hace su trabajo. Sin las dos, el verbo falla a menudo; sin tres, se adivina. En el orden inverso se pueden ir siete cabezas y no se pierde nada. Quien hubiera quitado las cabezas de una en una habría concluido que ninguna importa.

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

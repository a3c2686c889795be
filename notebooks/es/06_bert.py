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
# **Qué vas a aprender**
#
# - qué lee BERT: pares de frases con `[CLS]`, `[SEP]` y segmentos;
# - a enmascarar a mano, 80/10/10, y a calcular la pérdida del modelo de lenguaje enmascarado;
# - cómo convierte el modelo un vector en una palabra: la capa de salida, reconstruida con numpy;
# - a preentrenar un BERT pequeño en un minuto y a leer sus curvas;
# - qué ha aprendido (concordancia, contexto, qué frases van juntas) y qué no.
#
# Tiempo: una hora de lectura; el código tarda de uno a dos minutos. Referencia: Devlin et al. 2018, *BERT: Pre-training of Deep Bidirectional Transformers*. Es `make quickstart-long` por dentro, en español y en pequeño.

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
# ## Del texto a los números
#
# El texto son 800 cuentos cortos de una gramática nuestra (`notebooks/data/make_stories.py`), cada uno sobre una persona en un lugar. `prepare` hace tres cosas: entrena un vocabulario WordPiece (cuaderno 1), parte los documentos en frases y los guarda como números. Un documento de cada diez, más o menos, queda apartado para evaluar. Pedimos 640 tokens porque este texto no da para más: con ellos, cada una de sus 233 palabras es ya un token propio, y a WordPiece no le queda nada que unir (pídele 800 y dará 640).
#
# Para el español hay que decir que se conserven las tildes: el BERT original las quita, y entonces *año* y *ano* son la misma palabra.

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
# ## Lo que lee BERT
#
# Una entrada de BERT es un par de fragmentos, A y B (figura 2 del artículo):
#
# $$\texttt{[CLS]}\ A_1 \dots A_n\ \texttt{[SEP]}\ B_1 \dots B_m\ \texttt{[SEP]}$$
#
# A cada token se le suman tres vectores: el suyo, el de su posición y el de su segmento (0 para A, 1 para B). De cada entrada salen **dos tareas** sin que nadie haya etiquetado nada:
#
# 1. **Modelo de lenguaje enmascarado** (MLM): tapar el 15 % de los tokens y adivinarlos.
# 2. **Frase siguiente** (NSP): la mitad de las veces B sigue de verdad a A; la otra mitad es de otro documento. ¿Cuál es?
#
# Partimos de la configuración de `make quickstart-long`, encogida, y le pedimos un lote:

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
# `a<-b` quiere decir: el modelo ve `a` y debe decir `b`. No todos los tokens elegidos aparecen como `[MASK]`. El artículo (sección 3.1) reparte: 80 % `[MASK]`, 10 % una palabra al azar, 10 % la misma palabra. Si siempre fuera `[MASK]`, el modelo solo tendría que pensar donde ve uno, y en el ajuste fino, donde no hay ninguno, no sabría qué hacer. Programémoslo:

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
# ## El modelo
#
# Un codificador de dos capas (cuaderno 4) con dos **cabezas**, aquí en el otro sentido de la palabra: capas de salida. Veamos dónde están los parámetros.

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
# La capa de salida del MLM no tiene una matriz $D \times V$ propia: reutiliza la tabla de embeddings $E$ (pesos *atados*). Si $h$ es el vector de la última capa en una posición,
#
# $$\text{logits} = E \cdot \operatorname{LayerNorm}\big(\operatorname{GELU}(W h + c)\big) + b$$
#
# es decir: el modelo construye un vector y lo compara con el de *cada palabra* del vocabulario. Comprobémoslo con parámetros sin entrenar.

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
# La **pérdida** es la entropía cruzada, solo en las posiciones elegidas: $-\log p(\text{token verdadero})$, en promedio. ¿Con qué compararla? Quien no sabe nada reparte por igual entre $V$ tokens: $\log V$. Quien solo sabe qué tokens son frecuentes llega a la entropía de los unigramas. Un modelo que no baja de ahí no ha entendido ni una frase.

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
# ## Preentrenar
#
# 1500 pasos de 32 pares. Mientras corre, una predicción: ¿qué tarea se aprenderá antes, adivinar palabras o decir si dos fragmentos van juntos?

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
# La frase siguiente se aprende antes: basta con notar que *andén* y *cebolla* no son del mismo cuento. El MLM tarda más: empieza por las frecuencias, y tiene que descubrir que puede *mirar* las palabras de alrededor, y cuáles. Con textos de verdad eso puede llevar miles de pasos en los que la pérdida apenas se mueve, y después cae como por un escalón.
#
# ## ¿Qué ha aprendido?

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
# Los dos últimos son una pequeña prueba de gramática: *maleta* pide adjetivo femenino y *perro* masculino. Midámoslo: de la probabilidad que el modelo da a los ocho adjetivos, ¿cuánta va al género correcto?

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
# Nadie le ha dicho qué es el género.
#
# **El contexto, por los dos lados.** ¿Dónde está Ana? La respuesta viene *después* del hueco; un modelo que lee de izquierda a derecha no podría saberla.

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
# ¿De dónde lo saca? Miremos la fila de `[MASK]` en la atención de cada cabeza (los cuadernos 3 y 11 explican cómo leerla).

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
# **La frase siguiente.** La cabeza de NSP lee el vector de `[CLS]` y da dos logits; el 0 es «B sigue a A». Cortemos por la mitad los cuentos apartados, con los que BERT no se ha entrenado, y demos a cada comienzo su final, y luego el final del cuento siguiente. (Cuatro de cada cinco de sus frases salen también en otros cuentos; ninguno de los cuentos.)

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
# ## Frases como vectores
#
# `encode` promedia los vectores de la última capa. Sin haber visto nunca una etiqueta de lugar, el modelo coloca juntas las frases que pasan en el mismo sitio. Dibujemos las dos direcciones principales.

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
# ## Ejercicios
#
# 1. **Perplejidad.** Convierte la pérdida del MLM en perplejidad, $e^{\text{pérdida}}$, y compárala con la de los unigramas. ¿Qué significa el número?
# 2. **¿Entiende o ataja?** Da la vuelta al orden de las frases del final de cada cuento: ¿qué dice NSP? Después, quita de cada comienzo la primera frase (*X está en…*) y vuelve a medir con el final verdadero. ¿En qué se fija el modelo?
# 3. **Qué es fácil.** Enmascara, una a una, las palabras de *Ella corta la cebolla con el cuchillo.* y anota la probabilidad de la correcta. ¿Cuáles son las más fáciles?
# 4. **El sentido de *banco*.** Con `tx_jax.interpret.contexts.look` y `within_and_across`, mira si los vectores de *banco* de la última capa se separan por sentidos. ¿Y por qué no tendrían que hacerlo?
# 5. **A los dos lados.** Un modelo de izquierda a derecha no puede usar lo que viene después. Compara la predicción de `[MASK]` en *Lucía se sienta en el `[MASK]`* y en *Lucía se sienta en el `[MASK]` de madera.*

# %% [markdown]
# ## Soluciones
#
# **1.** La perplejidad es el número de palabras entre las que el modelo duda, como si fueran igual de probables.

# %%
print(f"model {np.exp(metrics['masked_lm_loss']):.1f}, unigrams {np.exp(unigrams):.0f}, vocabulary {store.vocab_size}")
assert np.exp(metrics["masked_lm_loss"]) < np.exp(unigrams) / 5

# %% [markdown]
# **2.** El orden le da igual: el tema es el mismo, y nunca vio un final desordenado como ejemplo negativo. En cambio, sin la primera frase puede rechazar finales verdaderos: en los datos, un fragmento B que sigue de verdad llega hasta el final de su cuento, así que A contiene siempre el comienzo; al azar, no siempre. Es un **atajo** de los datos, no comprensión. Por cosas así RoBERTa suprimió NSP (cuaderno 7) y ALBERT (Lan et al. 2019) la cambió por el orden de las frases.

# %%
backwards = follows(begins, [joined(story[:2:-1]) for story in told])
headless = follows([joined(story[1:3]) for story in told], ends)
print(
    f"as told {np.mean(own):.2f}, ending backwards {np.mean(backwards):.2f}, no first sentence {np.mean(headless):.2f}"
)
assert np.mean(backwards) > np.mean(own) - 0.2

# %% [markdown]
# **3.** Las palabras gramaticales (*la*, *con*, *el*) son casi seguras; las de contenido dependen de las pistas que queden (aquí bastan casi siempre: la frase está en los cuentos). El sujeto es el más difícil: podría ser cualquiera.

# %%
words = "Ella corta la cebolla con el cuchillo".split()
chances = {}
for place, word in enumerate(words):
    hidden = " ".join("[MASK]" if i == place else w for i, w in enumerate(words)) + "."
    chances[word] = dict(model.fill_mask(hidden, top=store.vocab_size)[0]).get(word.lower(), 0.0)
print({word: round(p, 2) for word, p in chances.items()})
assert chances["la"] > chances["Ella"]

# %% [markdown]
# **4.** No: los cosenos entre sentidos no son más bajos que dentro de uno. El MLM pide adivinar palabras *tapadas*; para una palabra visible como *banco* basta con seguir diciendo *banco*, y el contexto que hace falta lo recoge cada `[MASK]` por su cuenta. En un BERT grande, con muchas capas y mucho texto, los sentidos sí se separan: Wiedemann, Remus, Chawla y Biemann 2019, *Does BERT Make Any Sense?*, acertaron el sentido de una palabra por sus vecinos más próximos entre los vectores de BERT (el cuaderno 11 tiene las herramientas).

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
# **5.** *De madera* decide. Con solo lo anterior, el modelo duda más.

# %%
both_sides = dict(model.fill_mask("Lucía se sienta en el [MASK] de madera.", top=store.vocab_size)[0])["banco"]
one_side = dict(model.fill_mask("Lucía se sienta en el [MASK]", top=store.vocab_size)[0])["banco"]
print(f"banco: {one_side:.2f} before, {both_sides:.2f} with 'de madera'")
assert both_sides > 0.5

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
# # 5. El Transformer traduce
#
# **Qué vas a aprender**
#
# - a entrenar el Transformer original, codificador y decodificador, en un minuto: español a inglés;
# - por qué comparten vocabulario los dos idiomas, y qué hacen el suavizado de etiquetas y el calentamiento de la tasa de aprendizaje;
# - a traducir palabra a palabra con un bucle tuyo, y qué mejora la búsqueda en haz;
# - a medir con BLEU y a leer en la atención qué palabra sale de cuál;
# - qué no sabe un modelo que solo ha visto una gramática pequeña.
#
# Tiempo: una hora de lectura; el código tarda de uno a dos minutos. Referencia: Vaswani et al. 2017, *Attention Is All You Need*. Antes conviene haber leído los cuadernos 3 y 4.

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
# ## Los datos
#
# Un corpus de verdad, como WMT14, tiene millones de frases y pide días de GPU. Para ver aprender al modelo en un minuto usamos frases de una gramática nuestra (`notebooks/data/make_pairs.py`). Es pequeña, pero no es trivial: obliga a *mover* palabras.

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
# Fíjate en lo que no puede hacerse palabra por palabra:
#
# | fenómeno | español | inglés |
# |---|---|---|
# | el adjetivo cambia de lado | *la manzana **roja*** | *the **red** apple* |
# | el posesivo se da la vuelta | *el perro **de la vecina*** | *the **neighbor's** dog* |
# | el pronombre se va al final | *la abuela **lo** compró* | *the grandmother bought **it*** |
# | la negación necesita un auxiliar | ***no** come* | ***does not** eat* |
# | el sujeto falta | *compré pan* | ***I** bought…* |
# | una palabra, dos sentidos | *el **banco** abre / el **banco** de madera* | *the **bank** opens / the wooden **bench*** |
#
# ## Un vocabulario para los dos
#
# El artículo (sección 5.1) entrena un solo vocabulario de subpalabras con los dos idiomas juntos. Así codificador, decodificador y capa de salida comparten una misma tabla de embeddings (sección 3.4), y lo que es igual en ambos, como nombres y números, tiene el mismo token. `prepare` entrena el tokenizador y escribe los pares ya convertidos en números.

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
# El símbolo `▁` es el espacio de SentencePiece. La fuente acaba en `</s>`. El decodificador recibe `<s>` y los tokens ya traducidos, y en cada posición debe predecir el siguiente, hasta escribir `</s>`.
#
# ## El modelo y su receta
#
# Partimos de la configuración de la biblioteca para Multi30k, que es la del artículo en pequeño, y la encogemos más: dos capas en cada lado, de ancho 64.

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
# Dos piezas de la receta merecen una fórmula.
#
# **Calentamiento** (sección 5.3). La tasa de aprendizaje sube en línea recta durante los primeros pasos y después baja como la raíz del paso. Al principio los gradientes de Adam se estiman con pocos pasos y no hay que fiarse de ellos:
#
# $$\eta(t) = \eta_{\max} \cdot \min\!\left(\frac{t}{w},\ \sqrt{\frac{w}{t}}\right)$$
#
# **Suavizado de etiquetas** (sección 5.4). El objetivo no es «el token correcto con probabilidad 1», sino $1-\varepsilon$ para él y $\varepsilon/V$ para todos. El modelo no puede ganar nada volviéndose infinitamente seguro. Por eso la pérdida de entrenamiento no llega a cero: su mínimo es la entropía de ese objetivo.

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
# En cada evaluación el modelo traduce las frases de validación. Veamos la curva: `metrics.jsonl` guarda todo lo que pasó.

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
# ## Traducir con un bucle
#
# Al entrenar, el decodificador ve la traducción correcta y predice todas las posiciones a la vez (*teacher forcing*). Al traducir no hay traducción: hay que escribir un token, añadirlo a la entrada y volver a preguntar. Elegir siempre el más probable se llama búsqueda **voraz** (*greedy*).

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
# Cada línea muestra los tres candidatos de un paso. La biblioteca hace lo mismo, pero guarda claves y valores de los tokens ya escritos en una **caché**, para no calcularlos otra vez en cada vuelta.
#
# ## Búsqueda en haz
#
# La elección más probable en cada paso no siempre lleva a la frase más probable. La **búsqueda en haz** (*beam search*) mantiene las $b$ mejores frases a medias. Como cada token más resta log-probabilidad, las frases cortas saldrían ganando; el artículo (sección 6.1) usa $b=4$ y divide entre la penalización de Wu et al. 2016:
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
# La gramática nunca pone a nadie a *esperar* en un banco, así que hay algo que decidir. Compara las cuatro frases con el original: ¿falta algo?
#
# ## BLEU
#
# ¿Cómo de buenas son 300 traducciones? **BLEU** (Papineni et al. 2002) cuenta cuántos n-gramas de la traducción están en la referencia, para $n = 1 \dots 4$, y multiplica la media geométrica por una penalización si la traducción es corta:
#
# $$\text{BLEU} = \min\!\left(1, e^{1 - r/c}\right) \cdot \exp\Big(\tfrac14 \sum_{n=1}^{4} \log p_n\Big)$$
#
# con $c$ y $r$ las longitudes de traducción y referencia. Hay muchas variantes, que difieren en puntos enteros; por eso se publica la firma de sacrebleu (Post 2018).

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
# Un BLEU así es imposible en un corpus de verdad (el artículo publica 27,3 de inglés a alemán): aquí cada frase tiene una sola traducción y hay poco más de 400 palabras entre los dos idiomas. Miremos los fallos, que enseñan más que la cifra.

# %%
wrong = [row for row in zip(test, references, translated["greedy"]) if row[1] != row[2]]
for source, reference, translation in wrong[:5]:
    print(f"{source}\n    reference:   {reference}\n    translation: {translation}")

# %% [markdown]
# ## ¿Qué palabra sale de cuál?
#
# La **atención cruzada** del decodificador pregunta a la salida del codificador. Atención a los índices: la fila del token $i$ calcula la predicción del token $i+1$. Por eso rotulamos cada fila con el token que se *predice* en ella. Tomamos la última capa y promediamos las cabezas.

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
# La mancha oscura no sigue la diagonal: *red* lee *roja*, que está al final, y *apple* lee *manzana*; *dog* salta a *perro* después de haber escrito al dueño. Comprobémoslo con los adjetivos de todo el conjunto de prueba: al predecir el adjetivo inglés, ¿lee el modelo el adjetivo español?

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
# La misma palabra, dos traducciones. La decisión tiene que venir del contexto. ¿Cómo llega hasta ella? Lo que uno espera es que la autoatención del codificador lleve el contexto al vector de *banco*, y que el decodificador lea ese vector. Miremos qué lee de verdad la fila que predice *bank* o *bench*.

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
# No hay una sola respuesta. Unas veces lee *banco*, cuyo vector ya trae el contexto; otras va a buscar la palabra que decide (*madera*, *del* parque), sin pasar por *banco*. La atención cruzada puede leer el contexto allí donde está, y al modelo le da igual por qué camino le llega. En BERT, que no tiene atención cruzada, el contexto tiene que llegar al vector de cada palabra: lo veremos en el cuaderno 6. La moraleja: una hipótesis sobre lo que hace un modelo se comprueba.
#
# ## Lo que no sabe
#
# El modelo habla con la misma seguridad de lo que nunca ha visto. La palabra *elefante* no existe en el corpus, y de madera solo hay bancos.

# %%
strange = ["El elefante come la manzana.", "El barco de madera está roto.", "El niño come pan y la niña lee una carta."]
for text in strange:
    (one,) = decoding.generate(model, [text], decoding.Options(temperature=0.0))
    print(f"{text:45} {one.text:45} log-probability {sum(one.log_probs):.1f}")
assert "elephant" not in model.translate(strange[0])

# %% [markdown]
# ## Ejercicios
#
# 1. **BLEU a mano.** Calcula con `Counter` el BLEU de la traducción *the dog eats the apple* con la referencia *the dog eats the red apple*. Compáralo con `sacrebleu.sentence_bleu` sin suavizado (`smooth_method="none"`).
# 2. **¿Importa el orden?** Baraja las palabras de cada frase fuente del conjunto de prueba y mide BLEU otra vez. ¿Por qué no cae a cero?
# 3. **Dos traducciones, un juez.** Con `next_log_probs`, suma la log-probabilidad de *The bank is closed.* y de *The bench is closed.* como traducciones de *El banco está cerrado.* ¿Cuántas veces más probable es la primera?
# 4. **Sin castigo a lo largo.** Traduce 50 frases del conjunto de prueba con 4 haces y `length_penalty=0.0` y compara la longitud media con la de `length_penalty=3.0`.
# 5. **Una cabeza cada vez.** ¿Qué cabeza de la última capa es la más concentrada, es decir, de menor entropía media, en la frase del dibujo?

# %% [markdown]
# ## Soluciones
#
# **1.** Las precisiones son 5/5, 3/4, 2/3 y 1/2 y la penalización $e^{1-6/5}$.

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
# **2.** Cae, pero menos de lo que uno temería: las palabras sueltas siguen traduciéndose, y el modelo reconstruye un orden plausible con lo que sabe del inglés. Donde varias palabras podrían ocupar el mismo sitio, en cambio, se equivoca.

# %%
rng = np.random.default_rng(0)
shuffled = [" ".join(rng.permutation(text.split())) for text in test[:150]]
found = [one.text for one in decoding.generate(model, shuffled, searches["greedy"])]
after = scores(found, references[:150], metrics=("bleu",))[0]["bleu"]
print(f"BLEU {after:.1f}; {shuffled[0]} -> {found[0]}")
assert 1 < after < values["bleu"] - 10


# %% [markdown]
# **3.** Se suma token a token, con la traducción hasta ahí como entrada; cuenta también el `</s>` final.

# %%
def log_probability(source, translation):
    ids = [*tokenizer.encode(translation), special.end]
    return sum(float(next_log_probs(source, ids[:i])[token]) for i, token in enumerate(ids))


both = [log_probability("El banco está cerrado.", f"The {word} is closed.") for word in ("bank", "bench")]
print(both, f"{np.exp(both[0] - both[1]):.0f} times")
assert both[0] > both[1]

# %% [markdown]
# **4.** Casi nada cambia: donde el modelo está seguro, las alternativas más cortas o más largas tienen probabilidades tan bajas que ninguna penalización las rescata. En corpus de verdad, con modelos inseguros, sí importa.

# %%
mean_length = {}
for penalty in (0.0, 3.0):
    options = decoding.Options(num_beams=4, length_penalty=penalty, length_normalization="gnmt")
    mean_length[penalty] = np.mean([len(one.tokens) for one in decoding.generate(model, test[:50], options)])
print(mean_length)
assert mean_length[0.0] <= mean_length[3.0] + 0.01

# %% [markdown]
# **5.** La entropía de una fila es $-\sum_j w_j \log w_j$: cero si mira a un solo token y $\log S$ si mira a todos por igual.

# %%
(found,) = model.capture(["El perro de la vecina no come la manzana roja."], [name], targets=[target])
entropies = -(found[name] * np.log(found[name] + 1e-9)).sum(-1).mean(-1)
print("entropy by head:", entropies.round(2), "of", round(float(np.log(found[name].shape[-1])), 2))
assert entropies.max() < np.log(found[name].shape[-1])

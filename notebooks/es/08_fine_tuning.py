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
# # 8. Ajuste fino: un cuerpo, cuatro cabezas
#
# **Qué vas a aprender**
#
# - cómo un modelo preentrenado se convierte en cuatro distintos: aceptabilidad (como CoLA), etiquetado, preguntas extractivas (como SQuAD) y opción múltiple (como SWAG), cada uno con una cabeza de entre unas decenas y unos cientos de números;
# - por qué CoLA se puntúa con la correlación de Matthews, que calcularás a mano;
# - a comparar con referencias, sobre todo con el mismo modelo **sin** preentrenar;
# - cómo se lee una respuesta en las puntuaciones de inicio y de fin;
# - a probar un modelo ajustado fuera de aquello con lo que se entrenó, y qué deja de poder decirse entonces.
#
# Tiempo: una hora y media de lectura; el código tarda de dos a tres minutos en dos núcleos. Referencia: Devlin et al. 2018, sección 4 y figura 4.

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
# ## De qué partimos
#
# CoLA, SQuAD y SWAG no se pueden redistribuir libremente, y BERT base no aprende en dos minutos en un portátil. Por eso los datos de este cuaderno los ha hecho una gramática (`notebooks/data/make_small_world.py`, unos cientos de ejemplos de cada), y el modelo es un BERT de cuatro capas de ancho 64, preentrenado unos minutos con el mismo mundo pequeño (`notebooks/data/train_small_bert.py`). Los pasos son los mismos que con los originales: `configs/glue.py:cola`, `configs/squad.py` y `configs/swag.py` leen los archivos publicados.
#
# La receta es siempre la misma. Se toma el cuerpo; se le pone encima una cabeza nueva con pesos al azar; se entrena **todo**, con una tasa de aprendizaje pequeña, unas pocas épocas. Una función lo hace para las cuatro tareas:


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
# ## Aceptabilidad, y Matthews
#
# *The keys of the teacher are old* es inglés; *The keys of the teacher is old* no, aunque lo sean todas sus palabras. El *Corpus of Linguistic Acceptability* le pide a un modelo ese juicio. El nuestro tiene cuatro clases de errores: concordancia, orden de palabras, determinante, verbo que falta. Dos tercios de las frases son aceptables, como en CoLA.


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
# Quien diga siempre *aceptable* acierta dos de cada tres veces sin haber leído nada. La exactitud premia eso. La correlación de Matthews no: es la correlación entre predicción y verdad, como dos columnas de ceros y unos,
#
# $$\mathrm{MCC} = \frac{TP\cdot TN - FP\cdot FN}{\sqrt{(TP+FP)(TP+FN)(TN+FP)(TN+FN)}},$$
#
# 1 si todo es perfecto, 0 para el azar y para quien diga siempre lo mismo.


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
# **¿Cuánto se debe al preentrenamiento?** La misma arquitectura, los mismos datos, los mismos pasos, solo que empezando con parámetros al azar. Sin esta comparación, un ajuste fino no dice nada del modelo del que partió. Y junto al total, la parte de los errores que se detectan, por clases.

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
# Todas las clases de error se detectan más a menudo. La concordancia es la más difícil para los dos, y el preentrenamiento dobla con creces lo que se detecta de ella: un masked LM ha tenido que elegir miles de veces entre *is* y *are* con el sujeto lejos; solo con 1200 etiquetas eso no se aprende tan deprisa.
#
# **¿Y fuera?** El archivo `acceptability_other.csv` tiene una clase de error que el entrenamiento no ha enseñado nunca: *The boy sees **themselves** in the mirror*. Esa partición también se ha evaluado:

# %%
print({name: round(value, 3) for name, value in metrics["other"].items()})
other = table("acceptability_other.csv")
said = Counter(one["prediction"] for one in judge.classify([row["text"] for row in other]))
print("predictions:", dict(said), "truth:", dict(Counter(row["label"] for row in other)))
assert metrics["other"]["mcc"] < metrics["validation"]["mcc"] - 0.3

# %% [markdown]
# El modelo ha aprendido a detectar cuatro clases de errores, **no** qué es inglés aceptable. Su exactitud ahí parece algo solo porque la mayoría de las frases son aceptables; la MCC dice la verdad. También en CoLA la cifra que importa es la de fuera del dominio.
#
# ## Etiquetado
#
# Una etiqueta por palabra, a partir del vector de su primer trozo (Devlin et al. 2018, 5.3). La referencia honrada es la etiqueta más frecuente de cada palabra, para la que basta un diccionario, sin modelo. Falla en palabras como *plants* y *waters*: sustantivos en *the plants are green*, verbos en *she plants a tree*.

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
# ## Preguntas cuya respuesta está en el texto
#
# El modelo lee `[CLS] pregunta [SEP] contexto [SEP]` y da a cada token dos números: si la respuesta podría **empezar** ahí, y si podría **acabar** ahí (Devlin et al. 2018, 4.2). La puntuación de un tramo es $S_i + E_j$ con $j \ge i$; el mejor tramo es la respuesta. La cabeza son dos vectores de ancho 64. Se evalúan la coincidencia exacta y F1, el solapamiento en palabras.

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
# Muy bien en textos como los de entrenamiento. ¿Por qué sale tanto peor `other`? Ahí cada texto tiene tres personas y cosas, de modo que **varios** tramos podrían responder a una pregunta de su clase. *Where is the key?* tiene dos o tres lugares para elegir, y el modelo, que nunca tuvo que elegir, casi siempre toma uno equivocado. Lo que ha aprendido es la *clase* de la respuesta: *where* pide un lugar, *who* un nombre. Mientras en el texto haya uno solo de cada clase, no se nota. Jia y Liang (2017) mostraron lo mismo con los modelos de SQuAD de su época, añadiendo una sola frase al texto. Una cifra alta en los datos de prueba solo dice: en textos como estos.
#
# ## Opción múltiple
#
# SWAG pregunta cuál de cuatro finales continúa una escena. Cada final se empareja con la escena y se lee como un texto aparte; un único vector $w$ puntúa los cuatro, y la softmax va **sobre los cuatro**: $p_i \propto \exp(w\cdot h_i)$. Los finales no saben nada unos de otros.


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
# Lo que decide aquí es conocimiento del mundo que no está en ninguna etiqueta: las flores se riegan en el jardín. El modelo lo ha leído en el preentrenamiento; el que empieza de cero tiene que encontrarlo en 400 ejemplos.
#
# ## Ejercicios
#
# 1. ¿Cómo cambian la exactitud y la MCC si el umbral para decidir *aceptable* pasa de 0,5 a otros valores? Dibuja las dos.
# 2. Curvas de aprendizaje: ajusta con 100, 300 y 1200 frases de aceptabilidad. ¿Cuántas etiquetas vale el preentrenamiento?
# 3. Congela el cuerpo (`c.optimizer.frozen = ("^embeddings/", "^encoder/")`) y entrena solo la cabeza del etiquetador. ¿Qué dice la diferencia?
# 4. Mete un segundo lugar en el contexto de una pregunta (*Pedro is in the market.*) y vuelve a preguntar *Where is Lucia?* ¿Depende la respuesta del orden de las frases?

# %% [markdown]
# ## Soluciones
#
# **1.** La exactitud es plana en un tramo amplio; la MCC cae a cero en los dos extremos, donde todo recibe la misma respuesta.

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
# **2.** Un entrenamiento más, con las primeras 300 frases, para no gastar tu tiempo (100 y un modelo de cero quedan para ti). Compáralo con el modelo de cero con las 1200.

# %%
few = WORK / "few.csv"
few.write_text("".join((DATA / "acceptability.csv").read_text().splitlines(keepends=True)[:301]))
c = classification.get_config()
c.data.train, c.data.validation = str(few), str(DATA / "acceptability_test.csv")
c.data.metrics = ("mcc", "accuracy")
of_few, _ = fine_tune(c, "few", epochs=10.0, rate=1e-3)
print(f"MCC: pretrained on 300 {of_few['validation']['mcc']:.3f}, fresh on 1,200 {of_fresh['validation']['mcc']:.3f}")

# %% [markdown]
# **3.** Lo que puede leer la cabeza sola es lo que el preentrenamiento ha dejado *linealmente* en la última capa (una sonda, cuaderno 11); el resto es lo que el ajuste cambia en el cuerpo.

# %%
c = tagging.get_config()
c.data.train, c.data.validation = str(DATA / "tags.conll"), str(DATA / "tags_test.conll")
c.optimizer.frozen = ("^embeddings/", "^encoder/")
head_alone, _ = fine_tune(c, "tags_head", epochs=8.0, rate=1e-2)
print(f"all {tagging_metrics['validation']['accuracy']:.3f}, head alone {head_alone['validation']['accuracy']:.3f}")

# %% [markdown]
# **4.** Una respuesta que cambia cuando cambian de sitio frases que no tienen que ver con ella no se ha encontrado: se ha adivinado.

# %%
parts = ["Lucia is in the garden.", "Pedro is in the market.", "Carmen is in the station."]
answers = Counter(
    reader.answer("Where is Lucia?", " ".join(order))["prediction"] for order in itertools.permutations(parts)
)
print(answers)
assert all(answer.startswith("in the") for answer in answers)
folder.cleanup()

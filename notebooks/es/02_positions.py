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
# # 2. Posiciones
#
# **Qué vas a aprender**
#
# - por qué un Transformer sin posiciones confunde *el perro muerde al hombre* con *el hombre muerde al perro*;
# - la fórmula de senos y cosenos del artículo, programada en tres líneas y dibujada;
# - qué tienen que ver las posiciones con un reloj, y por qué desplazarse es girar;
# - un error de índice que se ha copiado en muchos tutoriales, y cómo descubrirlo con un solo número;
# - qué usan BERT (posiciones aprendidas) y los modelos de hoy (rotatorias).
#
# Tiempo: unos 40 minutos de lectura; el código tarda unos segundos. Referencia: Vaswani et al. 2017, *Attention Is All You Need*, sección 3.5.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## El problema
#
# La atención compara cada palabra con todas y promedia (cuaderno 3). Nada en esa operación depende del lugar que ocupa cada una. Comprobémoslo con un codificador entero, sin entrenar, al que le quitamos las posiciones: los tokens 1 a 5 en un orden y en otro.

# %%
from tx_jax.config import TransformerConfig
from tx_jax.models import registry


def encoder(position_embedding):
    return TransformerConfig(
        architecture="encoder", vocab_size=32, dim=64, num_layers=2, num_heads=4, mlp_dim=128, max_length=64,
        num_segments=0, activation="gelu", norm_position="post", layer_norm_eps=1e-6, dropout=0.0,
        attention_dropout=0.0, init_stddev=0.2, heads=("masked_lm",), dtype="float32", remat="none",
        position_embedding=position_embedding,
    )  # fmt: skip


def output_of_last(config, params, tokens):
    tokens = jnp.asarray([tokens])
    output = registry.build(config).apply({"params": params}, tokens, valid_BT=tokens >= 0, deterministic=True)
    return np.asarray(output.hidden[0, -1])


# %%
dog_bites_man, man_bites_dog = [1, 2, 3, 4, 5], [4, 2, 3, 1, 5]  # token 5 is the full stop
for kind in ("none", "sinusoidal"):
    config = encoder(kind)
    params = registry.init_params(config, jax.random.key(0))
    one, other = (output_of_last(config, params, tokens) for tokens in (dog_bites_man, man_bites_dog))
    print(f"{kind:10} difference of the full stop's vector: {np.abs(one - other).max():.6f}")
    assert (np.abs(one - other).max() < 1e-5) == (kind == "none")

# %% [markdown]
# Sin posiciones, el punto final recibe *exactamente* el mismo vector de las dos frases: la información de quién muerde a quién no existe. Hay que escribirla en la entrada.
#
# ## Ideas que no bastan
#
# ¿Sumar el número de la posición, 0, 1, 2, …? Los números crecerían sin límite y taparían el significado de la palabra. ¿Dividirlo entre la longitud? Entonces «una palabra más allá» sería distinto en cada frase. Queremos un vector por posición que (1) sea único, (2) tenga un tamaño acotado, (3) cambie poco de una posición a la siguiente y (4) en el que la *distancia* entre dos posiciones se lea igual en cualquier lugar de la frase.
#
# Un reloj cumple todo eso: el segundero va rápido y el horario despacio; con las agujas juntas se distingue cualquier instante, y ninguna se sale de la esfera.
#
# ## La fórmula
#
# $$PE_{(p,\,2i)} = \sin\!\left(\frac{p}{10000^{2i/D}}\right), \qquad PE_{(p,\,2i+1)} = \cos\!\left(\frac{p}{10000^{2i/D}}\right), \qquad i = 0, 1, \dots, \tfrac{D}{2}-1$$
#
# Cada par de columnas $(2i, 2i+1)$ es una aguja: el seno y el coseno de un ángulo que avanza $10000^{-2i/D}$ radianes por palabra. La primera da una vuelta cada $2\pi \approx 6$ palabras; la última, cada $2\pi \cdot 10000 \approx 63\,000$. En código, tres líneas:

# %%
from tx_jax.interpret import positions


def sinusoidal(length, dim):
    rates = 10_000.0 ** (-np.arange(0, dim, 2) / dim)  # 2i = 0, 2, 4, ...
    angles = np.arange(length)[:, None] * rates  # [P, D/2]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim)


encodings = sinusoidal(512, 512)
difference = np.abs(encodings - positions.sinusoidal(512, 512)).max()
print(f"largest difference from the library's: {difference:.1e}")  # which computes in float32
assert difference < 1e-4
encodings[:3, :6]

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
image = left.imshow(sinusoidal(100, 64), cmap="RdBu", aspect="auto")
left.set(xlabel="column", ylabel="position", title="width 64")
fig.colorbar(image, ax=left)
for column in (0, 8, 16, 24):
    right.plot(sinusoidal(100, 64)[:, column], label=f"column {column}")
right.set(xlabel="position", title="four columns")
right.legend(loc="upper right")
plt.show()

# %% [markdown]
# A la izquierda, cada fila es el vector de una posición. Las columnas de la izquierda del dibujo oscilan deprisa y las de la derecha apenas se mueven en cien palabras: son las que distinguen el principio de un texto de su final.
#
# ## Desplazarse es girar
#
# ¿Por qué parejas de seno y coseno? Porque avanzar $k$ palabras gira cada aguja un ángulo *que no depende de dónde se esté*:
#
# $$\begin{pmatrix} \sin((p+k)\omega) \\ \cos((p+k)\omega) \end{pmatrix} = \begin{pmatrix} \cos k\omega & \sin k\omega \\ -\sin k\omega & \cos k\omega \end{pmatrix} \begin{pmatrix} \sin p\omega \\ \cos p\omega \end{pmatrix}$$
#
# Es decir: $PE_{p+k}$ es una función lineal de $PE_p$, la misma en todas partes. Una capa lineal puede aprender a mirar «tres palabras atrás»; esa era la hipótesis de los autores. Y el producto escalar de dos posiciones depende solo de su distancia:
#
# $$PE_p \cdot PE_q = \sum_i \cos\big((p-q)\,\omega_i\big)$$

# %%
products = encodings @ encodings.T
for distance in (0, 1, 8, 100):
    diagonal = np.diagonal(products, distance)
    print(f"{distance:3} words apart: from {diagonal.min():.4f} to {diagonal.max():.4f}")
    assert np.ptp(diagonal) < 1e-9
rates = 10_000.0 ** (-np.arange(0, 512, 2) / 512)
assert np.allclose(products[2, 10], np.cos(8 * rates).sum())

# %% [markdown]
# Todos los vectores tienen la misma longitud, $\sqrt{D/2}$ (cada aguja aporta $\sin^2+\cos^2=1$), así que también el **coseno** entre dos posiciones depende solo de la distancia.
#
# ## El 0,8600 que no debía ser
#
# Muchos cursos proponen este experimento: con $D=512$, calcula el coseno entre las posiciones 2 y 10. Un listado que circula desde hace años da **0,8600**. Con nuestra función:

# %%
print(f"the paper's formula: {positions.cosine(encodings, 2, 10):.4f}")
assert abs(positions.cosine(encodings, 2, 10) - 0.7225) < 5e-4

# %% [markdown]
# 0,7225. ¿Quién tiene razón? El listado recorre las columnas pares con `for i in range(0, 512, 2)` y en el exponente escribe `2 * i / 512`. Pero ahí `i` *ya es* la columna par, lo que la fórmula llama $2i$: el índice está doblado dos veces. Reproduzcámoslo:

# %%
copied = np.zeros((512, 512))
for i in range(0, 512, 2):
    angle = np.arange(512) / 10_000 ** (2 * i / 512)  # the 2 should not be here
    copied[:, i], copied[:, i + 1] = np.sin(angle), np.cos(angle)
print(f"the copied listing: {positions.cosine(copied, 2, 10):.4f}")
assert abs(positions.cosine(copied, 2, 10) - 0.8600) < 5e-4
assert np.allclose(copied, positions.doubled_index(512, 512))

# %% [markdown]
# Ahí está el 0,8600. El programa funciona, el dibujo parece razonable y nadie se queja; por eso el error se copia. Pero las frecuencias caen el doble de deprisa, y casi la mitad de las columnas, las de la derecha, no se mueve: no dicen nada de la posición.

# %%
fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for ax, (name, table) in zip(axes, {"the paper": encodings, "the copied listing": copied}.items()):
    ax.imshow(table[:100], cmap="RdBu", aspect="auto")
    still = (np.ptp(table, axis=0) < 0.01).mean()
    ax.set(title=f"{name}: {still:.0%} still", xlabel="column", ylabel="position")
    axes[2].plot(positions.by_distance(table)[:200], label=name)
axes[2].set(xlabel="distance in words", title="cosine", ylim=(0, 1))
axes[2].legend()
assert (np.ptp(copied, axis=0) < 0.01).mean() > 0.4 > 0.1 > (np.ptp(encodings, axis=0) < 0.01).mean()

# %% [markdown]
# La curva de la derecha lo resume: con el índice doblado, dos palabras cualesquiera parecen más cercanas de lo que están. Un número contra el que comparar (aquí, 0,7225) vale más que un dibujo bonito.
#
# ## Sumadas a las palabras
#
# Los embeddings de las palabras se multiplican por $\sqrt{D}$ y se les suma la posición (secciones 3.4 y 3.5). Al principio del entrenamiento los embeddings tienen números del orden de $1/\sqrt{D}$; sin ese factor, las posiciones, que llegan a 1, los taparían. Reconstruyamos la entrada del codificador de la biblioteca:

# %%
import dataclasses

from tx_jax.interpret import capture

config = dataclasses.replace(encoder("sinusoidal"), embedding_scale=True, embedding_norm=False)
params = registry.init_params(config, jax.random.key(1))
tokens = jnp.array([[7, 7, 3, 7]])
inputs = {"tokens": tokens, "valid": jnp.ones_like(tokens, bool)}
_, found = capture.run(config, params, inputs, read=["encoder/input"])
ours = params["embeddings"]["token"]["embedding"][tokens[0]] * np.sqrt(64) + sinusoidal(4, 64)
print("largest difference:", float(np.abs(found["encoder/input"][0] - ours).max()))
assert np.allclose(found["encoder/input"][0], ours, atol=1e-5)

# %% [markdown]
# La palabra 7 aparece tres veces y entra con tres vectores distintos. Significado y posición comparten las mismas columnas; el modelo aprende a separarlos.
#
# ## Lo que vino después
#
# **Posiciones aprendidas.** BERT y GPT-2 cambian la fórmula por una tabla de parámetros, una fila por posición. Es más simple y da resultados parecidos (tabla 3, fila E, del artículo), pero no hay fila para la posición 513.
#
# **Posiciones rotatorias** (RoPE, Su et al. 2021), las de casi todos los modelos de hoy. En vez de sumar, *giran* consultas y claves: el par $i$ de coordenadas de la posición $p$ gira un ángulo $p\,\omega_i$. Al multiplicar consulta por clave, los ángulos se restan, y la puntuación depende de la distancia y del contenido, nunca de la posición absoluta.

# %%
from tx_jax.nn.rotary import rotary_angles, rotate

width, length = 64, 200
query, key = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
angles = rotary_angles(jnp.arange(length)[None], head_dim=width, theta=10_000.0)
turned_query, turned_key = (
    np.asarray(rotate(jnp.broadcast_to(x, (1, length, 1, width)), angles)[0, :, 0]) for x in (query, key)
)
scores = turned_query @ turned_key.T  # the same query and key at all pairs of positions
for distance in (0, 5, 50):
    diagonal = np.diagonal(scores, distance)
    print(f"{distance:2} words apart: from {diagonal.min():.3f} to {diagonal.max():.3f}")
    assert np.ptp(diagonal) < 1e-3
assert np.ptp(scores) > 1

# %%
plt.figure(figsize=(4, 3.2))
plt.imshow(scores[:60, :60], cmap="RdBu")
plt.title("scores of one query and one key")
plt.xlabel("position of the key")
plt.ylabel("position of the query")
plt.colorbar()
plt.show()

# %% [markdown]
# Bandas diagonales: solo cuenta la distancia, con signo.
#
# ## Ejercicios
#
# 1. **El segundero y el horario.** Con $D=512$, ¿qué pareja de columnas da una vuelta cada 100 palabras, más o menos?
# 2. **Seno y coseno por separado.** Marian y Tensor2Tensor ponen primero todos los senos y luego todos los cosenos. ¿Cambian los productos escalares entre posiciones? Compruébalo con `sinusoids(..., halves=True)`.
# 3. **Leer la posición.** Suma ruido normal de desviación típica 0,5 a `encodings` y busca para cada fila la posición cuyo vector se parece más. ¿Qué porcentaje se acierta? ¿Y con `copied`?
# 4. **La matriz de girar.** Encuentra por mínimos cuadrados la matriz $M$ que lleva $PE_p$ a $PE_{p+5}$ y comprueba que sirve para posiciones que no ha visto.
# 5. **¿A qué distancia?** ¿A partir de cuántas palabras baja de 0,5 el coseno, con la fórmula del artículo y con el listado copiado?

# %% [markdown]
# ## Soluciones
#
# **1.** La longitud de onda es $2\pi \cdot 10000^{2i/D}$; igualada a 100 da $2i = D \log_{10000}(100 / 2\pi) \approx 154$.

# %%
wavelengths = 2 * np.pi / rates
column = 2 * int(np.abs(wavelengths - 100).argmin())
print(column, wavelengths[column // 2])
assert column == 154

# %% [markdown]
# **2.** No: un producto escalar es una suma, y da igual el orden de los sumandos.

# %%
from tx_jax.nn.embed import sinusoids

halves = np.asarray(sinusoids(jnp.arange(64)[None], 512, halves=True)[0])
assert not np.allclose(halves, encodings[:64], atol=1e-3)
assert np.allclose(halves @ halves.T, encodings[:64] @ encodings[:64].T, atol=1e-2)

# %% [markdown]
# **3.** Con la fórmula correcta hay más agujas que se mueven y por tanto más pistas. La diferencia se nota en cuanto hay ruido, y en un modelo siempre lo hay: el significado de la palabra.

# %%
noise = np.random.default_rng(1).normal(scale=0.5, size=encodings.shape)
right = {}
for name, table in {"the paper": encodings, "the copied listing": copied}.items():
    nearest = ((table + noise) @ table.T).argmax(axis=1)
    right[name] = (nearest == np.arange(512)).mean()
print(right)
assert right["the paper"] > right["the copied listing"]

# %% [markdown]
# **4.** Con un ancho de 64 basta una matriz de $64 \times 64$. Para que las agujas lentas también se muevan hacen falta muchas posiciones: la encontramos con las primeras 15 000 y acierta en las siguientes.

# %%
table = sinusoidal(20_000, 64)
matrix, *_ = np.linalg.lstsq(table[:15_000], table[5:15_005], rcond=None)
error = np.abs(table[16_000:19_000] @ matrix - table[16_005:19_005]).max()
print(f"largest error on new positions: {error:.1e}")
assert error < 1e-3

# %% [markdown]
# **5.** A partir de 54 palabras con la fórmula; con el índice doblado, nunca en 512.

# %%
below = {name: np.flatnonzero(positions.by_distance(t) < 0.5) for name, t in (("paper", encodings), ("copied", copied))}
print({name: found[:1] for name, found in below.items()})
assert below["paper"][0] == 54
assert len(below["copied"]) == 0

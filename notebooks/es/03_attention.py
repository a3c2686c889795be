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
# # 3. La atención, a mano
#
# **Qué vas a aprender**
#
# - a calcular la atención de tres palabras con números que caben en una servilleta;
# - por qué se divide entre la raíz de $K$, y qué pasa si no se hace;
# - qué es una máscara y por qué la atención, por sí sola, no sabe de orden;
# - cómo se reparte el trabajo entre varias cabezas, y por qué no cuesta más;
# - que la capa de la biblioteca no guarda ningún secreto: la reconstruyes con tres productos de matrices y da lo mismo.
#
# Tiempo: unos 45 minutos de lectura; el código tarda unos segundos. Referencia: Vaswani et al. 2017, *Attention Is All You Need*, sección 3.2.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## Una consulta blanda a un diccionario
#
# Un diccionario de Python se consulta con una clave exacta: o está, o no está. La atención es la versión *blanda* de esa operación. Cada palabra hace una **consulta** (*query*, $q$), cada palabra se anuncia con una **clave** (*key*, $k$) y ofrece un **valor** (*value*, $v$). La consulta se compara con todas las claves; el resultado es un promedio de los valores en el que pesan más los que se parecen a lo que se busca.
#
# Empecemos con *el banco cerró*. Cada palabra es un vector de 4 números; los elegimos nosotros, y en un modelo los aprende el entrenamiento. Tres matrices convierten cada vector $x$ en su consulta, su clave y su valor: $q = xW_Q$, $k = xW_K$, $v = xW_V$.

# %%
words = ["el", "banco", "cerró"]
x = np.array([[1.0, 0, 0, 1], [0, 2, 1, 0], [0, 1, 2, 0]])  # [T, D]: 3 words, 4 numbers each
w_query = np.array([[0.0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])  # [D, K]
w_key = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]])
w_value = np.array([[0.0, 0, 1], [1, 0, 0], [0, 2, 0], [0, 0, 1]])
q, k, v = x @ w_query, x @ w_key, x @ w_value  # each [T, K]
for name, rows in (("query", q), ("key", k), ("value", v)):
    print(name, *(f"{word}: {row}" for word, row in zip(words, rows)), sep="\n  ")


# %% [markdown]
# El parecido entre una consulta y una clave es su producto escalar, la **puntuación** (*score*). Las puntuaciones de *cerró* con las tres palabras salen de multiplicar tres números por tres números y sumar. Hazlo en papel una vez: es todo lo que hay.
#
# Después, `softmax` convierte las puntuaciones en pesos positivos que suman uno:
#
# $$\operatorname{softmax}(s)_j = \frac{e^{s_j}}{\sum_i e^{s_i}}, \qquad \operatorname{Attention}(Q, K, V) = \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt{K}}\right) V$$
#
# Es la ecuación 1 del artículo (que llama $d_k$ a lo que aquí es $K$, el ancho de consultas y claves).

# %%
def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))  # the maximum only avoids overflow
    return e / e.sum(axis=-1, keepdims=True)


scores = q @ k.T / np.sqrt(k.shape[1])
weights = softmax(scores)
output = weights @ v
print("scores", scores, "weights", weights, "output", output, sep="\n")

# %% [markdown]
# Para quien no se fíe de las matrices, lo mismo con bucles, sin ninguna función: la salida de *cerró* es $\sum_j w_j v_j$.

# %%
asked = q[2]
raw = [sum(a * b for a, b in zip(asked, key)) / 3**0.5 for key in k]
total = sum(np.e**s for s in raw)
by_loops = [sum(np.e**s / total * value[i] for s, value in zip(raw, v)) for i in range(3)]
assert np.allclose(by_loops, output[2])
assert np.allclose(weights.sum(axis=1), 1)

fig, ax = plt.subplots(figsize=(4, 3.2))
image = ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
ax.set(xticks=range(3), xticklabels=words, yticks=range(3), yticklabels=words, xlabel="key", ylabel="query")
for i, j in np.ndindex(3, 3):
    ax.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color="white" if weights[i, j] > 0.5 else "black")
fig.colorbar(image, label="weight")
plt.show()

# %% [markdown]
# Cada **fila** es una palabra que pregunta, y suma uno; las columnas, en cambio, no suman nada en particular: una palabra puede interesar a todas o a ninguna. La matriz tampoco es simétrica. Que *cerró* mire a *banco* no obliga a *banco* a mirar a *cerró*, porque consultas y claves salen de matrices distintas.
#
# ¿Es de verdad un diccionario? Si las claves son ortogonales y las hacemos muy largas, el promedio se vuelve una elección y la consulta recupera un valor exacto:

# %%
keys, values = np.eye(3), np.array([[10.0], [20.0], [30.0]])
for length in (0.0, 2.0, 40.0):
    found = softmax(length * keys[2:] @ keys.T / np.sqrt(3)) @ values
    print(f"length {length:4.0f}: {found[0, 0]:.3f}")
assert abs(found[0, 0] - 30) < 1e-6

# %% [markdown]
# Con longitud 0 la consulta no distingue y recibe la media de todo; con longitud 40 recibe el tercer valor y nada más. Entre los dos extremos, la operación es derivable, y por eso se puede aprender.
#
# ## ¿Por qué dividir entre $\sqrt{K}$?
#
# Si los números de $q$ y $k$ son independientes, con media 0 y varianza 1, su producto escalar $\sum_{i=1}^{K} q_i k_i$ suma $K$ términos de varianza 1: su varianza es $K$ y su desviación típica $\sqrt{K}$ (nota 4 del artículo). Con $K=64$, una puntuación de cada veinte pasa de $\pm 16$, dos desviaciones típicas, y `softmax` deja de promediar: elige. Y donde elige, su derivada es casi cero y no se aprende.

# %%
rng = np.random.default_rng(0)
widths = [4, 16, 64, 256, 1024]
spread, largest = [], {"not scaled": [], "divided by sqrt(K)": []}
for width in widths:
    asked, keys = rng.normal(size=(1000, 1, width)), rng.normal(size=(1000, 10, width))
    products = (asked * keys).sum(-1)  # 1000 queries, 10 keys each
    spread.append(products.std())
    largest["not scaled"].append(softmax(products).max(-1).mean())
    largest["divided by sqrt(K)"].append(softmax(products / width**0.5).max(-1).mean())
assert np.allclose(spread, np.sqrt(widths), rtol=0.05)
assert largest["not scaled"][-1] > 0.9 and max(largest["divided by sqrt(K)"]) < 0.4

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.loglog(widths, spread, "o", label="measured")
left.loglog(widths, np.sqrt(widths), label="sqrt(K)")
left.set(xlabel="K", ylabel="standard deviation of q · k")
left.legend()
for name, line in largest.items():
    right.semilogx(widths, line, "o-", label=name)
right.axhline(0.1, color="gray", ls=":", label="uniform over 10 keys")
right.set(xlabel="K", ylabel="mean largest weight", ylim=(0, 1))
right.legend()
plt.show()

# %% [markdown]
# Sin escalar, a partir de $K=64$ una sola palabra se lleva casi todo el peso *antes de haber aprendido nada*. Escalado, el ancho deja de importar.
#
# ## Máscaras
#
# No toda palabra puede mirar a todas. Hay dos razones corrientes:
#
# - **Relleno** (*padding*): en un lote, las frases cortas se completan hasta la longitud de la más larga, y nadie debe leer esos huecos.
# - **Causalidad**: un modelo que escribe de izquierda a derecha no puede ver la palabra que tiene que adivinar (sección 3.2.3 del artículo).
#
# En ambos casos la puntuación prohibida se sustituye por un número muy negativo antes de `softmax`, y su peso queda en cero. En esta biblioteca una máscara tiene un solo significado: `True` = puede mirar.

# %%
from tx_jax.nn.masks import Mask

length = 6
valid = jnp.array([[True, True, True, True, False, False]])  # a sentence of 4 tokens and 2 of padding
masks = {
    "padding": Mask(valid),
    "causal": Mask(causal=True),
    "both": Mask(valid, causal=True),
    "window of 2": Mask(window=2),
}
fig, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, (name, mask) in zip(axes, masks.items()):
    dense = np.broadcast_to(mask.dense(length, length)[0, 0], (length, length))
    ax.imshow(dense, cmap="Blues", vmin=0, vmax=1.4, extent=(0, length, length, 0))
    ax.set(title=name, xlabel="key", ylabel="query", xticks=range(length), yticks=range(length))
    ax.grid(color="white")


# %%
def attention(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -1e30)
    return jax.nn.softmax(scores, axis=-1) @ v


q6, k6, v6 = jax.random.normal(jax.random.key(0), (3, length, 8))
causal = masks["causal"].dense(length, length)[0, 0]
before = attention(q6, k6, v6, causal)
after = attention(q6, k6.at[-1].set(9.0), v6.at[-1].set(9.0), causal)  # another last word
changed = np.abs(after - before).max(axis=1) > 0
print("rows that changed:", np.flatnonzero(changed))
assert changed.tolist() == [False] * 5 + [True]

# %% [markdown]
# Cambiar la última palabra solo cambia la última fila: el pasado no ve el futuro. Gracias a eso un modelo causal se entrena con todas las posiciones de una frase a la vez.
#
# ## La atención no sabe de orden
#
# Si barajamos las palabras de entrada, las salidas se barajan igual, y nada más. Cada palabra recibe exactamente lo mismo esté donde esté: para la atención, *el perro muerde al hombre* y *el hombre muerde al perro* son el mismo saco de palabras. El orden hay que añadirlo aparte, y de eso trata el cuaderno 2.

# %%
order = np.array([2, 0, 1])
shuffled = np.asarray(attention(q[order], k[order], v[order]))
assert np.allclose(shuffled, output[order], atol=1e-6)
print("the output of the shuffled sentence is the shuffled output")

# %% [markdown]
# ## Varias cabezas
#
# Una atención calcula *un* promedio por palabra. Pero *cerró* quizá necesite saber dos cosas: quién cerró y cuándo. La **atención multicabeza** (sección 3.2.2) reparte el ancho $D$ entre $H$ cabezas de ancho $K = D/H$. Cada una tiene sus propias consultas, claves y valores, y por tanto sus propios pesos; después se concatenan las salidas y una última matriz las mezcla:
#
# $$\operatorname{MultiHead}(X) = [\,\text{head}_1; \dots; \text{head}_H\,]\,W_O, \qquad \text{head}_h = \operatorname{Attention}(XW_Q^h, XW_K^h, XW_V^h)$$
#
# En la práctica no hay $3H$ matrices pequeñas sino tres grandes, de $D \times D$; las cabezas son grupos de columnas. Escribámoslo, y comparémoslo con la capa de la biblioteca. Primero, la suya: una configuración, sus parámetros y el árbol en el que están.

# %%
from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.nn.attention.layer import MultiHeadAttention


def small(**changes):
    values = dict(
        architecture="encoder", vocab_size=64, dim=32, num_layers=2, num_heads=4, mlp_dim=64, max_length=16,
        num_segments=0, activation="gelu", norm_position="post", layer_norm_eps=1e-6, dropout=0.0,
        attention_dropout=0.0, init_stddev=0.3, heads=("masked_lm",), dtype="float32", remat="none",
    )  # fmt: skip
    return TransformerConfig(**(values | changes))


config = small()
tokens_x = jax.random.normal(jax.random.key(1), (2, length, config.dim))  # [B, T, D]
layer = MultiHeadAttention(config)
call = dict(mask=Mask(), deterministic=True)
params = layer.init(jax.random.key(2), tokens_x, tokens_x, **call)["params"]
for path, value in tree.flatten(params).items():
    print(f"{path:14} {value.shape}")


# %% [markdown]
# Ahora la nuestra. La única dificultad es la de las formas: $[B, T, D]$ se parte en $[B, T, H, K]$ y las cabezas pasan delante, $[B, H, T, K]$, para que `@` trabaje cabeza por cabeza.

# %%
def multi_head(params, x, num_heads, mask=None):
    def project(name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def heads(y):
        return y.reshape(*y.shape[:2], num_heads, -1).swapaxes(1, 2)  # [B, T, D] -> [B, H, T, K]

    read = attention(*(heads(project(name)) for name in ("query", "key", "value")), mask)
    joined = read.swapaxes(1, 2).reshape(x.shape)  # [B, H, T, K] -> [B, T, D]
    return joined @ params["out"]["kernel"] + params["out"]["bias"]


ours = multi_head(params, tokens_x, config.num_heads)
theirs = layer.apply({"params": params}, tokens_x, tokens_x, **call)
difference = float(jnp.abs(ours - theirs).max())
print(f"largest difference: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# Ni un número distinto. Con máscara tampoco:

# %%
both = Mask(jnp.array([[True] * 6, [True] * 4 + [False] * 2]), causal=True)
ours = multi_head(params, tokens_x, config.num_heads, both.dense(length, length))
theirs = layer.apply({"params": params}, tokens_x, tokens_x, mask=both, deterministic=True)
assert float(jnp.abs(ours - theirs).max()) < 1e-5

# %% [markdown]
# Para *ver* los pesos no hace falta reescribir nada. La biblioteca pone nombre a cada activación, con la forma de una ruta de parámetros, y `capture` las lee de un modelo entero. Aquí tenemos un codificador de dos capas sin entrenar:

# %%
from tx_jax.interpret import capture
from tx_jax.models import registry

encoder = registry.init_params(config, jax.random.key(3))
inputs = {"tokens": jnp.arange(6)[None], "valid": jnp.ones((1, 6), bool)}
names = [f"encoder/layer_1/attention/{part}" for part in ("probabilities", "query", "key", "value", "heads")]
_, found = capture.run(config, encoder, inputs, read=names)
probabilities, query, key, value, read = (np.asarray(found[name][0]) for name in names)
print("probabilities", probabilities.shape, "query", query.shape)
for head in range(config.num_heads):
    by_hand = softmax(query[:, head] @ key[:, head].T / np.sqrt(config.head_dim))
    assert np.allclose(by_hand, probabilities[head], atol=1e-5)
    assert np.allclose(by_hand @ value[:, head], read[:, head], atol=1e-5)

# %%
fig, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
for head, ax in enumerate(axes):
    ax.imshow(probabilities[head], cmap="Blues", vmin=0, vmax=1)
    ax.set(title=f"layer 1, head {head}", xlabel="key", ylabel="query")
different = [np.abs(probabilities[0] - probabilities[head]).max() for head in (1, 2, 3)]
assert min(different) > 0.01

# %% [markdown]
# Las cuatro cabezas miran a sitios distintos aunque nadie las ha entrenado: sus matrices empiezan con números distintos. El entrenamiento convierte esas diferencias casuales en especialidades; en el cuaderno 11 las buscaremos.
#
# ## Lo que cuesta
#
# Las cuatro proyecciones cuestan $4TD^2$ multiplicaciones y las puntuaciones más el promedio $2T^2D$. Lo segundo crece con el **cuadrado** de la longitud: es el precio de que todos puedan mirar a todos en un solo paso (tabla 1 del artículo). El número de cabezas no aparece en ninguna de las dos fórmulas.

# %%
dim = 768  # BERT base
lengths = np.array([128, 512, 2048, 8192])
projections, everybody = 4 * lengths * dim**2, 2 * lengths**2 * dim
for row in zip(lengths, projections / 1e9, everybody / 1e9, everybody / (projections + everybody)):
    print("T = {:5}: projections {:6.2f}, scores and average {:7.2f} billion, share {:.0%}".format(*row))

# %% [markdown]
# ## Ejercicios
#
# 1. **Los gradientes.** Calcula con `jax.jacobian` la derivada de `softmax` en un vector de 10 puntuaciones normales con desviación típica 1 y con desviación típica 16. ¿Cuántas veces menor es la norma en el segundo caso?
# 2. **¿Cuestan las cabezas?** Cuenta los parámetros de la capa con 1, 2, 4 y 8 cabezas, con `layer.init` y `tree.flatten`. Explica el resultado.
# 3. **El cruce.** ¿A partir de qué longitud $T$ cuestan más las puntuaciones y el promedio que las proyecciones, con $D = 768$? Dedúcelo y compruébalo.
# 4. **El rango.** Las puntuaciones de una cabeza son $X (W_Q W_K^\top) X^\top$. ¿Qué rango puede tener como máximo la matriz $D \times D$ del centro? Compruébalo con los parámetros de una cabeza de `params`.
# 5. **Mirarse a sí mismo.** En `tokens_x`, haz que cada palabra solo pueda mirarse a sí misma. ¿A qué se reduce entonces la capa multicabeza?

# %% [markdown]
# ## Soluciones
#
# **1.** Con puntuaciones grandes la derivada es mucho menor: `softmax` está saturada. Las cifras exactas dependen de la semilla; tomamos la media de 200 vectores.

# %%
drawn = jax.random.normal(jax.random.key(4), (200, 10))
norms = {
    s: float(jnp.linalg.norm(jax.vmap(jax.jacobian(jax.nn.softmax))(s * drawn), axis=(1, 2)).mean()) for s in (1, 16)
}
print(norms, "ratio", round(norms[1] / norms[16], 1))
assert norms[1] > 3 * norms[16]

# %% [markdown]
# **2.** Siempre los mismos: $4(D^2 + D)$. Más cabezas son las mismas columnas repartidas en más grupos.

# %%
counts = []
for heads in (1, 2, 4, 8):
    made = MultiHeadAttention(small(num_heads=heads)).init(jax.random.key(0), tokens_x, tokens_x, **call)["params"]
    counts.append(sum(value.size for value in tree.flatten(made).values()))
print(counts)
assert set(counts) == {4 * (32**2 + 32)}

# %% [markdown]
# **3.** $2T^2D = 4TD^2$ si $T = 2D$: 1536 con $D = 768$.

# %%
assert 2 * 1535**2 * dim < 4 * 1535 * dim**2 and 2 * 1537**2 * dim > 4 * 1537 * dim**2

# %% [markdown]
# **4.** Como mucho $K$, el ancho de la cabeza: es un producto de $D \times K$ por $K \times D$. Cada cabeza compara las palabras en un espacio de solo 8 dimensiones, y por eso conviene tener varias.

# %%
first = slice(0, config.head_dim)
middle = params["query"]["kernel"][:, first] @ params["key"]["kernel"][:, first].T
print(middle.shape, "rank", np.linalg.matrix_rank(middle))
assert np.linalg.matrix_rank(middle) == config.head_dim == 8

# %% [markdown]
# **5.** A dos capas lineales, $x W_V W_O$ con sus sesgos: el único peso es 1. Todo lo que la atención tiene de interesante está en mirar a los demás.

# %%
alone = multi_head(params, tokens_x, config.num_heads, jnp.eye(length, dtype=bool))
values = tokens_x @ params["value"]["kernel"] + params["value"]["bias"]
linear = values @ params["out"]["kernel"] + params["out"]["bias"]
assert float(jnp.abs(alone - linear).max()) < 1e-5

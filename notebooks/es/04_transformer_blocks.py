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
# # 4. Los bloques del Transformer
#
# **Qué vas a aprender**
#
# - las piezas de un bloque: atención, red hacia delante, conexiones residuales y normalización;
# - a escribir un codificador entero en treinta líneas y comprobar que da lo mismo que la biblioteca;
# - por qué importa dónde se pone la normalización (*post-LN* o *pre-LN*);
# - qué añade el decodificador: máscara causal y atención cruzada;
# - a contar los parámetros de BERT, GPT-2 y el Transformer original.
#
# Tiempo: unos 50 minutos de lectura; el código tarda menos de un minuto. Referencia: Vaswani et al. 2017, *Attention Is All You Need*, secciones 3.1 a 3.4. Antes: el cuaderno 3.

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.interpret import capture
from tx_jax.models import registry

config = TransformerConfig(
    architecture="encoder", vocab_size=100, dim=64, num_layers=2, num_heads=4, mlp_dim=256, max_length=32,
    num_segments=0, activation="relu", norm_position="post", layer_norm_eps=1e-6, dropout=0.1,
    attention_dropout=0.0, init_stddev=0.1, heads=("masked_lm",), dtype="float32", remat="none",
    position_embedding="sinusoidal", embedding_norm=False, embedding_scale=True,
)  # fmt: skip
params = registry.init_params(config, jax.random.key(0))
for path, value in tree.flatten(params["encoder"]["layer_0"]).items():
    print(f"encoder/layer_0/{path:28} {value.shape}")


# %% [markdown]
# Esto es *todo* lo que aprende una capa: cuatro matrices de atención, dos de la red hacia delante, y dos normalizaciones, con sus sesgos. Vamos pieza por pieza.
#
# ## La red hacia delante
#
# Después de mezclar información entre palabras, cada palabra se procesa por su cuenta, con la misma red de dos capas (sección 3.3):
#
# $$\operatorname{FFN}(x) = \max(0,\ xW_1 + b_1)\,W_2 + b_2$$
#
# El ancho interior suele ser $4D$, y ahí están dos tercios de los parámetros de una capa.
#
# ## Conexión residual y normalización
#
# Ninguna de las dos piezas sustituye a $x$: le *suma* algo. Así hay siempre un camino directo desde la entrada hasta la salida, la **corriente residual**, y el gradiente vuelve por él sin atenuarse. Después de cada suma, `LayerNorm` deja cada vector con media 0 y varianza 1 y lo reescala con dos vectores aprendidos:
#
# $$\operatorname{LayerNorm}(x) = \gamma \odot \frac{x - \mu(x)}{\sqrt{\sigma^2(x) + \epsilon}} + \beta, \qquad y = \operatorname{LayerNorm}\big(x + f(x)\big)$$

# %%
def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def layer_norm(p, x):
    centered = x - x.mean(axis=-1, keepdims=True)
    return (
        p["scale"] * centered / jnp.sqrt(jnp.square(centered).mean(-1, keepdims=True) + config.layer_norm_eps)
        + p["bias"]
    )


def feed_forward(p, x):
    return dense(p["wo"], jax.nn.relu(dense(p["wi"], x)))


def attention(p, x, context, mask=None):
    def heads(y):
        return y.reshape(len(y), config.num_heads, -1).swapaxes(0, 1)  # [T, D] -> [H, T, K]

    q, k, v = heads(dense(p["query"], x)), heads(dense(p["key"], context)), heads(dense(p["value"], context))
    scores = q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -1e30)
    return dense(p["out"], (jax.nn.softmax(scores) @ v).swapaxes(0, 1).reshape(x.shape))


# %% [markdown]
# Y un bloque del codificador son dos líneas:

# %%
def encoder_block(p, x, mask=None):
    x = layer_norm(p["attention_norm"], x + attention(p["attention"], x, x, mask))
    return layer_norm(p["mlp_norm"], x + feed_forward(p["mlp"], x))


def sinusoids(length, dim):
    angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim)


def embed(params, tokens):
    return params["embeddings"]["token"]["embedding"][tokens] * config.dim**0.5 + sinusoids(len(tokens), config.dim)


def encode(params, tokens):
    x = embed(params, tokens)
    for i in range(config.num_layers):
        x = encoder_block(params["encoder"][f"layer_{i}"], x)
    return x


# %%
tokens = jnp.array([5, 17, 42, 8, 99, 3])
ours = encode(params, tokens)
output = registry.build(config).apply(
    {"params": params}, tokens[None], valid_BT=jnp.ones((1, 6), bool), deterministic=True
)
difference = float(jnp.abs(ours - output.hidden[0]).max())
print(f"largest difference from the library: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# Un Transformer entero (embeddings, posiciones, bloques) cabe en una pantalla. Lo demás de una biblioteca sirve para que vaya rápido, se reparta entre dispositivos y no pierda precisión.
#
# ## La corriente residual
#
# ¿Cuánto añade cada pieza? La biblioteca deja leer cualquier punto intermedio por su nombre. Comparemos el tamaño de lo que entra con el de lo que suman la atención y la red.

# %%
inputs = {"tokens": tokens[None], "valid": jnp.ones((1, 6), bool)}
names = [name for name in capture.sites.of(config) if name.endswith(("/input", "/output"))]
_, found = capture.run(config, params, inputs, read=names)
for name in names:
    print(f"{name:36} length of a vector: {float(jnp.linalg.norm(found[name][0], axis=-1).mean()):.2f}")
rebuilt = found["encoder/input"] + found["encoder/layer_0/attention/output"]
rebuilt = layer_norm(params["encoder"]["layer_0"]["attention_norm"], rebuilt[0])
rebuilt = layer_norm(params["encoder"]["layer_0"]["mlp_norm"], rebuilt + found["encoder/layer_0/mlp/output"][0])
assert jnp.allclose(rebuilt, found["encoder/layer_0/output"][0], atol=1e-5)


# %% [markdown]
# Las salidas de las capas miden siempre 8, que es $\sqrt{64}$: es lo que hace `LayerNorm`.
#
# ## Antes o después: *post-LN* y *pre-LN*
#
# El artículo normaliza *después* de sumar; GPT-2 y casi todos los modelos posteriores, *antes* de cada pieza:
#
# $$\text{post: } \operatorname{LN}(x + f(x)) \qquad\qquad \text{pre: } x + f(\operatorname{LN}(x))$$
#
# Con *pre-LN* la corriente residual no pasa por ninguna normalización en todo su recorrido (solo hay una al final), y se puede apilar sin miedo. Midamos el gradiente que llega a cada capa en modelos recién iniciados de 2, 4 y 8 capas, con tokens y objetivos al azar.

# %%
def gradient_norms(norm_position, layers):
    deep = dataclasses.replace(config, num_layers=layers, norm_position=norm_position, init_stddev=0.125)
    start = registry.init_params(deep, jax.random.key(1))
    many, targets = jax.random.randint(jax.random.key(2), (2, 16, 32), 0, 100)

    def loss(params):
        output = registry.build(deep).apply(
            {"params": params}, many, valid_BT=jnp.ones_like(many, bool), deterministic=True
        )
        log_probs = jax.nn.log_softmax(output.logits["masked_lm"])
        return -jnp.take_along_axis(log_probs, targets[..., None], axis=-1).mean()

    gradient = jax.jit(jax.grad(loss))(start)["encoder"]
    return [float(jnp.linalg.norm(gradient[f"layer_{i}"]["mlp"]["wo"]["kernel"])) for i in range(layers)]


# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
last = {}
for ax, kind in zip(axes, ("post", "pre")):
    for layers in (2, 4, 8):
        norms = gradient_norms(kind, layers)
        last[kind, layers] = norms[-1]
        ax.plot(range(layers), norms, "o-", label=f"{layers} layers")
    ax.set(title=f"{kind}-LN", xlabel="layer", ylabel="gradient of mlp/wo, norm", ylim=(0, None))
    ax.legend()
print({name: round(value, 2) for name, value in last.items()})
assert last["post", 8] > 1.3 * last["post", 2]
assert last["pre", 8] < 1.3 * last["pre", 2]

# %% [markdown]
# En *post-LN*, cuanto más hondo el modelo, mayor es el gradiente de las últimas capas al empezar: hay que ir con una tasa pequeña, y de ahí el calentamiento del artículo. En *pre-LN* no crece (Xiong et al. 2020 lo demuestran).

# %% [markdown]
# ## El decodificador
#
# El decodificador escribe. Cambian dos cosas respecto al codificador (figura 1 del artículo, a la derecha):
#
# 1. su autoatención es **causal**: la posición $i$ solo se ve a sí misma y a las anteriores;
# 2. entre la autoatención y la red hay una **atención cruzada**: las consultas son suyas, las claves y los valores salen de la salida del codificador.

# %%
both = dataclasses.replace(config, architecture="encoder_decoder", num_decoder_layers=2, heads=("causal_lm",))
params = registry.init_params(both, jax.random.key(3))
print(sorted(params["decoder"]["layer_0"]))


def decoder_block(p, y, memory):
    causal = jnp.tril(jnp.ones((len(y), len(y)), bool))
    y = layer_norm(p["attention_norm"], y + attention(p["attention"], y, y, causal))
    y = layer_norm(p["cross_attention_norm"], y + attention(p["cross_attention"], y, memory))
    return layer_norm(p["mlp_norm"], y + feed_forward(p["mlp"], y))


def decode(params, target, memory):
    y = embed(params, target)
    for i in range(both.num_decoder_layers):
        y = decoder_block(params["decoder"][f"layer_{i}"], y, memory)
    return y @ params["embeddings"]["token"]["embedding"].T  # tied: the output layer is the table (section 3.4)


# %%
source, target = tokens, jnp.array([0, 7, 7, 21])
logits = decode(params, target, encode(params, source))
theirs = registry.build(both).apply(
    {"params": params}, source[None], valid_BS=jnp.ones((1, 6), bool),
    target_tokens_BT=target[None], target_valid_BT=jnp.ones((1, 4), bool), deterministic=True,
).logits["causal_lm"][0]  # fmt: skip
print(f"largest difference from the library: {float(jnp.abs(logits - theirs).max()):.1e}")
assert jnp.allclose(logits, theirs, atol=1e-4)

# %% [markdown]
# Acabamos de escribir el Transformer de 2017. ¿Quién ve a quién? Preguntémoselo a los gradientes: si la salida en $i$ depende de la entrada en $j$, su derivada no es cero.

# %%
memory, y = encode(params, source), embed(params, target)
block = params["decoder"]["layer_0"]
of_target = jax.jacobian(lambda y: decoder_block(block, y, memory))(y)  # [T, D, T, D]
of_source = jax.jacobian(lambda memory: decoder_block(block, y, memory))(memory)  # [T, D, S, D]
within, across = (np.abs(j).max(axis=(1, 3)) > 0 for j in (of_target, of_source))
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
left.imshow(within, cmap="Blues", vmin=0, vmax=1.4)
left.set(title="target reads target", xlabel="position", ylabel="output position", xticks=range(4), yticks=range(4))
right.imshow(across, cmap="Blues", vmin=0, vmax=1.4)
right.set(title="target reads source", xlabel="source position", xticks=range(6), yticks=range(4))
for ax in (left, right):
    ax.set_xticks(np.arange(-0.5, 6), minor=True)
    ax.set_yticks(np.arange(-0.5, 4), minor=True)
    ax.grid(which="minor", color="white")
left.set_xlim(-0.5, 3.5)
assert (within == np.tril(np.ones((4, 4), bool))).all()
assert across.all()

# %% [markdown]
# Tres máscaras, tres familias:
#
# | familia | autoatención | atención cruzada | ejemplos |
# |---|---|---|---|
# | codificador | todos ven a todos | no | BERT, RoBERTa |
# | decodificador | causal | no | GPT |
# | los dos | todos / causal | sí | el original, BART, T5 |
#
# ## Contar parámetros
#
# Con el ancho $D$, la red $F$, el vocabulario $V$ y $L$ capas, una capa tiene $4(D^2 + D)$ de atención, $2DF + F + D$ de la red y $4D$ de normalizaciones. Lo demás son embeddings. La fórmula y la biblioteca han de coincidir en los modelos publicados:

# %%
import sys

sys.path.insert(0, "../..")  # the clone, for its configs
from configs import bert_base, gpt2_small, transformer_base
from tx_jax.config import from_config_dict


def layer(d, f):
    return 4 * (d * d + d) + 2 * d * f + f + d + 4 * d


def cross(d):
    return 4 * (d * d + d) + 2 * d


d, f, v = 768, 3072, 30_522
bert = 12 * layer(d, f) + (v + 512 + 2) * d + 2 * d  # tables and their norm
heads = (d * d + d) + (2 * d + 2) + (d * d + d + 2 * d + v)  # pooler, next sentence, masked LM
gpt = 12 * layer(d, f) + (50_257 + 1024) * d + 2 * d
original = 6 * (2 * layer(512, 2048) + cross(512)) + 37_000 * 512
counted = {"BERT base": bert + heads, "GPT-2 small": gpt, "Transformer base": original}
for (name, count), module in zip(counted.items(), (bert_base, gpt2_small, transformer_base)):
    library = registry.num_params(from_config_dict(module.get_config()).model)
    print(f"{name:18} by hand {count:>12,}  library {library:>12,}")
    assert count == library


# %% [markdown]
# ## Ejercicios
#
# 1. **Sin residuos.** Escribe `encode` sin las sumas `x +` y mide, con la media de los cosenos entre los vectores de las 6 palabras, cuánto se parecen tras 2 capas, y tras repetir la primera 12 veces. ¿Qué se pierde?
# 2. **¿Dónde están los parámetros?** ¿Qué parte de BERT base está en los embeddings, cuál en la atención y cuál en la red?
# 3. **`LayerNorm` e invariancia.** Comprueba que multiplicar la entrada de `layer_norm` por 10 y sumarle 3 no cambia la salida.
# 4. **La palabra intrusa.** Añade relleno: codifica `tokens` seguidos de dos tokens cualesquiera, con una máscara que los oculte. Comprueba que las seis primeras salidas no cambian.
# 5. **Causalidad de principio a fin.** Cambia el último token de `target` y comprueba qué filas de los logits cambian en el modelo completo.

# %% [markdown]
# ## Soluciones
#
# **1.** Sin residuos cada capa promedia sobre las palabras, y al repetir el promedio todas acaban siendo iguales: se pierde *quién es quién* (Dong et al. 2021 lo llaman colapso de rango).

# %%
def likeness(x):
    unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return float((unit @ unit.T)[~np.eye(len(x), dtype=bool)].mean())


def block_without(p, x):
    return layer_norm(
        p["mlp_norm"], feed_forward(p["mlp"], layer_norm(p["attention_norm"], attention(p["attention"], x, x)))
    )


x_with = x_without = embed(params, tokens)
first = params["encoder"]["layer_0"]
for depth in range(1, 13):
    x_with, x_without = encoder_block(first, x_with), block_without(first, x_without)
    if depth in (1, 2, 12):
        print(f"depth {depth:2}: with residuals {likeness(x_with):.3f}, without {likeness(x_without):.3f}")
assert likeness(x_without) > likeness(x_with)

# %% [markdown]
# **2.** La red tiene el doble que la atención, y los embeddings más de una quinta parte.

# %%
total = bert + heads
shares = {
    "embeddings": (v + 512 + 2) * d / total,
    "attention": 48 * (d * d + d) / total,
    "network": 12 * (2 * d * f + f + d) / total,
}
print({name: f"{share:.0%}" for name, share in shares.items()})
assert abs(shares["network"] / shares["attention"] - 2) < 0.01

# %% [markdown]
# **3.** La media se resta y la escala se divide (salvo el $\epsilon$).

# %%
z = jax.random.normal(jax.random.key(5), (4, 64))
assert jnp.allclose(layer_norm(first["mlp_norm"], z), layer_norm(first["mlp_norm"], 10 * z + 3), atol=1e-4)

# %% [markdown]
# **4.** La máscara se aplica a las *claves*: nadie lee el relleno, y lo que él lea no importa.

# %%
padded = jnp.concatenate([tokens, jnp.array([50, 60])])
x = embed(params, padded)
for i in range(2):
    x = encoder_block(params["encoder"][f"layer_{i}"], x, (jnp.arange(8) < 6)[None, None])
assert jnp.allclose(x[:6], encode(params, tokens), atol=1e-5)

# %% [markdown]
# **5.** Solo la última.

# %%
changed = decode(params, target.at[-1].set(55), encode(params, source)) - logits
print(np.flatnonzero(np.abs(changed).max(axis=1) > 1e-6))
assert np.flatnonzero(np.abs(changed).max(axis=1) > 1e-6).tolist() == [3]

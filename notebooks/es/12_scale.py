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
# # 12. Escala: muchos dispositivos, un solo modelo
#
# **Qué vas a aprender**
#
# - a ver ocho dispositivos donde hay un portátil, y a probar en él lo que luego correrá en un pod;
# - qué reparte el paralelismo de datos, el de tensores y el totalmente fragmentado (*fully sharded*), a mano y en cinco líneas cada uno, y qué envía cada uno;
# - que todos entrenan el mismo modelo: las pérdidas coinciden salvo redondeo;
# - a leer dónde vive un parámetro, y cuánto cuesta eso en memoria y en comunicación;
# - a planificar un entrenamiento en un slice de TPU: memoria, días, y dólares al precio que tú pagues.
#
# Tiempo: alrededor de una hora de lectura; el código tarda un minuto y medio en dos núcleos. Referencias: Shoeybi et al. 2019 (Megatron-LM); Rajbhandari et al. 2020 (ZeRO).

# %% [markdown]
# ## Ocho dispositivos, antes de que despierte JAX
#
# XLA puede presentar una CPU como ocho dispositivos. No van más deprisa, pero para un programa son ocho: cada uno tiene su memoria, y lo que tiene uno no lo ve otro. El número se lee cuando arranca JAX, así que la variable hay que definirla **antes** de la primera importación; en un cuaderno, eso quiere decir en la primera celda, tras reiniciar el kernel.

# %%
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import json
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.sharding import PartitionSpec as P

import tx_jax
from tx_jax import sharding, tree
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.planning.plan import local_target, plan
from tx_jax.tasks.registry import open_task

sys.path += ["../..", "../data"]  # the clone, for its folder configs; and the generator of the text
import make_small_world

from configs import bert_base, gpt2_small, gpt2_xl

print(jax.devices())
assert len(jax.devices()) == 8
folder = tempfile.TemporaryDirectory()
WORK = Path(folder.name)

# %% [markdown]
# ## Tres maneras de repartir el trabajo, a mano
#
# Tomemos una capa $y = f(xW_1)W_2$ con un lote $x$ de 16 ejemplos, y cuatro dispositivos.
#
# **Paralelismo de datos.** Cada dispositivo tiene todos los pesos y una cuarta parte de los ejemplos. Cada uno calcula el gradiente de su parte; la media sobre los dispositivos (*all-reduce*) es el gradiente del lote completo, porque la media de las medias de partes iguales es la media.

# %%
rng = np.random.default_rng(0)
x, target = rng.normal(size=(16, 8)).astype(np.float32), rng.normal(size=(16, 8)).astype(np.float32)
w1, w2 = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 12), (12, 8)))


def loss(w1, w2, x, target):
    return ((jax.nn.gelu(x @ w1) @ w2 - target) ** 2).mean()


whole = jax.grad(loss)(w1, w2, x, target)
parts = [jax.grad(loss)(w1, w2, a, b) for a, b in zip(np.split(x, 4), np.split(target, 4))]
print("largest difference:", float(jnp.abs(sum(parts) / 4 - whole).max()))
assert jnp.allclose(sum(parts) / 4, whole, atol=1e-5)

# %% [markdown]
# **Paralelismo de tensores** (Megatron). Cada dispositivo tiene todos los ejemplos y una parte de los pesos: de $W_1$ unas columnas, de $W_2$ las filas que les corresponden. La activación $f$ actúa sobre cada número por separado, así que entre los dos productos nadie tiene que hablar; la suma de los cuatro resultados (*all-reduce* de activaciones) es $y$. La atención se reparte igual, por cabezas.
#
# **Totalmente fragmentado** (ZeRO-3, FSDP). Cada dispositivo tiene una parte de los ejemplos *y* guarda solo una parte de cada peso. Antes de una capa se juntan las partes (*all-gather*), se usan y se tiran; de los gradientes, cada dispositivo se queda con la suma de su parte (*reduce-scatter*). La aritmética es la del paralelismo de datos; la memoria, la cuarta parte.

# %%
y = jax.nn.gelu(x @ w1) @ w2
by_tensor = sum(jax.nn.gelu(x @ a) @ b for a, b in zip(np.split(w1, 4, axis=1), np.split(w2, 4, axis=0)))
assert jnp.allclose(by_tensor, y, atol=1e-4)

stored = np.split(w1, 4, axis=0)  # what each device keeps
gathered = np.concatenate(stored)  # all-gather, just before the layer
gradients = [jax.grad(loss)(gathered, w2, a, b) for a, b in zip(np.split(x, 4), np.split(target, 4))]
scattered = [sum(np.split(np.asarray(g), 4)[device] for g in gradients) / 4 for device in range(4)]  # reduce-scatter
assert np.allclose(np.concatenate(scattered), whole, atol=1e-5)
print("each device keeps", scattered[0].shape, "of", whole.shape)

# %% [markdown]
# El mismo paralelismo de datos con las operaciones colectivas de JAX, en los ocho dispositivos: `shard_map` ejecuta una función en cada dispositivo con su parte, y `pmean` es el all-reduce.

# %%
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def on_each_device(w1, w2, x, target):
    return jax.lax.pmean(jax.grad(loss)(w1, w2, x, target), "data")


split = jax.shard_map(
    on_each_device, mesh=mesh, in_specs=(P(), P(), P("data"), P("data")), out_specs=P(), check_vma=False
)
found = jax.jit(split)(w1, w2, x, target)
assert jnp.allclose(found, whole, atol=1e-5)
print(jax.jit(split).lower(w1, w2, x, target).compile().as_text().count(" all-reduce("), "all-reduce in the program")

# %% [markdown]
# ## Un modelo en cinco mallas
#
# En la biblioteca nadie escribe operaciones colectivas. Los dispositivos forman una **malla** (*mesh*) con ejes con nombre, `data`, `fsdp`, `tensor` (y `context`, para secuencias largas); una tabla dice a lo largo de qué eje se reparte cada parámetro, según su ruta; y el particionador de XLA inserta la comunicación. En la configuración son cuatro números, y no cambia nada más.
#
# Entrenamos un GPT pequeño seis pasos en cinco formas de malla, con la misma semilla, y comparamos la pérdida de cada paso.

# %%
(WORK / "world.txt").write_text(make_small_world.texts(make_small_world.document, 600, seed=5))
options = {"tokenizer_kind": "gpt2_bpe", "vocab_size": 512, "validation_fraction": 0.1, "workers": 1}
meta = prepare(PrepareConfig(WORK / "store", SourceConfig(specs=(str(WORK / "world.txt"),)), **options)).meta
VOCABULARY = 512  # a multiple of 8; ids beyond the tokenizer's are never used
assert meta["vocab_size"] <= VOCABULARY


def small(mesh):
    c = gpt2_small.get_config("mini")
    c.model.vocab_size = VOCABULARY
    c.model.dim, c.model.num_layers, c.model.num_heads, c.model.mlp_dim = 64, 2, 8, 256
    c.model.max_length = c.data.sequence_length = 32
    c.data.store = str(WORK / "store")
    c.optimizer.warmup_steps = 2
    c.training.num_steps, c.training.batch_size, c.training.log_every = 6, 16, 1
    c.training.eval_every = c.training.checkpoint_every = 6
    c.training.eval_batches, c.training.keep_best = 1, 0
    for axis, size in mesh.items():
        c.mesh[axis] = size
    return c


MESHES = {
    "data 8": {"data": 8},
    "fsdp 8": {"data": 1, "fsdp": 8},
    "tensor 8": {"data": 1, "tensor": 8},
    "data 2, fsdp 4": {"data": 2, "fsdp": 4},
    "data 2, fsdp 2, tensor 2": {"data": 2, "fsdp": 2, "tensor": 2},
}
losses = {}
for name, mesh in MESHES.items():
    workdir = WORK / "runs" / name.replace(", ", "_").replace(" ", "")
    tx_jax.train(small(mesh), workdir, progress=False)
    log = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses[name] = [row["loss"] for row in log if row["split"] == "train"]
    print(f"{name:26}", " ".join(f"{value:.5f}" for value in losses[name]))

# %%
reference = np.array(losses["data 8"])
worst = max(np.abs(np.array(values) - reference).max() for values in losses.values())
print(f"largest difference {worst:.1e}")
assert worst < 1e-4 and reference[-1] < reference[0] - 0.2

# %% [markdown]
# Coinciden hasta las últimas cifras que tiene float32; lo que cambia es el orden de las sumas. No es evidente: las máscaras de dropout, el orden de los datos y la media de la pérdida sobre secuencias de distinta longitud no deben depender de la malla. Y es la mejor prueba de cualquier programa paralelo: **la misma pérdida en uno y en muchos dispositivos**, en cada paso.
#
# ## Dónde vive un parámetro
#
# `sharding.param_sharding` dice, para una ruta y una forma, qué dispositivo tiene qué parte. Dibujemos tres parámetros del modelo en la última malla; un rectángulo con varios números se guarda en varias copias.


# %%
def draw(path, shape, mesh, ax):
    place = sharding.param_sharding(mesh, path, shape)
    owners = {}
    for device, index in place.devices_indices_map(shape).items():
        box = tuple((part.start or 0, size if part.stop is None else part.stop) for part, size in zip(index, shape))
        owners.setdefault(box, []).append(device.id)
    for number, (box, devices) in enumerate(sorted(owners.items())):
        (top, bottom), (left, right) = box
        ax.add_patch(plt.Rectangle((left, top), right - left, bottom - top, facecolor=f"C{number}", alpha=0.5))
        ax.text((left + right) / 2, (top + bottom) / 2, ",".join(map(str, devices)), ha="center", va="center")
    ax.set(xlim=(0, shape[1]), ylim=(shape[0], 0), xticks=[0, shape[1]], yticks=[0, shape[0]])
    ax.set_title(f"{path.split('layer_0/')[-1]}\n{place.spec}", fontsize=8)
    return len(owners)


mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
shapes = {
    path: leaf.shape for path, leaf in tree.flatten(registry.param_shapes(from_config_dict(small({})).model)).items()
}
paths = [f"decoder/layer_0/{part}/kernel" for part in ("attention/query", "attention/out", "mlp/wi")]
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
parts = [draw(path, shapes[path], mesh, ax) for path, ax in zip(paths, axes)]
plt.show()
assert parts == [4, 4, 4]

# %% [markdown]
# *query* se reparte por columnas a lo largo de `tensor` (cabezas enteras) y por filas a lo largo de `fsdp`; *out* al revés, como lo quiere Megatron; a lo largo de `data` todo se copia.
#
# ## Memoria y comunicación
#
# Un entrenamiento con Adam en float32 guarda por cada parámetro cuatro números de 4 bytes: el parámetro, dos momentos y, durante el paso, su gradiente. `bytes_per_device` cuenta a partir de las formas; no se reserva nada, y por eso podemos mirar modelos que aquí nunca cabrían. GPT-2 XL en ocho dispositivos:


# %%
def gigabytes(model, mesh):
    """Parameters and Adam's moments on one device."""
    shapes = sharding.with_sharding(sharding.make_mesh(MeshConfig(**mesh)), registry.param_shapes(model))
    return 3 * sharding.bytes_per_device(shapes) / 2**30


xl = from_config_dict(gpt2_xl.get_config()).model
for name, mesh in (("data 8", {"data": 8, "fsdp": 1, "tensor": 1}), ("fsdp 8", {"data": 1, "fsdp": 8, "tensor": 1})):
    print(f"GPT-2 XL, {registry.num_params(xl):,} parameters, {name}: {gigabytes(xl, mesh):.2f} GiB on each device")
assert gigabytes(xl, {"data": 8, "fsdp": 1, "tensor": 1}) > 15.75  # what a chip of TPU v5e has

# %% [markdown]
# Con paralelismo de datos no cabe en un chip de TPU v5e (15,75 GiB), aunque haya ocho; repartido por `fsdp` ocupa la octava parte. El precio es la comunicación. `plan` compila el paso de entrenamiento sin ejecutarlo y lee en el programa compilado qué se envía:

# %%
plans = {}
for name in ("data 8", "fsdp 8", "tensor 8"):
    config = from_config_dict(small(MESHES[name]))
    (plans[name],) = plan(config, open_task(config).objective, local_target()).phases
    one = plans[name]
    print(
        f"{name}: parameters {one.parameters / 2**10:,.0f} KiB, optimizer {one.optimizer_state / 2**10:,.0f} KiB a device"
    )
    for c in one.collectives:
        print(
            f"    {c.kind:20} {c.count:3} times, {c.bytes / 2**10:8,.0f} KiB, sent by a device {c.sent / 2**10:8,.0f} KiB"
        )
assert plans["fsdp 8"].parameters < plans["data 8"].parameters / 6

# %% [markdown]
# El paralelismo de datos envía los gradientes una vez por paso, midan lo que midan las secuencias. El totalmente fragmentado además junta los pesos, para la pasada hacia delante y otra vez para la de vuelta. (Con los gradientes XLA hace aquí un all-reduce, del que cada dispositivo se queda con su parte: se envía más que con un reduce-scatter.) El de tensores envía *activaciones* en cada capa: su tamaño crece con el lote, y nadie puede seguir hasta que llegan; por eso `tensor` se pone en los enlaces más rápidos, dentro de una misma máquina.
#
# ## Un plan para un slice de TPU
#
# Hasta aquí llega lo que puede decir una CPU: el compilador para TPU es la biblioteca `libtpu`, que funciona sin TPU, pero tarda minutos con cada programa. `pip install -e ".[plan]"` la instala, y
#
# ```
# python -m experiments.train --config=configs/bert_base.py --plan --topology=v5litepod-16
# ```
#
# hace el plan. El proyecto lo ha hecho para sus recetas (`benchmarks/plans.jsonl`, `benchmarks/PLANS.md`). Son **estimaciones del compilador, no mediciones**: los ciclos de cada operación fusionada, más lo que hay que enviar por los enlaces a su velocidad máxima. Las filas con asterisco se compilaron con un estado anterior de la biblioteca, previo a dos mejoras; se pueden comparar entre sí, no con las demás.

# %%
made = [json.loads(line) for line in Path("../../benchmarks/plans.jsonl").read_text().splitlines()]
for row in made:
    days = sum(phase["steps"] * phase["step_seconds"] for phase in row["phases"]) / 86_400
    assert abs(days - row["days"]) < 1e-6 * days
rows = sorted(
    (row for row in made if row["recipe"] in ("bert_base", "gpt2_xl")), key=lambda row: (row["recipe"], row["chips"])
)
print(f"{'recipe':10} {'slice':14} {'chips':>5} {'GiB of':>7} {'a chip':>6} {'MFU':>5} {'days':>7}")
for row in rows:
    peak = max(phase["peak"] for phase in row["phases"]) / 2**30
    mfu = np.average([p["mfu"] for p in row["phases"]], weights=[p["steps"] * p["step_seconds"] for p in row["phases"]])
    star = "" if "commit" in row else "*"
    print(
        f"{row['recipe'] + star:10} {row['slice']:14} {row['chips']:5} {peak:7.1f} {row['memory'] / 2**30:6.1f} {mfu:5.0%} {row['days']:7.2f}"
    )

# %% [markdown]
# ## Días y dólares
#
# Lo que cuesta un entrenamiento es chips × horas × precio de la hora de chip. Los precios cambian, dependen de la región y del contrato (a demanda, *spot*, reservado), y hay programas de investigación que regalan tiempo; así que **pon el tuyo**. Los números de abajo están inventados para enseñar la cuenta; no son la lista de precios de nadie.

# %%
PRICE = {"v4": 1.0, "v5litepod": 1.0, "v5p": 1.0}  # dollars per chip and hour: put yours here


def dollars(row, price):
    return row["chips"] * row["days"] * 24 * price[row["slice"].split("-")[0]]


comparable = [row for row in made if "commit" not in row]  # those with a star
fig, ax = plt.subplots(figsize=(7, 3.8))
for recipe in ("bert_base", "bert_large", "gpt2_small", "gpt2_xl"):
    of_recipe = [row for row in comparable if row["recipe"] == recipe]
    ax.scatter([row["days"] for row in of_recipe], [dollars(row, PRICE) for row in of_recipe], label=recipe)
    for row in of_recipe:
        at = row["days"], dollars(row, PRICE)
        ax.annotate(f" {row['slice']}", at, fontsize=6, va="center")
ax.set(xscale="log", yscale="log", xlabel="days", ylabel=f"dollars, at {PRICE} a chip-hour")
ax.legend(frameon=False, fontsize=8)
ax.margins(0.12)
plt.show()

# %% [markdown]
# Los puntos de una misma receta muestran el intercambio: con más chips se acaba antes, y solo cuesta lo mismo si cada uno se aprovecha igual de bien. BERT base en 64 chips de v5p tarda dos horas, pero su lote de 256 secuencias deja cuatro a cada chip, y empiezan a dominar los enlaces y el tráfico de los pesos: baja la parte del máximo que se aprovecha (MFU).
#
# Estas estimaciones dejan fuera la evaluación, los checkpoints, la espera de datos, los reinicios y, sobre todo, los entrenamientos que salen mal. Quien pide una ayuda multiplica por dos o por tres, y lo dice.
#
# ## Ejercicios
#
# 1. ¿Qué dice la biblioteca si pides `tensor=8` para un modelo de 4 cabezas? ¿Y por qué tiene razón?
# 2. ¿En cuántos dispositivos de 15,75 GiB caben los parámetros y los momentos de GPT-2 XL, si se deja la mitad de la memoria para las activaciones?
# 3. La regla práctica para los FLOPs de un entrenamiento es $6ND$ ($N$ parámetros, $D$ tokens). Compárala con `registry.flops_per_token` para BERT base y GPT-2 small, con longitudes 128 y 1024. ¿Dónde falla?
# 4. La acumulación de gradientes calcula un lote en varias partes, una tras otra. Muestra que la pérdida de cada paso es la misma con `accumulation_steps=2`.
# 5. A igual precio por hora de chip, y entre las filas con asterisco, ¿qué slice es el más barato para BERT base y cuál el más rápido? ¿Qué fracción del precio de los demás tendría que costar un chip de v5p para empatar con el más barato?

# %% [markdown]
# ## Soluciones
#
# **1.** Una cabeza no se puede partir en dos, porque su softmax necesita todas sus puntuaciones.

# %%
wrong = small(MESHES["tensor 8"])
wrong.model.num_heads = 4
try:
    tx_jax.train(wrong, WORK / "wrong", progress=False)
    raise AssertionError("this must fail")
except InputError as error:
    print(error)

# %% [markdown]
# **2.** Tres veces 4 bytes por parámetro, entre el número de dispositivos.

# %%
needed = 3 * 4 * registry.num_params(xl) / 2**30
devices = 1
while needed / devices > 15.75 / 2:
    devices *= 2
print(f"{needed:.1f} GiB in all: {devices} devices, {needed / devices:.1f} GiB each")
assert devices == 4

# %% [markdown]
# **3.** $6ND$ cuenta dos FLOPs por peso y token, una vez hacia delante y dos hacia atrás. Se deja fuera los productos de la atención, de longitud por longitud, y cuenta la tabla de embeddings, que solo se consulta. Lo segundo lo compensa una capa de salida que lee todos los tokens (GPT), pero no una que lee el 15 % (BERT).

# %%
for name, module in (("bert_base", bert_base), ("gpt2_small", gpt2_small)):
    config = from_config_dict(module.get_config())
    for length in (128, 512 if name == "bert_base" else 1024):
        predictions = round(0.15 * length) if name == "bert_base" else length  # of a masked LM 15% of the tokens
        exact = registry.flops_per_token(config.model, length, predictions)
        rule = 6 * registry.num_params(config.model)
        print(f"{name:10} length {length:5}: {exact:.3e} by the library, {rule:.3e} by the rule, {exact / rule:.2f}")
        assert 0.6 < exact / rule < 1.4

# %% [markdown]
# **4.** La pérdida es una suma y un peso, que se dividen una sola vez al final; sumar por partes da el mismo cociente.

# %%
accumulated = small(MESHES["data 8"])
accumulated.training.accumulation_steps = 2
tx_jax.train(accumulated, WORK / "accumulated", progress=False)
log = [json.loads(line) for line in (WORK / "accumulated/metrics.jsonl").read_text().splitlines()]
again = np.array([row["loss"] for row in log if row["split"] == "train"])
print(f"largest difference {np.abs(again - reference).max():.1e}")
assert np.abs(again - reference).max() < 1e-4

# %% [markdown]
# **5.** Deciden los chips-día. El más rápido no es ni mucho menos prohibitivo: necesita pocos chips-día más que el más barato.

# %%
of_bert = [row for row in comparable if row["recipe"] == "bert_base"]
cheapest = min(of_bert, key=lambda row: row["chips"] * row["days"])
fastest = min(of_bert, key=lambda row: row["days"])
for row in sorted(of_bert, key=lambda row: row["chips"] * row["days"]):
    print(f"{row['slice']:14} {row['days']:5.2f} days, {row['chips'] * row['days']:5.2f} chip-days")
ratio = cheapest["chips"] * cheapest["days"] / (fastest["chips"] * fastest["days"])
print(f"cheapest {cheapest['slice']}, fastest {fastest['slice']}: even at {ratio:.2f} of the price")
assert cheapest["chips"] < fastest["chips"]

# %%
folder.cleanup()

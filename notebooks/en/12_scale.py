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
# # 12. Scale: many devices, one model
#
# **What you will learn**
#
# - to see eight devices where there is one laptop, and to try on it what later runs on a pod;
# - what data, tensor and fully sharded parallelism split, by hand in five lines each, and what each of them sends;
# - that all of them train the same model: the losses agree to rounding;
# - to read where a parameter lives, and what that costs in memory and communication;
# - to plan a training on a TPU slice: memory, days, and dollars at your own price.
#
# Time: about an hour of reading; the code takes about a minute and a half on two cores. References: Shoeybi et al. 2019 (Megatron-LM); Rajbhandari et al. 2020 (ZeRO).

# %% [markdown]
# ## Eight devices, before JAX wakes up
#
# XLA can present one CPU as eight devices. They are not faster, but for a program they are eight: each has its own memory, and what one has the other does not see. The number is read when JAX starts, so the variable must be set **before** the first import; in a notebook that means in the first cell, after a restart of the kernel.

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
# ## Three ways to share the work, by hand
#
# Take one layer $y = f(xW_1)W_2$ with a batch $x$ of 16 examples, and four devices.
#
# **Data parallelism.** Each device has all weights and a quarter of the examples. Each computes the gradient of its part; the mean over devices (*all-reduce*) is the gradient of the whole batch, because a mean of means of equal parts is the mean.

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
# **Tensor parallelism** (Megatron). Each device has all examples and a part of the weights: of $W_1$ some columns, of $W_2$ the rows that belong to them. The activation $f$ acts on each number alone, hence nobody must speak between the two products; the sum of the four results (*all-reduce* of activations) is $y$. Attention is split the same way, by heads.
#
# **Fully sharded** (ZeRO-3, FSDP). Each device has a part of the examples *and* stores only a part of each weight. Before a layer the parts are gathered (*all-gather*), used and thrown away; of the gradients each device keeps the sum of its part (*reduce-scatter*). The arithmetic is that of data parallelism, the memory a quarter.

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
# The same data parallelism with JAX's own collectives, on the eight devices: `shard_map` runs a function on each device with its part, and `pmean` is the all-reduce.

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
# ## One model on five meshes
#
# In the library nobody writes collectives. The devices form a **mesh** with named axes, `data`, `fsdp`, `tensor` (and `context`, for long sequences); a table says along which axis each parameter is split, by its path; and XLA's partitioner inserts the communication. A configuration has four numbers for it, and nothing else changes.
#
# We train a small GPT for six steps on five shapes of mesh, with the same seed, and compare the loss of every step.

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
# They agree to the last digits that float32 has; what differs is the order of sums. This is not self-evident: the dropout masks, the order of the data and the mean of the loss over sequences of different lengths must not depend on the mesh. It is also the best test of any parallel program: **the same loss on one device and on many**, at every step.
#
# ## Where a parameter lives
#
# `sharding.param_sharding` tells, for a path and a shape, which device has which part. Let us draw three parameters of the model on the last mesh; a rectangle with several numbers is kept in several copies.


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
# *query* is split by columns along `tensor` (whole heads) and by rows along `fsdp`; *out* the other way round, as Megatron wants it; over `data` everything is copied.
#
# ## Memory and communication
#
# A training with Adam in float32 keeps for every parameter four numbers of 4 bytes: the parameter, two moments, and during the step its gradient. `bytes_per_device` counts from shapes; nothing is allocated, hence we can look at models that would never fit in here. GPT-2 XL on eight devices:


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
# With data parallelism it does not fit into a chip of TPU v5e (15.75 GiB), although there are eight of them; split over `fsdp` it takes an eighth. The price is communication. `plan` compiles the train step without running it and reads from the compiled program what is sent:

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
# Data parallelism sends the gradients once per step, however long the sequences are. Fully sharded gathers the weights besides, for the forward and again for the backward pass. (Of the gradients XLA makes an all-reduce here, of which each device keeps its part: more is sent than a reduce-scatter would.) Tensor parallelism sends *activations* in each layer: their size grows with the batch, and nobody can go on before they have arrived; hence `tensor` belongs on the fastest links, inside of one machine.
#
# ## A plan for a TPU slice
#
# Here ends what a CPU can tell: the compiler for TPUs is the library `libtpu`, which runs without a TPU, but takes minutes for each program. `pip install -e ".[plan]"` installs it, and
#
# ```
# python -m experiments.train --config=configs/bert_base.py --plan --topology=v5litepod-16
# ```
#
# makes the plan. The project has done this for its recipes (`benchmarks/plans.jsonl`, `benchmarks/PLANS.md`). These are the compiler's **estimates, not measurements**: cycles of every fused operation, plus what must be sent over the links at their peak. Rows with a star were compiled with an earlier state of the library, before two improvements; they may be compared with each other, not with the rest.

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
# ## Days and dollars
#
# What a training costs is chips × hours × price of a chip-hour. Prices change, differ by region and by contract (on demand, spot, reserved), and research programs give time for free; so **put in your own**. The numbers below are made up to show the calculation; they are not anybody's price list.

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
# Points of one recipe show the trade: more chips finish sooner, and cost as much only if each is used as well as before. BERT base on 64 chips of v5p takes two hours, but its batch of 256 sequences leaves each chip four of them, and the links and the weights' traffic begin to dominate: the share of the peak that is used (MFU) falls.
#
# These estimates leave out evaluation, checkpoints, waiting for data, restarts, and above all the trainings that fail. Whoever asks for a grant multiplies by two or three, and says so.
#
# ## Exercises
#
# 1. What does the library say to `tensor=8` for a model with 4 heads? And why is it right?
# 2. On how many devices of 15.75 GiB do the parameters and moments of GPT-2 XL fit, if half of the memory is left for activations?
# 3. The rule of thumb for the FLOPs of a training is $6ND$ ($N$ parameters, $D$ tokens). Compare with `registry.flops_per_token` for BERT base and GPT-2 small, at length 128 and 1,024. Where does it fail?
# 4. Gradient accumulation computes a batch in several parts one after the other. Show that the loss of every step stays the same with `accumulation_steps=2`.
# 5. At equal prices per chip-hour, and among the rows with a star, which slice is the cheapest for BERT base, which the fastest? At what fraction of the price of the others would a chip of v5p break even with the cheapest?

# %% [markdown]
# ## Solutions
#
# **1.** A head cannot be cut in two, since its softmax needs all of its scores.

# %%
wrong = small(MESHES["tensor 8"])
wrong.model.num_heads = 4
try:
    tx_jax.train(wrong, WORK / "wrong", progress=False)
    raise AssertionError("this must fail")
except InputError as error:
    print(error)

# %% [markdown]
# **2.** Three times 4 bytes for each parameter, divided by the number of devices.

# %%
needed = 3 * 4 * registry.num_params(xl) / 2**30
devices = 1
while needed / devices > 15.75 / 2:
    devices *= 2
print(f"{needed:.1f} GiB in all: {devices} devices, {needed / devices:.1f} GiB each")
assert devices == 4

# %% [markdown]
# **3.** $6ND$ counts two FLOPs for each weight and token, once forward and twice backward. It leaves out attention's products of length by length, and counts the embedding table, which is only looked up. An output layer that reads every token (GPT) makes up for the latter, one that reads 15% of them (BERT) does not.

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
# **4.** The loss is a sum and a weight, divided once at the end; parts that are added up give the same quotient.

# %%
accumulated = small(MESHES["data 8"])
accumulated.training.accumulation_steps = 2
tx_jax.train(accumulated, WORK / "accumulated", progress=False)
log = [json.loads(line) for line in (WORK / "accumulated/metrics.jsonl").read_text().splitlines()]
again = np.array([row["loss"] for row in log if row["split"] == "train"])
print(f"largest difference {np.abs(again - reference).max():.1e}")
assert np.abs(again - reference).max() < 1e-4

# %% [markdown]
# **5.** Chip-days decide. The fastest is not the dearest by far: it needs few more chip-days than the cheapest.

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

"""Probes: how well a small classifier reads labels from each layer's hidden states (Alain & Bengio 2016; Tenney et al.
2019), and how much of that is its own work.

Control tasks (Hewitt & Liang 2019, "Designing and Interpreting Probes with Control Tasks") give each word a random
label that only memory can learn; accuracy above that of the control is the selectivity. The minimum description length
(Voita & Titov 2020, "Information-Theoretic Probing with Minimum Description Length") is what the labels cost to send by
a probe that learns on the way: the less, the more easily they are read.

Shapes: L layers and the embeddings, N and M examples, D model, C labels, P portions.
"""

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.errors import InputError, InputWarning
from tx_jax.interpret import capture, vectors
from tx_jax.interpret.texts import Row

KINDS = ("linear", "mlp")
HIDDEN = 64  # units of the MLP
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 600, 256, 5e-3, 1e-3
LARGEST = 6 * 2**30  # bytes of hidden states, which are in memory three times while probes are trained
# Of the training examples, as Voita & Titov: each portion is sent by a probe that was trained on those before it.
PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Labeled:
    """Hidden states with their labels.

    Attributes:
      states: float32 [L, N, D].
      labels: int [N], numbers of labels; of test data -1 for one that training lacks.
      types: what the control task gives one label: the word of each example, or of texts the text itself.
    """

    states: np.ndarray
    labels: np.ndarray
    types: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Probed:
    """Of one kind of probe on each layer, [L] each.

    Attributes:
      accuracy, control: on test data, of the task and of its control.
      description_length: bits of all training labels; None where it was not asked for.
      uniform_length: what they cost without any probe, bits.
    """

    kind: str
    accuracy: np.ndarray
    control: np.ndarray
    description_length: np.ndarray | None
    uniform_length: float

    @property
    def selectivity(self) -> np.ndarray:
        return self.accuracy - self.control


def states_of_words(
    model: capture.Model,
    rows: Sequence[Row],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The hidden states of each word's first piece, all sentences one after another, from one pass: [L, N, D].

    Raises:
      InputError: they would take more memory than `LARGEST`.
    """
    return _states(model, rows, lambda row: row.first_pieces(), progress)


def states_of_texts(
    model: capture.Model,
    rows: Sequence[Row],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The means over the tokens of each text: [L, N, D]."""
    return _states(model, rows, None, progress)


def _states(
    model: capture.Model, rows: Sequence[Row], places: Callable[[Row], np.ndarray] | None, progress: Callable
) -> np.ndarray:
    names = vectors.hidden_sites(model.model, range(model.model.num_layers + 1))
    count = len(rows) if places is None else sum(len(places(row)) for row in rows)
    if (size := 4 * len(names) * count * model.model.dim) > LARGEST:
        raise InputError(
            f"the hidden states of {count:,} examples would take {size / 2**30:.1f} GiB, more than "
            f"{LARGEST / 2**30:.0f}: take fewer, such as --limit={len(rows) * LARGEST // size}"
        )
    parts: list[np.ndarray] = [np.zeros(0)] * len(rows)
    for index, values, _ in capture.stream(model, rows, names, progress=progress):
        whole = np.stack([values[name] for name in names])
        parts[index] = whole.mean(1, keepdims=True) if places is None else whole[:, places(rows[index])]
    return np.concatenate(parts, axis=1)


def numbered(train: Sequence[str], test: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The numbers of the labels, and the labels of training, sorted.

    A label that training lacks is -1, which no probe ever gives, with an InputWarning. Raises InputError if there is
    one label only.
    """
    names = tuple(sorted(set(train)))
    if unknown := sorted(set(test) - set(names)):
        count = sum(label not in names for label in test)
        warnings.warn(
            f"{count:,} of {len(test):,} test examples have labels that the training data lacks, such as {unknown[0]}: "
            "they count as errors",
            InputWarning,
            stacklevel=2,
        )
    if len(names) < 2:
        raise InputError(f"all labels are {names[0]!r}: there is nothing to tell apart")
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[x] for x in train]), np.array([number.get(x, -1) for x in test]), names


def control_labels(train: Labeled, test: Labeled, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A label for each type, drawn as often as labels occur in training, the same in both parts (Hewitt & Liang 2019,
    section 2)."""
    rng = np.random.default_rng(seed)
    frequencies = np.bincount(train.labels) / len(train.labels)
    of_type = {name: rng.choice(len(frequencies), p=frequencies) for name in sorted({*train.types, *test.types})}
    return np.array([of_type[name] for name in train.types]), np.array([of_type[name] for name in test.types])


def baselines(train: Labeled, test: Labeled) -> dict[str, float]:
    """What needs no hidden states: always the most frequent label, and the most frequent one of each word."""
    most = int(np.bincount(train.labels).argmax())
    counts: dict[str, np.ndarray] = {}
    for name, label in zip(train.types, train.labels, strict=True):
        counts.setdefault(name, np.zeros(train.labels.max() + 1))[label] += 1
    of_type = [int(counts[name].argmax()) if name in counts else most for name in test.types]
    return {
        "most frequent label": float(np.mean(test.labels == most)),
        "most frequent label of the word": float(np.mean(test.labels == np.array(of_type))),
    }


def probe(
    train: Labeled,
    test: Labeled,
    kind: str,
    *,
    description_length: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Probed:
    """Trains a probe on every layer at once, and one on the control task; with its description length, if asked for.

    States are standardized by the mean and deviation of each layer's training data.

    Args:
      kind: "linear" or "mlp", of one hidden layer of `HIDDEN` units.
    """
    mean = train.states.mean(axis=1, keepdims=True)
    scale = train.states.std(axis=(1, 2), keepdims=True) + 1e-6
    x, x_test = (jnp.asarray((part.states - mean) / scale) for part in (train, test))
    labels = int(train.labels.max()) + 1
    control, control_test = control_labels(train, test, seed=seed)
    portions = sorted({max(2, round(share * len(train.labels))) for share in PORTIONS}) if description_length else []
    total = 2 + max(0, len(portions) - 1)
    fit = functools.partial(_fit, kind, labels, x)
    found = []
    for done, (y, y_test) in enumerate(((train.labels, test.labels), (control, control_test)), start=1):
        log_p = _log_probabilities(kind, fit(y, len(y), seed), x_test)
        found.append(np.asarray((log_p.argmax(-1) == jnp.asarray(y_test)[None]).mean(-1)))
        progress(done, total)
    uniform = len(train.labels) * np.log2(labels)
    length = None
    if description_length:
        order = np.random.default_rng(seed).permutation(len(train.labels))
        shuffled, y = x[:, order], train.labels[order]
        length = np.full(len(x), portions[0] * np.log2(labels))
        for done, (begin, end) in enumerate(itertools.pairwise(portions), start=3):
            params = _fit(kind, labels, shuffled, y, begin, seed)
            log_p = _log_probabilities(kind, params, shuffled)
            sent = np.asarray(log_p)[:, np.arange(begin, end), y[begin:end]]
            length -= sent.sum(-1) / np.log(2)
            progress(done, total)
    return Probed(kind, *found, length, float(uniform))


def _fit(kind: str, labels: int, x_LND: jax.Array, y_N: np.ndarray, count: int, seed: int) -> dict[str, jax.Array]:
    return _trained(kind, labels, x_LND, jnp.asarray(y_N), jnp.asarray(count), jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _trained(
    kind: str, labels: int, x_LND: jax.Array, y_N: jax.Array, count: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """Probes of all layers, trained on the first `count` examples by AdamW with a falling learning rate."""
    layers, _, dim = x_LND.shape
    init, sample = jax.random.split(key)
    params = _initial(kind, layers, dim, labels, init)
    optimizer = optax.adamw(optax.linear_schedule(LEARNING_RATE, 0.0, STEPS), weight_decay=WEIGHT_DECAY)

    def loss(params: dict[str, jax.Array], chosen: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(_logits(kind, params, x_LND[:, chosen]))
        return (
            -jnp.take_along_axis(log_p, jnp.broadcast_to(y_N[chosen][None, :, None], (layers, BATCH, 1)), 2)
            .mean(axis=(1, 2))
            .sum()
        )

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        params, state = carry
        gradient = jax.grad(loss)(params, jax.random.randint(key, (BATCH,), 0, count))
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(sample, STEPS))
    return params


def _initial(kind: str, layers: int, dim: int, labels: int, key: jax.Array) -> dict[str, jax.Array]:
    sizes = [dim, labels] if kind == "linear" else [dim, HIDDEN, labels]
    params = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        key, draw = jax.random.split(key)
        shape = (inputs, outputs)
        kernel = jax.random.normal(draw, shape) * (0.0 if kind == "linear" else inputs**-0.5)
        params[f"kernel_{number}"] = jnp.broadcast_to(kernel[None], (layers, *shape))
        params[f"bias_{number}"] = jnp.zeros((layers, outputs))
    return params


def _logits(kind: str, params: dict[str, jax.Array], x_LND: jax.Array) -> jax.Array:
    y = jnp.einsum("lnd,ldf->lnf", x_LND, params["kernel_0"]) + params["bias_0"][:, None]
    if kind == "mlp":
        y = jnp.einsum("lnf,lfc->lnc", jax.nn.relu(y), params["kernel_1"]) + params["bias_1"][:, None]
    return y


@functools.partial(jax.jit, static_argnums=0)
def _log_probabilities(kind: str, params: dict[str, jax.Array], x_LND: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(_logits(kind, params, x_LND))

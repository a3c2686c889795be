"""Two-way conversion: tables of rules that map the tensors of a Hugging Face checkpoint to our parameter paths.

Tables are used in both directions, so every transform includes its inverse. Transforms only rearrange values: dtype and
bits are preserved. NumPy only.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tx_jax.errors import InputError

Shape = tuple[int, ...]
Arrays = Sequence[np.ndarray]

MAX_LINES_OF_A_KIND = 3  # limit per error report: one misnamed prefix causes hundreds of lines
ADVICE = "config.json and the weights must be those of one model: are both whole, and from the same place?"


class Transform(NamedTuple):
    """Converts some of their tensors to some of our arrays, and back; both directions return views if possible.

    Attributes:
      forward: theirs -> ours.
      inverse: ours -> theirs.
      hf_shapes: our shapes -> their shapes, without any arrays.
    """

    forward: Callable[[Arrays], list[np.ndarray]]
    inverse: Callable[[Arrays], list[np.ndarray]]
    hf_shapes: Callable[[Sequence[Shape]], list[Shape]]


def _split(n: int, axis: int, *, transpose: bool) -> Transform:
    """Maps one of their tensors to n of ours, concatenated along an axis and optionally transposed."""

    def turn(x: np.ndarray) -> np.ndarray:
        return x.T if transpose else x

    def hf_shapes(shapes: Sequence[Shape]) -> list[Shape]:
        shape = list(shapes[0][::-1] if transpose else shapes[0])
        shape[axis] *= n
        return [tuple(shape)]

    return Transform(
        forward=lambda theirs: [turn(part) for part in np.split(theirs[0], n, axis=axis)],
        inverse=lambda ours: [np.concatenate([turn(part) for part in ours], axis=axis)],
        hf_shapes=hf_shapes,
    )


def _each(function: Callable[[np.ndarray], np.ndarray], shape: Callable[[Shape], Shape]) -> Transform:
    """Applies a function, which is its own inverse, to every tensor of a rule."""
    return Transform(
        forward=lambda theirs: [function(x) for x in theirs],
        inverse=lambda ours: [function(x) for x in ours],
        hf_shapes=lambda shapes: [shape(s) for s in shapes],
    )


KEEP = _each(lambda x: x, lambda shape: shape)
# torch's Linear weight [out, in] <-> our kernel [in, out].
TRANSPOSE = _each(lambda x: x.T, lambda shape: shape[::-1])
# torch's Conv1d weight [out, in / groups, width] <-> ours [width, in / groups, out].
CONV1D = TRANSPOSE
# A row [1, n] <-> our vector [n].
ROW = Transform(
    forward=lambda theirs: [x[0] for x in theirs],
    inverse=lambda ours: [x[None] for x in ours],
    hf_shapes=lambda shapes: [(1, *shape) for shape in shapes],
)


def split_columns(n: int) -> Transform:
    """[in, n D] <-> n kernels [in, D]; [n D] <-> n biases [D]. GPT-2 stores its weights as [in, out]."""
    return _split(n, axis=-1, transpose=False)


def split_rows(n: int) -> Transform:
    """A fused Linear [n D, in] <-> n kernels [in, D]; [n D] <-> n biases [D]."""
    return _split(n, axis=0, transpose=True)


def split_heads_interleaved(num_heads: int, n: int) -> Transform:
    """A fused Linear whose rows are [q k v] of the first head, [q k v] of the second, ... <-> n kernels [in, D].

    The rows can be viewed as [num_heads, n, D / num_heads], and so can the entries of a bias [n D]. Used for DeBERTa's
    `in_proj`.
    """

    def forward(theirs: Arrays) -> list[np.ndarray]:
        grouped = theirs[0].reshape(num_heads, n, -1, *theirs[0].shape[1:])
        return [grouped[:, j].reshape(-1, *theirs[0].shape[1:]).T for j in range(n)]

    def inverse(ours: Arrays) -> list[np.ndarray]:
        rows = [x.T for x in ours]
        grouped = np.stack([x.reshape(num_heads, -1, *x.shape[1:]) for x in rows], axis=1)
        return [grouped.reshape(-1, *rows[0].shape[1:])]

    return Transform(forward, inverse, split_rows(n).hf_shapes)


class Rule(NamedTuple):
    """One row of a table. Names are one or several strings; `{i}` in them stands for the layer number."""

    hf: str | tuple[str, ...]
    ours: str | tuple[str, ...]
    transform: Transform = KEEP

    @property
    def hf_names(self) -> tuple[str, ...]:
        return (self.hf,) if isinstance(self.hf, str) else self.hf

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    def at(self, layer: int) -> "Rule":
        """The row for one layer."""
        hf, paths = (tuple(x.replace("{i}", str(layer)) for x in names) for names in (self.hf_names, self.paths))
        return Rule(hf, paths, self.transform)


def expand(rules: Iterable[Rule], num_layers: int) -> list[Rule]:
    """Replaces each row that contains `{i}` with one row per layer."""
    expanded = []
    for rule in rules:
        repeated = any("{i}" in name for name in (*rule.hf_names, *rule.paths))
        expanded += [rule.at(i) for i in range(num_layers)] if repeated else [rule.at(0)]
    return expanded


def covering(rules: Iterable[Rule], shapes: Mapping[str, Shape]) -> list[Rule]:
    """Returns the rows for a model's parameters; a table also has rows for heads that the model may lack.

    Raises:
      ValueError: a parameter has no row or two rows, or only some of a row's parameters are present. This is a mistake
        in the table.
    """
    chosen = [rule for rule in rules if any(path in shapes for path in rule.paths)]
    paths = [path for rule in chosen for path in rule.paths]
    if wrong := sorted(
        {path for path in paths if path not in shapes or paths.count(path) > 1} | set(shapes) - {*paths}
    ):
        raise ValueError(f"these parameters are not covered by exactly one rule: {', '.join(wrong[:8])}")
    return chosen


def check(hf_shapes: Mapping[str, Shape], rules: Iterable[Rule], shapes: Mapping[str, Shape]) -> None:
    """Checks that a checkpoint's tensors have the names and shapes that a model with these parameters needs.

    Args:
      hf_shapes: the shapes of the checkpoint's tensors, by name.
      rules: an expanded table.
      shapes: the shapes of our parameters, by path.

    Raises:
      InputError: tensors are missing, unused, or have the wrong shape (all reported together).
    """
    missing, misshapen, unused = [], [], dict(hf_shapes)
    for rule in covering(rules, shapes):
        expected = rule.transform.hf_shapes([shapes[path] for path in rule.paths])
        for name, shape in zip(rule.hf_names, expected, strict=True):
            found = unused.pop(name, None)
            if found is None:
                missing.append(f"- missing: {name} {shape} for {', '.join(rule.paths)}")
            elif tuple(found) != shape:
                misshapen.append(f"~ {name}: shape {tuple(found)}, expected {shape}")
    extra = [f"+ unused: {name} {tuple(shape)}" for name, shape in unused.items()]
    if not (missing or extra or misshapen):
        return
    counts = {"missing": missing, "unused": extra, "misshapen": misshapen}
    summary = ", ".join(f"{len(lines)} {kind}" for kind, lines in counts.items() if lines)
    held, asked = (sum(map(math.prod, sizes.values())) for sizes in (hf_shapes, shapes))
    lines = [line for kind, lines in counts.items() for line in _abbreviated(kind, lines)]
    head = f"the files hold {held:,} values, the configuration asks for {asked:,}: {summary}"
    raise InputError("\n".join([head, *lines, ADVICE]))


def _abbreviated(kind: str, lines: list[str]) -> list[str]:
    rest = len(lines) - MAX_LINES_OF_A_KIND
    return lines if rest <= 1 else [*lines[:MAX_LINES_OF_A_KIND], f"  ... and {rest} more {kind}"]


def to_ours(
    tensors: Mapping[str, np.ndarray], rules: Iterable[Rule], shapes: Mapping[str, Shape]
) -> dict[str, np.ndarray]:
    """Converts a checkpoint's tensors, by name, to our parameters, by path; returns views if possible.

    Raises:
      InputError: see `check`.
    """
    rules = list(rules)
    check({name: tensor.shape for name, tensor in tensors.items()}, rules, shapes)
    params = {}
    for rule in covering(rules, shapes):
        params |= zip(rule.paths, rule.transform.forward([tensors[name] for name in rule.hf_names]), strict=True)
    return params


def to_hf(params: Mapping[str, np.ndarray], rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """Converts our parameters, by path, to a checkpoint's tensors, by name.

    Raises:
      InputError: two parameters would become one tensor.
      ValueError: see `covering`.
    """
    tensors: dict[str, np.ndarray] = {}
    for rule in covering(rules, {path: x.shape for path, x in params.items()}):
        if taken := [name for name in rule.hf_names if name in tensors]:
            raise InputError(f"a checkpoint cannot hold both {rule.paths[0]} and another head: both are {taken[0]!r}")
        tensors |= zip(rule.hf_names, rule.transform.inverse([params[path] for path in rule.paths]), strict=True)
    return tensors

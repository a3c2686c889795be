"""Attention as a picture for print: one head with its lines and numbers, or all heads as small maps."""

import numpy as np
from matplotlib.figure import Figure

from tx_jax.interpret.view import Kind
from tx_jax.web.page import COLORS


def all_heads(kind: Kind, title: str) -> Figure:
    """A map of each layer and head: rows attend to columns; darker is more, by the square root."""
    layers, heads = kind.weights.shape[:2]
    figure = Figure(figsize=(0.75 * heads + 0.6, 0.8 * layers + 0.7), layout="constrained")
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer, head in np.ndindex(layers, heads):
        axes = grid[layer, head]
        axes.imshow(np.sqrt(kind.weights[layer, head]), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set(xticks=[], yticks=[])
        if layer == 0:
            axes.set_title(str(head), fontsize="x-small")
        if head == 0:
            axes.set_ylabel(str(kind.layers[layer]), fontsize="x-small", rotation=0, labelpad=8, va="center")
    figure.suptitle(f"{title}: {kind.name}; layers down, heads across", fontsize="small")
    return figure


def one_head(kind: Kind, layer: int, head: int, title: str) -> Figure:
    """Lines between tokens, as wide as their weight, and beside them the map.

    Args:
      layer: its place among `kind.layers`.
    """
    weights = kind.weights[layer, head]
    rows = max(len(kind.queries), len(kind.keys))
    figure = Figure(figsize=(11, max(3.0, 0.24 * rows + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for tokens, x, side in ((kind.queries, 0, "right"), (kind.keys, 1, "left")):
        for place, token in enumerate(tokens):
            left.text(x + (-0.02 if x == 0 else 0.02), place, token, ha=side, va="center", fontsize="small")
    for i, j in np.argwhere(weights > 0.01):
        left.plot(
            [0, 1], [i, j], color=COLORS[0], alpha=float(min(1, weights[i, j])), linewidth=2 * weights[i, j] ** 0.5
        )
    left.set(xlim=(-0.4, 1.4), ylim=(rows - 0.5, -0.5))
    left.set_axis_off()
    image = right.imshow(weights, cmap="Blues", vmin=0, vmax=max(1e-6, float(weights.max())), aspect="auto")
    right.set_xticks(range(len(kind.keys)), kind.keys, rotation=90, fontsize="x-small")
    right.set_yticks(range(len(kind.queries)), kind.queries, fontsize="x-small")
    figure.colorbar(image, ax=right, label="weight")
    figure.suptitle(f"{title}: {kind.name}, layer {kind.layers[layer]}, head {head}", fontsize="small")
    return figure

"""Words of `experiments.interpret` about vectors: capture, neighbors, positions, bias."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments import command_line
from experiments.interpret_writing import numbers_given, progress, show, texts_given, write
from tx_jax.interpret import bias as bias_of
from tx_jax.interpret import capture, pictures, sites, store, texts, vectors
from tx_jax.interpret import positions as encodings

LARGEST_MAP = 40  # texts: of more only the table of neighbors is shown


def neighbors(model: capture.Model, outs: Sequence[Path]) -> None:
    given, queries = texts_given(least=2), flags.FLAGS.query
    found = _embedded(model, [*given, *queries])
    texts_N, queries_M = found[: len(given)], found[len(given) :] if queries else found
    count = flags.FLAGS.top + (0 if queries else 1)  # each text is its own nearest
    best, cosines = vectors.nearest(texts_N, queries_M, count)
    rows = []
    for number, text in enumerate(queries or given):
        near = [(i, c) for i, c in zip(best[number], cosines[number], strict=True) if queries or i != number]
        rows += [(text, rank, given[i], float(c)) for rank, (i, c) in enumerate(near[: flags.FLAGS.top], start=1)]
    columns = ("text", "rank", "neighbor", "cosine")
    show(columns, rows[:LARGEST_MAP])
    wants_map = any(Path(out.name).suffix.lower() in pictures.FORMATS for out in outs)
    if wants_map and max(len(given), len(queries)) > LARGEST_MAP:
        command_line.fail(f"a picture of more than {LARGEST_MAP} texts cannot be read: give --out=neighbors.csv")
    between = vectors.similarities(queries_M, texts_N)
    write(
        outs,
        picture=lambda: pictures.heat_map(
            between, list(queries or given), given, title="cosines of sentence vectors", label="cosine"
        ),
        table=(columns, rows),
        arrays={"vectors": texts_N, "queries": queries_M, "cosines": between},
    )


def _embedded(model: capture.Model, given: Sequence[str]) -> np.ndarray:
    rows = texts.rows_to_encode(model, given)
    layers = numbers_given("layers", (-1,)) or ()
    with progress("text") as shown:
        return vectors.embed(
            model,
            rows,
            pooling=flags.FLAGS.pooling,
            layers=layers,
            batch_size=flags.FLAGS.batch_size,
            progress=shown,
        )


def captured(model: capture.Model, outs: Sequence[Path]) -> None:
    if not flags.FLAGS.activations:
        command_line.fail(
            "--activations is needed: regular expressions of names such as encoder/layer_3/output, "
            "encoder/layer_3/attention/probabilities and encoder/layer_3/mlp/activations"
        )
    names = sites.matching(model.model, flags.FLAGS.activations)
    if model.model.architecture == "encoder_decoder":
        command_line.fail(
            "capture reads one text a line, but an encoder-decoder has two: use interpret.store in Python"
        )
    rows = texts.rows_of_texts(model, texts_given())
    with progress("text") as shown:
        store.write(model, rows, names, outs[0], batch_size=flags.FLAGS.batch_size, progress=shown)
    first = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    print(f"{len(names)} activations of {len(rows):,} texts, for interpret.store.Captured: {first}")


def positions(model: capture.Model | None, outs: Sequence[Path]) -> None:
    compared = numbers_given("compare") or []
    if len(compared) != 2:
        command_line.fail(f"--compare={','.join(flags.FLAGS.compare)}: give two positions, such as 2,10")
    if model is not None:
        if idle := [flag for flag in ("length", "dim") if flags.FLAGS[flag].present]:
            command_line.fail(f"--{idle[0]} does nothing beside a model, which has its own")
        kinds = {f"learned, {model.name}": encodings.learned(model)}
    else:
        length, dim = flags.FLAGS.length, flags.FLAGS.dim
        kinds = {
            "the paper's formula": encodings.sinusoidal(length, dim),
            "the listing with the doubled index": encodings.doubled_index(length, dim),
        }
    first, second = compared
    rows = [(kind, first, second, encodings.cosine(table, first, second)) for kind, table in kinds.items()]
    show(("encoding", "position", "position", "cosine"), rows)
    curves = {kind: encodings.by_distance(table) for kind, table in kinds.items()}
    distances = [(kind, d, float(c)) for kind, curve in curves.items() for d, c in enumerate(curve)]
    write(
        outs,
        picture=lambda: _pictured(kinds, curves),
        table=(("encoding", "distance", "mean cosine"), distances),
        arrays=kinds | {f"cosine by distance, {kind}": curve for kind, curve in curves.items()},
    )


def _pictured(kinds: dict[str, np.ndarray], curves: dict[str, np.ndarray]) -> pictures.Figure:
    figure = pictures.Figure(figsize=(11, 3.1 * len(kinds) + 0.3), layout="constrained")
    grid = figure.subplots(len(kinds), 3, squeeze=False)
    for axes, (kind, table) in zip(grid, kinds.items(), strict=True):
        wide = np.abs(table).max()
        axes[0].imshow(table, aspect="auto", cmap="RdBu_r", vmin=-wide, vmax=wide)
        axes[0].set(xlabel="dimension", ylabel="position", title=kind)
        image = axes[1].imshow(vectors.similarities(table, table), cmap="viridis", vmax=1)
        axes[1].set(xlabel="position", ylabel="position", title="cosines")
        figure.colorbar(image, ax=axes[1])
        axes[2].plot(curves[kind])
        axes[2].set(xlabel="distance", ylabel="mean cosine", title="by distance")
        axes[2].grid(alpha=0.3)
        for one in axes:
            one.title.set_fontsize("small")
    return figure


def bias(model: capture.Model, outs: Sequence[Path]) -> None:
    from tx_jax.files import path_of

    given = flags.FLAGS.input
    pairs = bias_of.read(path_of(given, "--input", reads=True)) if given else bias_of.PROFESSIONS
    if "masked_lm" in model.untrained:
        command_line.fail(f"{model.name} has no trained masked_lm head: what it fills in means nothing")
    with progress("sentence") as shown:
        found = bias_of.associations(model, pairs, progress=shown)
    numbers = bias_of.statistics(found, seed=flags.FLAGS.seed)
    words = list(dict.fromkeys((one.group, one.attribute) for one in found))
    differences = np.array(
        [
            [np.mean([a.difference for a in found if (a.attribute, a.template) == (word, t)]) for t in pairs.templates]
            for _, word in words
        ]
    )
    show(("group", "mean difference"), list(numbers.means.items()))
    print(
        f"effect size {numbers.effect_size:.2f}, p = {numbers.p_value:.4f} "
        f"({numbers.permutations:,} permutations, {len(words)} attributes)"
    )
    for caveat in bias_of.CAVEATS:
        print(f"  note: {caveat}")
    columns = ("group", "attribute", "template", "first", "second", "log ratio of first", "log ratio of second")
    rows = [(a.group, a.attribute, a.template, *a.targets, a.first, a.second) for a in found]
    targets = ", ".join("/".join(pair) for pair in pairs.targets)
    write(
        outs,
        picture=lambda: pictures.heat_map(
            differences,
            [f"{word} ({group})" for group, word in words],
            pairs.templates,
            title=f"association with {targets}; effect size {numbers.effect_size:.2f}, p = {numbers.p_value:.3f}",
            label="difference of log ratios",
            centered=True,
        ),
        table=(columns, rows),
    )

"""Words of `experiments.interpret` about attention: attention, heads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.ticker import MaxNLocator

from experiments import command_line
from experiments.interpret_writing import numbers_given, progress, read_labeled, show, texts_given, write
from tx_jax.interpret import capture, pictures, sites, texts, view, view_picture
from tx_jax.interpret import heads as attention_heads


def attention(model: capture.Model, outs: Sequence[Path]) -> None:
    given, pairs = flags.FLAGS.text, flags.FLAGS.text_pair
    if len(given) != 1 or len(pairs) > 1:
        command_line.fail("attention is of one text, --text, or of a pair, --text and --text_pair: give each once")
    layers, heads = numbers_given("layers"), numbers_given("heads")
    sites.require_heads(model.model, heads or ())
    pictured = [out for out in outs if Path(out.name).suffix.lower() not in (".html", ".npz")]
    if heads is not None and (not pictured or not layers or len(layers) != 1 or len(heads) != 1):
        command_line.fail("--heads is for a picture of one head: give one number, one of --layers, and --out=head.png")
    found = view.attention(model, given[0], pairs[0] if pairs else None, layers=layers)
    if found.unknown:
        print(f"not in the model's vocabulary, read as its unknown token: {', '.join(found.unknown)}")
    if pictured and len(found.kinds) > 1:
        command_line.fail(
            f"--out={pictured[0]}: attention of {len(found.kinds)} kinds, as this model has, is a page: --out=view.html"
        )
    kind = found.kinds[0]
    write(
        outs,
        page=found.page,
        picture=lambda: (
            view_picture.one_head(kind, 0, heads[0], found.title)
            if heads
            else view_picture.all_heads(kind, found.title)
        ),
        arrays=found.arrays(),
    )


def heads(model: capture.Model, outs: Sequence[Path]) -> None:
    config, tables = model.model, {}
    treebank = flags.FLAGS.data
    if treebank and (flags.FLAGS.text or flags.FLAGS.input):
        command_line.fail("--data is a treebank, whose sentences are the texts: leave --text and --input out")
    if flags.FLAGS["limit"].present and not treebank:
        command_line.fail("--limit does nothing without --data")
    if not flags.FLAGS.importance and (idle := [name for name in ("seed", "batch_size") if flags.FLAGS[name].present]):
        command_line.fail(f"--{idle[0]} does nothing without --importance")
    if treebank:
        records = read_labeled("data", column="form", label="deprel", more=("head",))
        rows = texts.rows_of_words(model, [record[0] for record in records])
        parents = [[_parent(value, number) for value in record[2]] for number, record in enumerate(records, start=1)]
        with progress("sentence") as shown:
            found = attention_heads.syntax(model, rows, parents, [record[1] for record in records], progress=shown)
        _show_syntax(found)
        tables |= {"syntactic head": found.to_head, "syntactic dependent": found.to_dependent}
    else:
        rows = texts.rows_of_texts(model, texts_given())
    with progress("text") as shown:
        tables |= attention_heads.patterns(model, rows, progress=shown)
    for method in flags.FLAGS.importance:
        with progress(f"{method}, run") as shown:
            scores, loss = attention_heads.importance(
                model, rows, method=method, seed=flags.FLAGS.seed, batch_size=flags.FLAGS.batch_size, progress=shown
            )
        print(f"loss with all heads: {loss:.4f} nats a token")
        tables[f"importance by {method}"] = scores
    show(("what", "layer", "head", "most", "mean of all heads"), _strongest(tables))
    rows_of = [
        (layer, head, *(float(values[layer, head]) for values in tables.values()))
        for layer in range(config.num_layers)
        for head in range(config.num_heads)
    ]
    write(
        outs,
        picture=lambda: _maps(tables, f"heads of {model.name}"),
        table=(("layer", "head", *tables), rows_of),
        arrays=tables,
    )


def _parent(value: object, number: int) -> int:
    """From CoNLL-U's number of the head, 0 for the root, to its place; -1 for the root."""
    if not str(value).isdecimal():
        command_line.fail(f"sentence {number}: the head {value!r} is no number: give CoNLL-U with the column head")
    return int(str(value)) - 1


def _show_syntax(found: attention_heads.Syntax) -> None:
    rows = [
        (kind, count, layer, head, direction, share, offset, base)
        for kind, (count, layer, head, direction, share, offset, base) in list(found.relations.items())[:15]
    ]
    columns = ("relation", "words", "layer", "head", "direction", "share", "best offset", "baseline")
    show(columns, rows, title=f"best head of each relation; {found.words:,} words")
    offset, share = found.baseline
    best = max(float(found.to_head.max()), float(found.to_dependent.max()))
    print(f"all relations: best head {best:.4f}; baseline, always the word at {offset:+d}: {share:.4f}")


def _strongest(tables: dict[str, np.ndarray]) -> list[tuple[str, int, int, float, float]]:
    found = []
    for name, values in tables.items():
        layer, head = np.unravel_index(int(values.argmax()), values.shape)
        found.append((name, int(layer), int(head), float(values.max()), float(values.mean())))
    return found


def _maps(tables: dict[str, np.ndarray], title: str) -> pictures.Figure:
    columns = min(4, len(tables))
    lines = -(-len(tables) // columns)
    layers, count = next(iter(tables.values())).shape
    size = (0.6 + columns * (1.0 + 0.17 * max(count, 8)), 0.5 + lines * (0.9 + 0.17 * max(layers, 6)))
    figure = pictures.Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, tables.items(), strict=False):
        image = axes.imshow(values, cmap="viridis", aspect="auto", vmin=min(0.0, float(values.min())))
        figure.colorbar(image, ax=axes)
        axes.set_title(attention_heads.PATTERNS.get(name, name), fontsize="small")
        axes.tick_params(labelsize="x-small")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="head", ylabel="layer")
    for axes in grid[len(tables) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize="medium")
    return figure

"""Words of `experiments.interpret` about attention: attention, heads."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import command_line
from experiments.interpret_writing import numbers_given, write
from tx_jax.interpret import capture, sites, view, view_picture


def attention(model: capture.Model, outs: Sequence[Path]) -> None:
    texts, pairs = flags.FLAGS.text, flags.FLAGS.text_pair
    if len(texts) != 1 or len(pairs) > 1:
        command_line.fail("attention is of one text, --text, or of a pair, --text and --text_pair: give each once")
    layers, heads = numbers_given("layers"), numbers_given("heads")
    sites.require_heads(model.model, heads or ())
    pictured = [out for out in outs if Path(out.name).suffix.lower() not in (".html", ".npz")]
    if heads is not None and (not pictured or not layers or len(layers) != 1 or len(heads) != 1):
        command_line.fail("--heads is for a picture of one head: give one number, one of --layers, and --out=head.png")
    found = view.attention(model, texts[0], pairs[0] if pairs else None, layers=layers)
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

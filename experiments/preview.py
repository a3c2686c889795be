"""Shows training examples as the model sees them, and statistics of the data, without training anything.

    python -m experiments.preview --config=configs/bert_base.py:smoke
    python -m experiments.preview --config=configs/bert_base.py --config.data.store=data/mine --step=900000 --examples=2

Any key of the configuration can be set, as with experiments.train, to see the effect of a change.

A token to predict is in brackets: [MASK→exception] was masked, [house→exception] was replaced by a random token,
[=exception] was kept as it is. ‹A› and ‹B› mark the segments of a pair, ‹2› the second document of a row. Of pairs to
translate it shows what the encoder reads, what the decoder reads, and what is predicted.
"""

import itertools

from absl import flags
from ml_collections import config_flags

from experiments import command_line

CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/NAME.py, or configs/NAME.py:VARIANT.")
EXAMPLES = flags.DEFINE_integer("examples", 4, "Examples to show.", lower_bound=0)
STEP = flags.DEFINE_integer(
    "step", 0, "The training step, or the index of the validation batch; from 0.", lower_bound=0
)
SPLIT = flags.DEFINE_enum("split", "train", ["train", "validation"], "Which documents.")
STATISTICS = flags.DEFINE_integer(
    "statistics", 512, "Number of examples to compute the statistics on, from --step on.", lower_bound=1
)

STYLES = {"text": "", "special": "dim", "mask": "bold red", "random": "bold magenta", "kept": "bold green"}
MARK = "bold cyan"


def main(argv: list[str]) -> int:
    if not CONFIG.value:
        command_line.fail("needed: --config, such as --config=configs/bert_base.py:smoke")
    from experiments import pair_preview
    from experiments.display import make_console
    from tx_jax.config import TranslationDataConfig, from_config_dict
    from tx_jax.data.pretraining import preview
    from tx_jax.runs.left_open import fill_in
    from tx_jax.tasks.registry import open_task

    config = from_config_dict(fill_in(CONFIG.value.to_dict(), command_line.given())[0])
    task = open_task(config)
    batches, batch_size, stop, data = source(config, task)
    if STEP.value >= stop:
        command_line.fail(f"--step={STEP.value} must be below {stop}, the number of batches")
    last = min(stop, STEP.value + -(-max(STATISTICS.value, EXAMPLES.value) // batch_size))
    made = [batches.batch_at(step) for step in range(STEP.value, last)]
    if isinstance(data, TranslationDataConfig):
        tokens = f"{batch_size * data.sequence_length:,} tokens a side"
        title = f"{config.data.store}, {SPLIT.value}, step {STEP.value}: {tokens}"
        pair_preview.show(made, task.tokenizer, EXAMPLES.value, title)
        return 0
    console, tokenizer = make_console(), task.tokenizer
    if EXAMPLES.value and task.objective.head == "masked_lm":
        console.print(legend())
    shown = itertools.chain.from_iterable(preview.examples(batch, tokenizer) for batch in made)
    for number, example in enumerate(itertools.islice(shown, EXAMPLES.value), start=1):
        console.print(caption(number, example))
        console.print(rendered(example))
        console.print()
    shape = f"{batch_size} x {data.sequence_length}"
    title = f"{config.data.store}, {SPLIT.value}, step {STEP.value}: {shape}, {data.packing}"
    console.print(title, style="bold", soft_wrap=True)
    console.print(table(preview.statistics(made, tokenizer), data))
    return 0


def source(config, task):
    """The split's batches, the batch size, the number of batches, and the data's configuration."""
    if SPLIT.value == "validation":
        size = config.training.eval_batch_size
        batches = task.batches("validation", batch_size=size, repeat=False)
        return batches, size, len(batches), config.data
    phases = config.training_phases
    phase = next((phase for phase in phases if STEP.value < phase.stop), phases[-1])
    batches = task.batches("train", batch_size=phase.batch_size, repeat=True, phase=phase)
    return batches, phase.batch_size, phase.stop, phase.data


def legend():
    from rich.text import Text

    parts = ("[MASK→original]", "mask"), (" ", ""), ("[random→original]", "random"), (" ", ""), ("[=kept]", "kept")
    return Text.assemble("to predict: ", *((text, STYLES.get(kind, "")) for text, kind in parts), "\n")


def caption(number, example):
    from rich.text import Text

    parts = [f"Example {number}: {len(example.pieces)} tokens", f"{example.padding:.0%} padding"]
    if example.unknown:
        parts.append(f"{example.unknown:.1%} unknown")
    if example.follows is not None:
        parts.append("B follows A" if example.follows else "B is from another document")
    return Text(", ".join(parts), style="bold")


def rendered(example):
    """The pieces of an example as one text, with a mark at the start of each segment or document."""
    from rich.text import Text

    text, before = Text(), None
    pairs, packed = (len({getattr(p, name) for p in example.pieces}) > 1 for name in ("segment", "document"))
    for piece in example.pieces:
        marks = []
        if pairs and (before is None or piece.segment != before.segment):
            marks.append("‹A›" if piece.segment == 0 else "‹B›")
        if packed and (before is None or piece.document != before.document):
            marks.append(f"‹{piece.document}›")
        for mark in marks:
            text.append(f" {mark}" if text else mark, MARK)
        text.append(*bracketed(piece, at_start=not text))
        before = piece
    return text


def bracketed(piece, at_start):
    """How a piece is shown: its text and its style."""
    seen, original = piece.seen.replace("\n", "↵"), piece.text.replace("\n", "↵")
    space = " " * (original.startswith(" ") and not at_start)
    if piece.kind in ("text", "special"):
        shown = original.removeprefix(" ")
    elif piece.kind == "kept":
        shown = f"[={original.strip()}]"
    else:
        shown = f"[{'MASK' if piece.kind == 'mask' else seen.strip()}→{original.strip()}]"
    return space + shown, STYLES[piece.kind]


def table(values, data):
    """The statistics next to the configured values."""
    from rich.table import Table

    shown = Table("statistics")
    shown.add_column("", justify="right")
    shown.add_column("configured")
    kept = 1 - data.replace_with_mask - data.replace_with_random
    ramp = f", to {data.mask_rate_end} over {data.mask_rate_steps:,} steps" if data.mask_rate_steps else ""
    rows = {
        "examples": ("{:,}", ""),
        "length": ("{:.1f} tokens", f"data.sequence_length={data.sequence_length}"),
        "padding": ("{:.1%}", ""),
        "unknown": ("{:.2%} of the tokens", ""),
        "tokens_per_byte": ("{:.3f}", ""),
        "chosen": ("{:.2%} of the tokens", f"data.mask_rate={data.mask_rate}{ramp}"),
        "mask": ("{:.1%} of the chosen", f"data.replace_with_mask={data.replace_with_mask}"),
        "random": ("{:.1%} of the chosen", f"data.replace_with_random={data.replace_with_random}"),
        "kept": ("{:.1%} of the chosen", f"the rest: {kept:.2g}"),
        "dropped": ("{:.2%} of the predictions", f"data.max_predictions={data.max_predictions}"),
        "follows": ("{:.1%} of the pairs", "50%"),
        "documents": ("{:.2f} a row", ""),
    }
    for name, (form, configured) in rows.items():
        if name in values:
            shown.add_row(name.replace("_", " "), form.format(values[name]), configured)
    return shown


if __name__ == "__main__":
    command_line.run(main)

"""What `experiments.preview` shows of pairs: sources and targets as the model reads them, and statistics by bucket."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def show(made: Sequence[dict[str, np.ndarray]], tokenizer: Any, examples: int, title: str) -> None:
    """Prints the first pairs of these batches, and a table with a row for each length of batches."""
    from experiments.display import make_console

    console = make_console()
    rows = ((batch, row) for batch in made for row in np.flatnonzero(batch["example_weights"]))
    for number, (batch, row) in enumerate(rows, start=1):
        if number > examples:
            break
        source = batch["tokens"][row][batch["valid"][row]]
        predicted = batch["target_weights"][row] > 0
        console.print(
            f"Example {number}: {len(source)} and {predicted.sum()} tokens in a batch of {batch['tokens'].shape[1]}",
            style="bold",
            highlight=False,
        )
        parts = {
            "encoder": source,
            "decoder": batch["target_tokens"][row][: np.flatnonzero(predicted)[-1] + 1],
            "predicts": batch["targets"][row][predicted],
        }
        for name, ids in parts.items():
            console.print(f"{name}: {tokenizer.decode(ids.tolist())}", markup=False, soft_wrap=True)
        console.print()
    console.print(title, style="bold", soft_wrap=True)
    console.print(_table(made, tokenizer.unk_id))


def _table(made: Sequence[dict[str, np.ndarray]], unk_id: int | None) -> Any:
    from rich.table import Table

    shown = Table("length", "batches", "pairs in each", "source tokens", "target tokens", "padding", "unknown")
    for column in shown.columns[1:]:
        column.justify = "right"
    for length in sorted({batch["tokens"].shape[1] for batch in made}):
        found = [batch for batch in made if batch["tokens"].shape[1] == length]
        real = sum(batch["example_weights"].sum() for batch in found)
        tokens = [sum(float((batch[name] > 0).sum()) for batch in found) for name in ("valid", "target_weights")]
        unknown = sum(float(((batch["tokens"] == unk_id) & batch["valid"]).sum()) for batch in found)
        places = 2 * sum(batch["tokens"].size for batch in found)
        shown.add_row(
            str(length),
            f"{len(found):,}",
            f"{len(found[0]['tokens']):,}",
            f"{tokens[0] / real:.1f} a pair",
            f"{tokens[1] / real:.1f} a pair",
            f"{1 - sum(tokens) / places:.1%}",
            f"{unknown / tokens[0]:.2%}",
        )
    return shown

"""Fills [MASK] in sentences with the words that a trained model finds most likely.

    python -m experiments.fill_mask --workdir=runs/bert --text='Return a [MASK] of the object.'

Several sentences: repeat --text. Without --text it reads lines from standard input.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import command_line

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory, or a converted model.")
TEXT = flags.DEFINE_multi_string("text", [], "A text with one or more [MASK]. May be repeated.")
TOP = flags.DEFINE_integer("top", 5, "Candidates for each mask.", lower_bound=1)
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; the newest if not given.")


def main(argv: list[str]) -> int:
    if not WORKDIR.value:
        command_line.fail("--workdir is needed: what experiments.train or experiments.convert made")
    from tx_jax.convert import model_dir
    from tx_jax.evaluation.fill_mask import fill_mask
    from tx_jax.runs import trained

    path = Path(WORKDIR.value)
    model = trained.load(path, STEP.value)
    if model_dir.is_model_dir(path) and "masked_lm" in model_dir.untrained(path):
        print("warning: masked_lm is untrained: what it fills in means nothing", file=sys.stderr)
    for text in TEXT.value or filter(None, map(str.strip, sys.stdin)):
        print(text)
        for candidates in fill_mask(model, text, top=TOP.value):
            print("    " + "   ".join(f"{token} {probability:.1%}" for token, probability in candidates))
    return 0


if __name__ == "__main__":
    command_line.run(main)

"""Fills [MASK] in sentences with the words that a trained model considers most likely.

    python -m experiments.fill_mask --model=runs/bert --text='Return a [MASK] of the object.'

Several sentences: repeat --text. Without --text it reads lines from standard input.
"""

import sys

from absl import flags

from experiments import command_line, model_flags

model_flags.define_model()
TEXT = flags.DEFINE_multi_string("text", [], "A text with one or more [MASK]. May be repeated.")
TOP = flags.DEFINE_integer("top", 5, "Candidates for each mask.", lower_bound=1)
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the newest.")


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    command_line.keep_memory_and_programs()
    from tx_jax.evaluation.fill_mask import fill_mask
    from tx_jax.runs import trained

    model = trained.load(name, STEP.value)
    if "masked_lm" in model.untrained:
        print("warning: masked_lm is untrained: what it fills in means nothing", file=sys.stderr)
    for text in TEXT.value or filter(None, map(str.strip, sys.stdin)):
        print(text)
        for candidates in fill_mask(model, text, top=TOP.value):
            print("    " + "   ".join(f"{token} {probability:.1%}" for token, probability in candidates))
    return 0


if __name__ == "__main__":
    command_line.run(main)

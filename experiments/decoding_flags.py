"""The flags of commands that generate text, named after transformers' arguments: see `tx_jax/decoding/options.py`."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from tx_jax.decoding import Options

flags.disclaim_key_flags()  # they count as the entry point's own, so that its --help shows them

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed")


def define(
    *, num_beams: int = 1, length_penalty: float = 1.0, length_normalization: str = "length", greedy: bool = False
) -> None:
    """The arguments are the defaults of the flags with their names. `greedy`: that of the temperature is 0."""
    flags.DEFINE_integer("max_new_tokens", None, "At most so many tokens a sequence, its end token included.")
    flags.DEFINE_float(
        "temperature",
        0.0 if greedy else None,
        "Logits are divided by it; 0: the most probable token each time (greedy).",
    )
    flags.DEFINE_integer("top_k", 0, "Sample from the k most probable tokens; 0: from all.")
    flags.DEFINE_float("top_p", 1.0, "Sample from the most probable tokens that together have this probability.")
    flags.DEFINE_float("min_p", 0.0, "Sample from tokens at least so many times as probable as the first.")
    flags.DEFINE_float("repetition_penalty", 1.0, "Above 1, tokens that were there already become less probable.")
    flags.DEFINE_integer("num_return_sequences", 1, "Samples of each prompt, or the best of the beams.")
    flags.DEFINE_integer("num_beams", num_beams, "Hypotheses of a beam search; 1: no search.")
    flags.DEFINE_float("length_penalty", length_penalty, "Beam search: the exponent p of the penalty on lengths n.")
    flags.DEFINE_enum("length_normalization", length_normalization, ["length", "gnmt"], "n^p, or ((5 + n) / 6)^p.")
    flags.DEFINE_enum("early_stopping", "false", ["true", "false", "never"], "Beam search: when it ends, see Options.")
    flags.DEFINE_multi_string("stop", [], "A text that ends a sequence. May be repeated.")
    flags.DEFINE_integer("seed", None, "Of the random numbers; default: 0.")
    flags.DEFINE_integer("batch_size", 32, "Sequences that are computed together.", lower_bound=1)


def say_suggested(suggested: Mapping[str, Any], chosen: "Options") -> None:
    """Prints, to stderr, the settings that came with a model and that are not followed: flags to give, and those for
    which there is no flag. `suggested`: see `Trained`."""
    ours = dataclasses.asdict(chosen)
    if ours["temperature"] is None:
        ours["temperature"] = 1.0
    others = {key: value for key, value in suggested.items() if key not in ours or ours[key] != value}
    if asked := " ".join(f"--{key}={str(value).lower()}" for key, value in others.items() if key in ours):
        print(f"the model's generation_config.json suggests {asked}: give what you want of it", file=sys.stderr)
    if unknown := [f"{key}={value}" for key, value in others.items() if key not in ours]:
        print(f"without a counterpart here, in its generation_config.json: {', '.join(unknown)}", file=sys.stderr)


def options() -> "Options":
    """What the flags ask for. Raises InputError for what is impossible, or would do nothing.

    Defaults that only a beam search has are dropped where there is none.
    """
    from tx_jax.decoding import Options
    from tx_jax.decoding.options import BEAMS
    from tx_jax.errors import InputError

    values = flags.FLAGS
    names = ("max_new_tokens", *_SAMPLING, "repetition_penalty", "num_return_sequences", "num_beams", *BEAMS)
    chosen = {name: values[name].value for name in names}
    chosen["early_stopping"] = {"true": True, "false": False}.get(values.early_stopping, values.early_stopping)
    if values.num_beams == 1:
        chosen = {name: value for name, value in chosen.items() if name not in BEAMS or values[name].present}
    try:
        return Options(**chosen, stop=tuple(values.stop))
    except InputError as error:
        raise InputError(f"--{error}") from None

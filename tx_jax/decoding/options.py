"""What a caller may ask of decoding."""

import dataclasses
import math
from numbers import Real
from typing import Any, Literal

from tx_jax.config.checks import is_whole, require

SAMPLING = ("top_k", "top_p", "min_p")
WHOLE = ("max_new_tokens", "top_k", "num_return_sequences", "num_beams", "seed")
REAL = ("temperature", "top_p", "min_p", "repetition_penalty", "length_penalty")
BEAMS = ("length_penalty", "length_normalization", "early_stopping")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to continue a prompt, or to translate; the names are those of transformers' `generate`.

    Attributes:
      max_new_tokens: at most so many tokens a sequence, its end token included. None: of a decoder 128, or as many as
        fit behind the prompt; of an encoder-decoder as many as the source has, and 50 (Vaswani et al. 2017, 6.1).
      temperature: logits are divided by it; 0 = greedy: the most probable token. None: 1, but 0 with several beams.
      top_k: sample from the k most probable tokens; 0 = from all.
      top_p: sample from the fewest tokens whose probabilities add up to so much (Holtzman et al. 2019); 1 = from all.
      min_p: sample from the tokens that are at least so many times as probable as the first (Nguyen et al. 2024).
      repetition_penalty: positive logits of the tokens so far, the prompt's included, are divided by it, negative ones
        multiplied (Keskar et al. 2019); 1 = none. In beam search it changes log-probabilities, as in transformers.
      num_return_sequences: samples of each prompt, or the best hypotheses of a beam search.
      num_beams: hypotheses that a beam search keeps; 1 = no search.
      length_penalty: the exponent p of the penalty that a hypothesis' log-probability is divided by.
      length_normalization: that penalty, of the number of generated tokens n: "length" is n^p, "gnmt" is
        ((5 + n) / 6)^p (Wu et al. 2016, equation 14).
      early_stopping: a search ends when it has `num_beams` whole hypotheses (True); also requires that the best running
        one would not be better if it ended now (False), or at its longest ("never", exact for p >= 0).
      stop: texts that end a sequence, which does not contain them. One that is the name of a token is that token.
      seed: of sampling. A sample is a function of it, of the prompt's number, the sample's, and the position. None: 0.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    length_normalization: Literal["length", "gnmt"] = "length"
    early_stopping: bool | Literal["never"] = False
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self):
        self._check_types()
        for name in ("num_return_sequences", "num_beams"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1")
        require(
            self.max_new_tokens is None or self.max_new_tokens >= 1,
            f"max_new_tokens={self.max_new_tokens} must be at least 1",
        )
        require(
            self.temperature is None or 0 <= self.temperature < math.inf,
            f"temperature={self.temperature} must not be negative: 0 is greedy, 1 leaves the probabilities as they are",
        )
        require(self.top_k >= 0, f"top_k={self.top_k} must be at least 1, or 0 for all tokens")
        require(0 < self.top_p <= 1, f"top_p={self.top_p} must be above 0 and at most 1, which is all tokens")
        require(0 <= self.min_p <= 1, f"min_p={self.min_p} must be from 0, which is all tokens, to 1")
        require(
            0 < self.repetition_penalty < math.inf,
            f"repetition_penalty={self.repetition_penalty} must be positive: 1 is none, 1.2 a usual one",
        )
        require(math.isfinite(self.length_penalty), f"length_penalty={self.length_penalty} must be a number")
        forms = ("length", "gnmt")
        require(
            self.length_normalization in forms,
            f"length_normalization={self.length_normalization!r} is not one of {', '.join(forms)}",
        )
        require(
            isinstance(self.early_stopping, bool) or self.early_stopping == "never",
            f"early_stopping={self.early_stopping!r} must be True, False or 'never'",
        )
        require(all(self.stop), "stop: an empty text would end every sequence before its first token")
        self._check_idle()

    def _check_types(self) -> None:
        defaults = _defaults()
        for names, fits, said in ((WHOLE, is_whole, "a whole number"), (REAL, _is_real, "a number")):
            for name in names:
                value = getattr(self, name)
                optional = value is None and defaults[name] is None
                require(optional or fits(value), f"{name}={value!r} must be {said}")
        # A text would be taken for its letters, each of which would end a sequence.
        listed = not isinstance(self.stop, str) and all(isinstance(text, str) for text in self.stop)
        require(listed, f"stop={self.stop!r} must be a list of texts")

    def _check_idle(self) -> None:
        """A setting that would do nothing is an error, because its author believes that it does something."""
        defaults = _defaults()
        if self.num_beams > 1:
            require(
                not self.temperature, f"temperature={self.temperature} does nothing with num_beams={self.num_beams}"
            )
            require(
                self.num_return_sequences <= self.num_beams,
                f"num_return_sequences={self.num_return_sequences} exceeds num_beams={self.num_beams}: a search has no "
                "more hypotheses than beams",
            )
        else:
            for name in BEAMS:
                value = getattr(self, name)
                require(value == defaults[name], f"{name}={value!r} does nothing with num_beams=1: leave it out")
        if not self.samples:
            why = f"num_beams={self.num_beams}" if self.num_beams > 1 else "temperature=0"
            for name in (*SAMPLING, "seed"):
                value = getattr(self, name)
                require(value == defaults[name], f"{name}={value} does nothing with {why}: leave it out")
            require(
                self.num_beams > 1 or self.num_return_sequences == 1,
                f"num_return_sequences={self.num_return_sequences} with temperature=0 would return the same sequence "
                "each time: give a temperature or num_beams",
            )

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.num_beams == 1 and self.temperature != 0


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(Options)}

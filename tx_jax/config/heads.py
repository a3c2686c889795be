"""The table of heads: which heads there are, what each reads, how many outputs it has, and which models may have it.

Models, validation, sharding, adapters, conversion and display use this table. The modules themselves are in
`nn/heads.py`; a head without a module there is a `Classifier`. `tx_jax.extend` adds rows.
"""

import dataclasses
from collections.abc import Container
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Head:
    """One head.

    Attributes:
      reads: its input, from the last layer's output: "pooled", the pooler's vector for a whole sequence (a decoder has
        no pooler: the last token's vector); "tokens", every token; "masked", the tokens to predict.
      outputs: a number; "labels", `TransformerConfig.num_labels`; "vocabulary"; or 0 if there is no output layer.
      architectures: the architectures that may have it.
      supervised: whether it learns from labeled examples, so that fine-tuning reinitializes it.
      dropout: whether there is dropout before its output layer.
      module: the first part of its parameters' paths; default: its name.
    """

    reads: Literal["pooled", "tokens", "masked"]
    outputs: int | Literal["labels", "vocabulary"]
    architectures: tuple[str, ...] = ("encoder",)
    supervised: bool = False
    dropout: bool = False
    module: str = ""


# In the order in which configurations list them.
HEADS: dict[str, Head] = {
    "masked_lm": Head("masked", "vocabulary"),
    "next_sentence": Head("pooled", 2),
    "replaced_token": Head("tokens", 1),
    "causal_lm": Head("tokens", "vocabulary", ("decoder", "encoder_decoder")),
    "pooled": Head("pooled", 0, module="pooler"),
    "sequence_classification": Head("pooled", "labels", ("encoder", "decoder"), supervised=True, dropout=True),
    "token_classification": Head("tokens", "labels", ("encoder", "decoder"), supervised=True, dropout=True),
    "question_answering": Head("tokens", 2, supervised=True),
    "multiple_choice": Head("pooled", 1, supervised=True, dropout=True),
}
# Names of heads that were added from outside; every device holds their parameters whole.
ADDED: set[str] = set()
HEAD_OF_MODULE = {head.module or name: name for name, head in HEADS.items()}
# Modules whose output layer does not range over the vocabulary.
CLASSIFIERS = tuple(head.module or name for name, head in HEADS.items() if head.outputs != "vocabulary")


def supervised() -> tuple[str, ...]:
    """The heads that learn from labeled examples."""
    return tuple(name for name, head in HEADS.items() if head.supervised)


def labeled(heads: Container[str]) -> tuple[str, ...]:
    """Those of these heads that have an output for each label."""
    return tuple(name for name, head in HEADS.items() if head.outputs == "labels" and name in heads)


def add(name: str, head: Head) -> None:
    """Adds a row; see `tx_jax.extend.head`."""
    HEADS[name] = head
    HEAD_OF_MODULE[name] = name
    ADDED.add(name)


def heads_of(architecture: str) -> tuple[str, ...]:
    """The heads that an architecture may have."""
    return tuple(name for name, head in HEADS.items() if architecture in head.architectures)


def head_of(path: str) -> str | None:
    """The head that a parameter belongs to, by its path; None for a parameter of the body."""
    return HEAD_OF_MODULE.get(path.partition("/")[0])


def is_added(path: str) -> bool:
    """Whether a path, perhaps of an optimizer's state, is in a head that was added from outside."""
    return not ADDED.isdisjoint(path.split("/"))

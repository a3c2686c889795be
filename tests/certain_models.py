"""Classifiers and taggers that know, without training, what three words mean, so that their labels can be checked."""

import dataclasses

import numpy as np

from tests import labeled_files
from tests.models import small
from tx_jax import text, tree
from tx_jax.convert.model_dir import Model
from tx_jax.models import registry
from tx_jax.text import Tokenizer

LABELS = ("no", "perhaps", "yes")
WORDS = dict(zip(("cat", "dog", "sun"), LABELS, strict=True))  # what a text says, by its only word


def tokenizer() -> Tokenizer:
    return text.train("wordpiece", [" ".join(labeled_files.WORDS)] * 20, vocab_size=70)


def certain(tokenizer: Tokenizer, head: str, labels: tuple[str, ...]) -> Model:
    """Of one layer, in which all tokens look at all others alike and pass on their embedding; that of each word of
    `WORDS` has a direction of its own, and the head reads it.

    Args:
      head: "sequence_classification" or "token_classification".
      labels: `LABELS` in the order of the outputs.
    """
    config = small.config(
        vocab_size=tokenizer.vocab_size,
        max_length=64,
        num_layers=1,
        dropout=0.0,
        attention_dropout=0.0,
        heads=(head,),
        num_labels=len(labels),
    )
    params = {
        path: np.full(x.shape, float(path.endswith("scale")), np.float32)
        for path, x in tree.flatten(registry.param_shapes(config)).items()
    }
    for place, (word, label) in enumerate(WORDS.items()):
        (token,) = tokenizer.encode(word)
        params["embeddings/token/embedding"][token, place] = 40.0
        params[f"{head}/kernel"][place, labels.index(label)] = 4.0
    passing = ["encoder/layer_0/attention/value/kernel", "encoder/layer_0/attention/out/kernel", "pooler/kernel"]
    for path in passing:
        if path in params:
            params[path] = np.eye(config.dim, dtype=np.float32)
    return Model(config, params, tokenizer, None, labels=tuple(labels))


def with_names(model: Model, names: tuple[str, ...]) -> Model:
    """The same model, its outputs under other names; () for none."""
    return dataclasses.replace(model, labels=names)

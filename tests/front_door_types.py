"""What a type checker sees of `import tx_jax`: `make lint` checks it, nothing runs it."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from ml_collections import ConfigDict

import tx_jax
from tx_jax.models.output import Output


def uses(model: tx_jax.Model, tokens: Any) -> None:
    assert_type(tx_jax.load("runs/mine", step=3), tx_jax.Model)
    assert_type(tx_jax.load(Path("runs/mine")), tx_jax.Model)
    assert_type(tx_jax.get_config("bert_base:smoke"), ConfigDict)
    assert_type(tx_jax.train(tx_jax.get_config("bert_base"), Path("runs/mine")), dict[str, dict[str, float]])
    assert_type(model.can, tuple[str, ...])
    assert_type(model.apply(model.params, tokens), Output)
    assert_type(model.encode(["a text"], layers=(1, 2), pooling="first"), np.ndarray)
    assert_type(model.encode(np.array(["a text"])), np.ndarray)
    assert_type(model.capture(["a text"], ["encoder/output"]), list[dict[str, np.ndarray]])
    assert_type(model.fill_mask("a [MASK]", top=3), list[list[tuple[str, float]]])
    assert_type(model.classify(["a text", ("a text", "its pair")]), list[dict[str, Any]])
    assert_type(model.tag(["a", "word"]), list[tuple[str, str, float]])
    assert_type(model.answer("why?", "a text"), dict[str, Any])
    assert_type(model.generate("a prompt", max_new_tokens=3), str)
    assert_type(model.translate("a text", num_beams=1), str)
    assert_type(model.save("models/mine"), None)
    assert_type(model.to_hf("export", dtype="bfloat16"), str)
    assert_type(tx_jax.__version__, str)

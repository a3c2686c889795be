"""The command that a command ends with fits what was made."""

import dataclasses

import pytest

from experiments import next_steps
from tests.models import small
from tests.test_configs import get_config
from tx_jax import text
from tx_jax.config import from_config_dict

SENTENCES = ["The red cat sleeps under the tree."] * 20


@pytest.fixture(scope="module", params=["wordpiece", "byte_bpe", "gpt2_bpe"])
def tokenizer(request):
    return text.train(request.param, iter(SENTENCES), vocab_size=300)


def test_after_training(tokenizer, tmp_path):
    run = tmp_path / "a run"
    shown = {
        name: next_steps.after_training(from_config_dict(get_config(name)), tokenizer, run)
        for name in ("classification", "tagging", "squad", "bert_base", "gpt2_small")
    }
    assert shown["classification"].endswith(f"predict '--workdir={run}' --input=new.csv --output=labeled.csv")
    assert shown["tagging"].endswith("--input=new.conll --output=labeled.conll")
    assert shown["squad"].endswith("--input=new.json --output=labeled.jsonl")
    assert shown["gpt2_small"].startswith(f"python -m experiments.generate '--model={run}' '--prompt=")
    if tokenizer.mask_id is None:
        assert "evaluate" in shown["bert_base"]
    else:
        assert (
            f"fill_mask '--workdir={run}' '--text=A text with a {tokenizer.token(tokenizer.mask_id)}.'"
            in (shown["bert_base"])
        )


def test_after_preparing(tokenizer, tmp_path):
    recipe = {"[MASK]": "quickstart", "<mask>": "roberta_base"}.get(
        tokenizer.mask_id is not None and tokenizer.token(tokenizer.mask_id), "gpt2_small"
    )
    store, model = tmp_path / "store", tmp_path / "model"
    begun = f"python -m experiments.train --config=configs/{recipe}.py --config.data.store={store} "
    ended = f"--config.model.vocab_size={tokenizer.vocab_size} --workdir=runs/store"
    assert next_steps.after_preparing(store, tokenizer, None) == begun + ended
    tokenizer.save(model / "tokenizer")
    assert next_steps.after_preparing(store, tokenizer, str(model / "tokenizer")) == begun + ended, "a tokenizer alone"
    (model / "model.json").write_text("{}")
    after = next_steps.after_preparing(store, tokenizer, str(model / "tokenizer"))
    assert (f"--config=configs/further_pretrain.py --config.start_from={model} " in after) == bool(tokenizer.mask_id)


def test_after_converting(tokenizer, tmp_path):
    config = dataclasses.replace(small.config(), heads=("masked_lm",))
    masked = next_steps.after_converting(config, tokenizer, False, tmp_path)
    assert ("fill_mask" in masked) == (tokenizer.mask_id is not None)
    for other in (
        next_steps.after_converting(config, tokenizer, True, tmp_path),
        next_steps.after_converting(dataclasses.replace(config, heads=("pooled",)), tokenizer, False, tmp_path),
    ):
        assert f"train --config=configs/classification.py --config.start_from={tmp_path} " in other
    assert next_steps.after_converting(config, None, False, tmp_path) is None


def test_after_adding_tokens(tmp_path):
    shown = next_steps.after_adding_tokens(tmp_path / "covid")
    assert shown.endswith(f"--tokenizer={tmp_path / 'covid' / 'tokenizer'} --store=data/covid")

"""From a configuration of ours to a family, and where there is none."""

import dataclasses

import pytest

from tests.convert import folders
from tests.golden import weights
from tests.models import small
from tests.parity.cases import CASES
from tx_jax import text
from tx_jax.convert import families, from_hf, to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError


def test_a_bert_is_a_bert_whatever_concerns_its_training_alone():
    config = small.config(dtype="bfloat16", remat="block", dropout=0.3, init_stddev=0.5)
    assert families.of_config(config)[1] == "bert"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm_position": "pre"}, "the nearest, bert, has no norm_position='pre'"),
        ({"gated_mlp": True, "use_bias": False}, "use_bias=False, gated_mlp=True"),
        ({"position_embedding": "sinusoidal"}, "position_embedding='sinusoidal'"),
    ],
)
def test_what_transformers_cannot_hold_is_named(changes, said):
    with pytest.raises(InputError, match=said):
        families.of_config(small.config(**changes))


def test_a_model_keeps_its_model_type_or_says_why_not():
    assert families.of_config(small.config(), "bert")[0] is families.OF_MODEL_TYPE["bert"]
    with pytest.raises(InputError, match="has no head 'replaced_token'"):
        families.of_config(small.config(heads=("replaced_token",)), "bert")


def test_heads_without_a_class_of_their_own_go_to_the_nearest():
    bert = families.OF_MODEL_TYPE["bert"]
    assert bert.class_name(("masked_lm", "pooled"), "bert") == "BertForMaskedLM"
    assert bert.class_name(("masked_lm", "token_classification"), "bert") == "BertForMaskedLM"
    assert bert.class_name((), "bert") == "BertModel"


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("BertForMaskedLM", ("masked_lm",)),
        ("BertModel", ("pooled",)),
        ("FooBertForTokenClassification", ("token_classification",)),
        ("Bert", None),
    ],
)
def test_the_heads_of_a_class(name, heads):
    assert families.OF_MODEL_TYPE["bert"].heads_of_class(name) == heads


@pytest.mark.parametrize("name", ["DeBERTa masked LM", "DeBERTa-v3 masked LM", "RoBERTa masked LM", "GPT-2 causal LM"])
def test_the_nearest_family_is_the_one_with_the_fewest_differences(name):
    model_type, config = CASES[name]
    with pytest.raises(InputError, match=f"the nearest, {model_type}, has no gated_mlp"):
        families.of_config(dataclasses.replace(config, gated_mlp=True))


@pytest.mark.parametrize("name", ["DeBERTa masked LM", "DeBERTa-v3 masked LM"])
def test_a_mask_decoder_is_left_out_with_a_warning(name, tmp_path):
    model_type, plain = CASES[name]
    config = dataclasses.replace(plain, enhanced_mask_decoder=True)
    model = Model(config, weights.draw_weights(shapes_of(config), 1), None, None)
    (warning,) = to_hf.warnings(model)
    assert "enhanced mask decoder is left out" in warning
    to_hf.write(model, tmp_path / "a")
    read, _ = from_hf.read(tmp_path / "a")
    assert (read.source.model_type, read.config.enhanced_mask_decoder) == (model_type, False)
    assert set(model.params) - set(read.params) == {"mask_decoder_position/embedding"}
    assert all((model.params[path] == x).all() for path, x in read.params.items())


SENTENCES = [f"word{i} of the little text number {i} that is read here" for i in range(40)]


@pytest.mark.parametrize(
    ("kind", "asked", "written"),
    [
        ("unigram", None, "xlm-roberta"),
        ("byte_bpe", None, "roberta"),
        ("unigram", "camembert", "camembert"),
        ("unigram", "roberta", "roberta"),
    ],
)
def test_of_several_model_types_the_tokenizer_chooses_or_the_user(kind, asked, written):
    tokenizer = text.train(kind, SENTENCES, vocab_size=280 if kind == "byte_bpe" else 50)
    _, config = CASES["RoBERTa masked LM"]
    config = dataclasses.replace(config, vocab_size=300)
    model = Model(config, weights.draw_weights(shapes_of(config), 1), tokenizer, None)
    hf_config, _ = to_hf.convert(model, model_type=asked)
    assert hf_config["model_type"] == written


@pytest.mark.parametrize("kind", ["gpt2_bpe", "byte_bpe", "t5_unigram"])
def test_a_decoder_names_what_begins_and_ends_a_text(kind):
    tokenizer = text.train(kind, SENTENCES, vocab_size=150 if kind == "t5_unigram" else 300)
    _, config = CASES["GPT-2 causal LM"]
    config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
    hf_config, _ = to_hf.convert(Model(config, weights.draw_weights(shapes_of(config), 1), tokenizer, None))
    expected = {
        "gpt2_bpe": (None, tokenizer.vocab_size - 1, tokenizer.vocab_size - 1),
        "byte_bpe": (1, 0, 2),
        "t5_unigram": (0, None, 1),
    }
    assert tuple(hf_config[f"{role}_token_id"] for role in ("pad", "bos", "eos")) == expected[kind]


def test_a_model_type_that_does_not_fit_or_is_none():
    with pytest.raises(InputError, match=r"the nearest, gpt2, has no .*architecture='encoder'"):
        to_hf.convert(folders.model(), model_type="gpt2")
    with pytest.raises(InputError, match=r"'berta' is not supported: supported are bert, .*Did you mean 'bert'"):
        to_hf.convert(folders.model(), model_type="berta")


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        (("masked_lm", "token_classification"), "BertForMaskedLM has no token_classification: the weights are written"),
        (("masked_lm", "pooled"), "BertForMaskedLM has no pooled"),
        ((), "the model has no pooler: BertModel will add one with random values"),
        (("pooled",), None),
        (("masked_lm", "next_sentence"), None),
    ],
)
def test_what_the_written_class_does_otherwise_is_told(heads, said):
    warnings = to_hf.warnings(folders.model(heads=heads))
    assert warnings[0].startswith(said) and len(warnings) == 1 if said else warnings == []


@pytest.mark.parametrize("name", ["BERT questions", "BERT choices", "BERT masked LM, untied"])
def test_labels_that_no_head_has_are_no_obstacle(name):
    model_type, config = CASES[name]
    assert families.of_config(dataclasses.replace(config, num_labels=7))[1] == model_type

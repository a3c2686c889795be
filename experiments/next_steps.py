"""The next command, which a command suggests when it is done: one that fits its result."""

import contextlib
import shlex
from pathlib import Path

from tx_jax import shipped
from tx_jax.config import ExperimentConfig, LabeledDataConfig, TransformerConfig
from tx_jax.errors import InputError
from tx_jax.files import path_of
from tx_jax.text.described_wordpiece import DescribedWordPiece
from tx_jax.text.pair_forms import SPEAKING
from tx_jax.text.tokenizer import Tokenizer
from tx_jax.text.wordpiece import WordPiece

_FILES = {"question_answering": "json", "token_classification": "conll"}


def after_training(config: ExperimentConfig, tokenizer: Tokenizer, workdir: Path) -> str:
    """After training: predict for a fine-tuned model, fill_mask for a masked LM, generate for a causal one."""
    if isinstance(config.data, LabeledDataConfig):
        ending = next((_FILES[head] for head in config.model.heads if head in _FILES), "csv")
        output = "jsonl" if ending == "json" else ending
        return _command("predict", f"--workdir={workdir}", f"--input=new.{ending}", f"--output=labeled.{output}")
    if "masked_lm" in config.model.heads and tokenizer.mask_id is not None:
        return _fill_mask(tokenizer, workdir)
    if config.model.architecture == "encoder_decoder":
        return _command("translate", f"--model={workdir}", "--input=new.txt", "--output=translated.txt")
    if "causal_lm" in config.model.heads and tokenizer.eos_id is not None:
        return _command("generate", f"--model={workdir}", "--prompt=The beginning of a text")
    return _command("evaluate", f"--workdir={workdir}")


def after_preparing(store: Path, tokenizer: Tokenizer, given: str | None) -> str:
    """After making a token store: train the model whose tokenizer was given further, or else one from scratch.

    Args:
      given: the --tokenizer that the store was made with; None if a tokenizer was trained.
    """
    if given and (model := _model_of(path_of(given, "--tokenizer"))) and tokenizer.mask_id is not None:
        return _command(
            "train",
            "--config=configs/further_pretrain.py",
            f"--config.start_from={model}",
            f"--config.data.store={store}",
            f"--workdir=runs/{store.name}",
        )
    recipe = "gpt2_small" if tokenizer.mask_id is None else "roberta_base"
    recipe = "quickstart" if isinstance(tokenizer, WordPiece | DescribedWordPiece) else recipe
    return _command(
        "train",
        f"--config=configs/{recipe}.py",
        f"--config.data.store={store}",
        f"--config.model.vocab_size={tokenizer.vocab_size}",
        f"--workdir=runs/{store.name}",
    )


def after_preparing_pairs(store: Path, vocab_size: int, given: str | None) -> str:
    """After making a store of pairs: train the model whose tokenizer was given further, or else one from scratch."""
    model = _model_of(path_of(given, "--tokenizer")) if given else None
    shape = f"--config.start_from={model}" if model else f"--config.model.vocab_size={vocab_size}"
    workdir = f"--workdir=runs/{store.name}"
    return _command("train", "--config=configs/multi30k.py", f"--config.data.store={store}", shape, workdir)


def after_adding_tokens(model: Path) -> str:
    """After adding words to a model: prepare the domain's text with its tokenizer, to train on."""
    return _command(
        "prepare", "--source=texts/*.txt", f"--tokenizer={model / 'tokenizer'}", f"--store=data/{model.name}"
    )


def after_converting(
    config: TransformerConfig, tokenizer: Tokenizer | None, untrained: bool, model: Path
) -> str | None:
    """After converting a Hugging Face model; None for a model without a tokenizer.

    Args:
      untrained: whether the head that would be used has only newly initialized parameters.
    """
    if tokenizer is None:
        return None
    if "masked_lm" in config.heads and tokenizer.mask_id is not None and not untrained:
        return _fill_mask(tokenizer, model)
    if config.architecture == "encoder_decoder":
        form, languages = tokenizer.pair_form, {}
        if form.name in SPEAKING:
            languages = {key: value for key, value in form._asdict().items() if key != "name"}
        flags = [f"--{key}={code or 'CODE'}" for key, code in languages.items()]
        return _command("translate", f"--model={model}", "--text=A text to translate", *flags)
    return _command(
        "train",
        "--config=configs/classification.py",
        f"--config.start_from={model}",
        "--config.data.train=texts.csv",
        f"--workdir=runs/{model.name}",
    )


def _fill_mask(tokenizer: Tokenizer, model: Path) -> str:
    return _command("fill_mask", f"--workdir={model}", f"--text=A text with a {tokenizer.token(tokenizer.mask_id)}.")


def _model_of(tokenizer: Path) -> Path | None:
    """The model that a tokenizer's folder belongs to: that folder or its parent."""
    from tx_jax.runs.open_model import locate  # imports jax, which preparing text does not need

    for folder in (tokenizer, tokenizer.parent):
        with contextlib.suppress(InputError):
            locate(folder.absolute())
            return folder
    return None


def _command(name: str, *arguments: str) -> str:
    return shipped.spoken(shlex.join(["python", "-m", f"experiments.{name}", *arguments]))

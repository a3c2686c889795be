"""Checks that two tokenizers give the same result on texts on which tokenizers are known to differ."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError, InputWarning
from tx_jax.text.tokenizer import Tokenizer

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "They don't know; it's (perhaps) 3.14 -- or 2,718?! C++ a_b #tag @user e-mail x@y.org http://a.b/c?d=1",
    "El niño de la montaña comió piñas. ¿Qué pasó? ¡Nadie! AÑO Über Straße İSTANBUL",
    "e\u0301te\u0301 nin\u0303o decomposed; ﬁne ｆｕｌｌ ① ½ ²",
    "今天天气很好。東京タワー 오늘은",
    "الطقس جميل، Сегодня आज วันนี้",
    "😀🎉 👩\u200d👩\u200d👧 ❤\ufe0f €5 £ 100%",
    "  two  spaces\tand\ttabs \n\n new\r\nlines\u00a0no-break\u200bzero\u3000wide ",
    "\x00control\x01 \x7f\ufffd soft\u00adhyphen",
    "``quoted'' “curly” ‘it’s’ – — … [a] {b} <c> | \\ ^ ~ $ = &",
    "12345 2021-03-04 007 1st COVID19 iPhone McDonald",
    "x" * 120,
    "▁literal Ġ ##s a",
    "",
    " ",
)
_FORMS = ("{}", "a {} b", "a{}b", "({}),", "{0} {0}")


def check(tokenizer: Tokenizer, reference: Engine, added: Sequence[str], source: Path, *, around: bool = True) -> None:
    """Compare a tokenizer's ids with those of the engine that transformers runs for this folder.

    Args:
      reference: the engine of transformers, with special tokens registered.
      added: contents of the added tokens that are matched in texts.
      around: whether the special tokens around a text are compared, too.

    Warns with InputWarning if the file puts different special tokens around a text than tx_jax does. Raises InputError
    if any text gets different ids.
    """
    # A file may also say how batches are filled up and cut, as those of sentence encoders do; that changes no text.
    reference.no_padding()
    reference.no_truncation()
    special = [tokenizer.token(index) for index in tokenizer.special_ids]
    texts = [*TEXTS, *(form.format(token) for token in added for form in _FORMS)]
    texts = [text for text in texts if not any(name in text for name in special)]
    theirs = [found.ids for found in reference.encode_batch_fast(texts, add_special_tokens=False)]
    for text, there, here in zip(texts, theirs, tokenizer.encode_batch(texts), strict=True):
        if there != here:
            raise InputError(
                f"{source}: {text!r} has the ids {there} according to its tokenizer.json, but {here} as tx_jax reads it"
            )
    if not around or tokenizer.cls_id is None or tokenizer.sep_id is None:
        return
    whole = reference.encode("a").ids
    inside = tokenizer.encode("a")
    if whole != [tokenizer.cls_id, *inside, tokenizer.sep_id]:
        cls, sep = tokenizer.tokens([tokenizer.cls_id, tokenizer.sep_id])
        shown = " ".join(tokenizer.tokens(whole))
        warnings.warn(
            f"{source}: its tokenizer.json turns the text 'a' into {shown}; tx_jax puts {cls} before every text and "
            f"{sep} after it, as the family's published models have them",
            InputWarning,
            stacklevel=2,
        )


def check_words(file: Engine, rebuilt: Engine, source: Path) -> None:
    """Raise InputError unless two engines split texts into the same words.

    Older versions of transformers run `file`, newer ones run `rebuilt`. Only the steps before the vocabulary are
    compared: normalization and pre-tokenization.

    Args:
      file: the engine of the folder's tokenizer.json.
      rebuilt: the engine that is built by the transformers class that the folder names.
    """
    for text in TEXTS:
        words, others = _words(file, text), _words(rebuilt, text)
        if words != others:
            at = next(i for i in range(len(text)) if words[i : i + 1] != others[i : i + 1])
            words, others = words[at : at + 3], others[at : at + 3]
            raise InputError(
                f"{source}: its tokenizer.json cuts {text!r} into ... {words} ..., but the class of transformers that "
                f"it is for into ... {others} ...: write the one that the model was trained with into "
                'tokenizer_config.json, as tokenizer_class ("PreTrainedTokenizerFast" for tokenizer.json as it is)'
            )


def _words(engine: Engine, text: str) -> list[str]:
    normal = engine.normalizer.normalize_str(text) if engine.normalizer else text
    return [word for word, _ in engine.pre_tokenizer.pre_tokenize_str(normal)] if engine.pre_tokenizer else [normal]

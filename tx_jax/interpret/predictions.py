"""The predictions that tools explain: a masked word, the next word, or a text's label.

Shapes: B batch, T length, V vocabulary, P predictions.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError, did_you_mean
from tx_jax.interpret import capture
from tx_jax.interpret.texts import Row, rows_of_texts
from tx_jax.models.output import Output

LANGUAGE_MODELS = ("masked_lm", "causal_lm")
MASK_RATE = 0.15


@dataclasses.dataclass(frozen=True)
class Question:
    """One prediction.

    Attributes:
      place: the token that predicts: the mask, or of a decoder the last; 0 of a classifier.
      answer: the id of the token, or of the label, whose probability is looked at.
      wrong: another one that it is compared with; None: the answer alone.
    """

    row: Row
    place: int
    answer: int
    wrong: int | None = None


def head_of(model: capture.Model, *, classifiers: bool = True) -> str:
    """The head whose predictions are explained: a language model's, or else a classifier's of texts.

    Raises:
      InputError: the model has neither, or it is untrained.
    """
    wanted = (*LANGUAGE_MODELS, *(("sequence_classification",) if classifiers else ()))
    found = [head for head in wanted if head in model.model.heads]
    trained = [head for head in found if head not in model.untrained]
    if not trained:
        state = (
            f"its {found[0]} head is untrained" if found else f"its heads are {', '.join(model.model.heads) or 'none'}"
        )
        raise InputError(
            f"{model.name or 'the model'} predicts nothing to look at: {state}; needed: {' or '.join(wanted)}"
        )
    return trained[0]


def ask(
    model: capture.Model, texts: Sequence[str], answers: Sequence[str] = (), wrong: Sequence[str] = ()
) -> list[Question]:
    """A question for each text: what stands at its mask, what follows it, or its label.

    Args:
      answers: the words or labels that are looked at; none: what the model finds likeliest.
      wrong: others to compare them with.

    Raises:
      InputError: a text of a masked LM has not one mask; an answer is not one token, or no label; or there is another
        number of answers than of texts.
    """
    head = head_of(model)
    for name, given in (("answers", answers), ("wrong answers", wrong)):
        if given and len(given) != len(texts):
            raise InputError(f"{len(texts)} texts and {len(given)} {name}: each text needs one, or none has one")
    if wrong and not answers:
        raise InputError("a wrong answer is compared with the right one: give the answer too")
    if head == "masked_lm":
        model.require_masks()
    rows = rows_of_texts(model, texts, masks=head == "masked_lm")
    places = [_place(model, head, row, number) for number, row in enumerate(rows, start=1)]
    right = [_answer(model, head, word) for word in answers]
    others = [_answer(model, head, word) for word in wrong]
    if not answers:
        found = capture.outputs(model, rows, _of_head(head))
        usable = None if head == "sequence_classification" else model.require_tokenizer().vocab_size
        right = [
            int(np.argmax((x if x.ndim == 1 else x[place])[:usable])) for x, place in zip(found, places, strict=True)
        ]
    return [
        Question(row, place, answer, others[i] if others else None)
        for i, (row, place, answer) in enumerate(zip(rows, places, right, strict=True))
    ]


def _masked_lm(output: Output) -> jax.Array:
    return output.logits["masked_lm"]


def _causal_lm(output: Output) -> jax.Array:
    return output.logits["causal_lm"]


def _classification(output: Output) -> jax.Array:
    return output.logits["sequence_classification"]


def _of_head(head: str):
    return {"masked_lm": _masked_lm, "causal_lm": _causal_lm, "sequence_classification": _classification}[head]


def _place(model: capture.Model, head: str, row: Row, number: int) -> int:
    if head == "causal_lm":
        return len(row.ids) - 1
    if head == "sequence_classification":
        return 0
    tokenizer = model.require_tokenizer()
    places = [place for place, i in enumerate(row.ids) if i == tokenizer.mask_id]
    if len(places) != 1:
        mask = tokenizer.token(tokenizer.mask_id)
        raise InputError(f"text {number} has {len(places)} times {mask}: write it once, where the model shall predict")
    return places[0]


def _answer(model: capture.Model, head: str, word: str) -> int:
    if head == "sequence_classification":
        if word not in model.labels:
            known = ", ".join(model.labels) or "labels without names"
            raise InputError(f"there is no label {word!r}: the model has {known}.{did_you_mean(word, model.labels)}")
        return model.labels.index(word)
    tokenizer = model.require_tokenizer()
    ids = tokenizer.encode_words([word])[0]
    if len(ids) != 1 or ids[0] == tokenizer.unk_id:
        pieces = " ".join(tokenizer.tokens(ids))
        raise InputError(f"the answer {word!r} is not one token of the vocabulary ({pieces}): take another word")
    return ids[0]


def answer_text(model: capture.Model, question: Question) -> str:
    """The answer as a word."""
    if head_of(model) == "sequence_classification":
        return model.labels[question.answer] if model.labels else f"label {question.answer}"
    return model.require_tokenizer().token(question.answer)


def arrays(questions: Sequence[Question]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, answers and wrong answers, int32 [B] each; 0 where there is no wrong one."""
    values = [(one.place, one.answer, one.wrong or 0) for one in questions]
    places, answers, wrong = np.array(values, np.int32).T
    return places, answers, wrong


def scores(output: Output, head: str, places: jax.Array, answers: jax.Array, wrong: jax.Array | None) -> jax.Array:
    """How sure a model is of each answer, float32 [B]: its log-probability, or by how much its logit exceeds that of a
    wrong answer.

    Args:
      places, answers, wrong: int32 [B].
    """
    logits = output.logits[head].astype(jnp.float32)
    if logits.ndim == 3:
        logits = jnp.take_along_axis(logits, places[:, None, None], axis=1)[:, 0]

    def at(ids: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values, ids[:, None], axis=1)[:, 0]

    if wrong is not None:
        return at(answers, logits) - at(wrong, logits)
    return at(answers, jax.nn.log_softmax(logits))


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Texts and what a language model shall predict of them, as arrays of one shape.

    Attributes:
      inputs: what the model reads, by key.
      targets: int32 [B, T], the right token at each place.
      weights: float32 [B, T], 1 where it is predicted.
    """

    inputs: dict[str, np.ndarray]
    targets: np.ndarray
    weights: np.ndarray


def corpus(model: capture.Model, rows: Sequence[Row], inputs: dict[str, np.ndarray], seed: int) -> Corpus:
    """A batch of rows with a share of `MASK_RATE` of their tokens masked, at least one a row; of a decoder each next
    token is predicted.

    Args:
      inputs: the rows as `texts.batches` gives them.
    """
    tokens = inputs["tokens"]
    if head_of(model, classifiers=False) == "causal_lm":
        targets = np.roll(tokens, -1, axis=1)
        weights = (inputs["valid"] & np.roll(inputs["valid"], -1, axis=1)).astype(np.float32)
        weights[:, -1] = 0
        return Corpus(inputs, targets, weights)
    tokenizer = model.require_masks()
    rng, weights, masked = np.random.default_rng(seed), np.zeros(tokens.shape, np.float32), tokens.copy()
    for place, row in enumerate(rows):
        usable = np.flatnonzero(~np.array(row.special))
        chosen = rng.choice(usable, max(1, round(MASK_RATE * len(usable))), replace=False)
        weights[place, chosen] = 1
        masked[place, chosen] = tokenizer.mask_id
    return Corpus(inputs | {"tokens": masked}, tokens, weights)


def corpus_loss(config: TransformerConfig, output: Output, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """The sum of the negative log-likelihoods, in nats."""
    head = next(head for head in LANGUAGE_MODELS if head in config.heads)
    log_probabilities = jax.nn.log_softmax(output.logits[head].astype(jnp.float32))
    found = jnp.take_along_axis(log_probabilities, targets[:, :, None], axis=2)[:, :, 0]
    return -(found * weights).sum()

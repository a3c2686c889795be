"""Words of `experiments.interpret` about causes: patch and attribute."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from experiments import command_line
from experiments.interpret_writing import progress, show, texts_given, write
from tx_jax.interpret import ablation, attribution, capture, patching, pictures, predictions, texts


def patch(model: capture.Model, outs: Sequence[Path]) -> None:
    given, donors = texts_given(), flags.FLAGS.donor
    if flags.FLAGS.ablate:
        if donors or flags.FLAGS["part"].present:
            command_line.fail("--ablate leaves parts out, and --donor and --part put them in: give one of them")
        return _ablate(model, given, outs)
    if len(donors) != len(given):
        command_line.fail(f"{len(given)} texts and {len(donors)} donors: each --text needs a --donor, or give --ablate")
    if not flags.FLAGS.answer:
        command_line.fail("--answer is needed: the word whose probability is looked at, once for each --text")
    questions = predictions.ask(model, given, flags.FLAGS.answer, flags.FLAGS.wrong)
    masks = predictions.head_of(model) == "masked_lm"
    rows = texts.rows_of_texts(model, donors, masks=masks)
    for question, row in zip(questions, rows, strict=True):
        patching.require_same_length(questions[0].row, question.row)
        patching.require_same_length(question.row, row)
    part, found = flags.FLAGS.part, []
    for number, (question, row) in enumerate(zip(questions, rows, strict=True), start=1):
        with progress(f"pair {number} of {len(questions)}, run") as shown:
            found.append(patching.patch(model, question, row, part, progress=shown))
    numbers = [(text, donor, one.base, one.donor) for text, donor, one in zip(given, donors, found, strict=True)]
    score = "logit of the answer less the wrong one's" if flags.FLAGS.wrong else "log-probability of the answer"
    show(("text", "donor", "score of the text", "of the donor"), numbers, title=score)
    change = np.mean([one.scores - one.base for one in found], axis=0)
    tokens = [
        token if token == other else f"{token} / {other}"
        for token, other in zip(questions[0].row.tokens, rows[0].tokens, strict=True)
    ]
    columns = [f"head {head}" for head in range(change.shape[1])] if part == "heads" else tokens
    layers = list(map(str, range(len(change))))  # of hidden states 0 is the embeddings, as in every other word
    several = f", mean of {len(found)} pairs, of which the first is shown" if len(found) > 1 else ""
    table = [
        (number, layers[layer], columns[unit], float(one.scores[layer, unit]), one.base, one.donor)
        for number, one in enumerate(found, start=1)
        for layer, unit in np.ndindex(one.scores.shape)
    ]
    write(
        outs,
        picture=lambda: pictures.heat_map(
            change,
            layers,
            columns,
            title=f"{part} from the donor{several}",
            label=f"change of the {score}",
            row_label="layer (0 = embeddings)" if part == "hidden" else "layer",
            centered=True,
        ),
        table=(("pair", "layer", "token or head", "score", "score of the text", "score of the donor"), table),
        arrays={"scores": [one.scores for one in found], "base": [one.base for one in found],
                "donor": [one.donor for one in found]},
    )  # fmt: skip


def _ablate(model: capture.Model, given: Sequence[str], outs: Sequence[Path]) -> None:
    questions = predictions.ask(model, given, flags.FLAGS.answer, flags.FLAGS.wrong)
    part = flags.FLAGS.ablate
    with progress("run") as shown:
        changes, base = ablation.ablate(model, questions, part, progress=shown)
    mean = changes.mean(0)
    if mean.ndim == 1:
        mean = mean[:, None]
    answers = [predictions.answer_text(model, question) for question in questions]
    show(("text", "answer", "score"), list(zip(given, answers, map(float, base), strict=True)))
    worst = np.unravel_index(int(mean.argmin()), mean.shape)
    where = f"layer {worst[0]}" + (f", head {worst[1]}" if part == "heads" else "")
    print(f"hurts most: {part} without {where}, {mean.min():+.4f} on average of {len(given)} texts")
    columns = [f"head {head}" for head in range(mean.shape[1])] if part == "heads" else [part]
    table = [
        (text, answer, float(score), layer, columns[unit], float(change.reshape(mean.shape)[layer, unit]))
        for text, answer, score, change in zip(given, answers, base, changes, strict=True)
        for layer, unit in np.ndindex(mean.shape)
    ]
    score = "logit of the answer less the wrong one's" if flags.FLAGS.wrong else "log-probability of the answer"
    write(
        outs,
        picture=lambda: pictures.heat_map(
            mean,
            list(map(str, range(len(mean)))),
            columns,
            title=f"without each of the {part}, mean of {len(given)} texts",
            label=f"change of the {score}",
            row_label="layer",
            centered=True,
        ),
        table=(("text", "answer", "score", "layer", "without", "change"), table),
        arrays={"changes": changes, "base": base},
    )


def attribute(model: capture.Model, outs: Sequence[Path]) -> None:
    given, methods = texts_given(), flags.FLAGS.method
    if len(given) != 1:
        command_line.fail(f"attribute explains one text, but there are {len(given)}: give one --text")
    if flags.FLAGS["seed"].present and "lime" not in methods:
        command_line.fail("--seed does nothing without --method=lime, which alone draws at random")
    (question,) = predictions.ask(model, given, flags.FLAGS.answer, flags.FLAGS.wrong)
    embedded = attribution.Embedded(model, question)
    ends = embedded.score(np.stack([embedded.x, embedded.baseline]))
    answer = predictions.answer_text(model, question)
    print(f"{answer}: score {ends[0]:.4f}; with {embedded.neutral} in the place of all words {ends[1]:.4f}")
    found: dict[str, np.ndarray] = {}
    with progress("method") as shown:
        for number, method in enumerate(methods, start=1):
            found[method] = _attributed(model, question, embedded, method)
            shown(number, len(methods))
    row = question.row
    rows = [(token, *(float(values[i]) for values in found.values())) for i, token in enumerate(row.tokens)]
    show(("token", *found), rows)
    scaled = np.stack([values / (np.abs(values).max() or 1.0) for values in found.values()])
    write(
        outs,
        picture=lambda: pictures.heat_map(
            scaled,
            list(found),
            row.tokens,
            title=f"{answer!r} in: {given[0]}",
            label="attribution, each method's largest = 1",
            centered=True,
        ),
        table=(("token", *found), rows),
        arrays={"tokens": row.tokens, **found},
    )


def _attributed(
    model: capture.Model, question: predictions.Question, embedded: attribution.Embedded, method: str
) -> np.ndarray:
    if method == "gradients":
        values, missed, steps = attribution.complete(embedded)
        print(f"integrated gradients: {steps} steps, complete to {missed:.2%} of the difference of the scores")
        if missed > attribution.TOLERANCE:
            print(f"warning: more than {attribution.TOLERANCE:.0%} is missing: the attributions do not add up")
        return values
    if method == "rollout":
        place = -1 if predictions.head_of(model) == "causal_lm" else question.place
        return attribution.rollout(model, question.row)[place]
    if method == "lime":
        return attribution.lime(embedded.score, embedded.x, embedded.baseline, seed=flags.FLAGS.seed)
    return attribution.occlusion(embedded.score, embedded.x, embedded.baseline)

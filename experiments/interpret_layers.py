"""Words of `experiments.interpret` about layers: probe, words, cka, lens."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import command_line
from experiments.interpret_writing import numbers_given, progress, read_labeled, show, texts_given, write
from tx_jax.interpret import capture, cka, contexts, lens, pictures, predictions, probes, texts

HELD_OUT = 0.2
FEW = 100  # examples of test data: below, a warning is given
MOST_PANELS = 8


def probe(model: capture.Model, outs: Sequence[Path]) -> None:
    read = [_flat(records) for records in _records()]
    numbers = probes.numbered(*(labels for _, labels, _ in read))
    parts = [
        probes.Labeled(_states(model, given), y, tuple(types))
        for (given, _, types), y in zip(read, numbers[:2], strict=True)
    ]
    found = []
    for kind in probes.KINDS if flags.FLAGS.probe == "both" else [flags.FLAGS.probe]:
        with progress(f"{kind} probe") as shown:
            found.append(
                probes.probe(*parts, kind, description_length=flags.FLAGS.mdl, seed=flags.FLAGS.seed, progress=shown)
            )
    baselines = probes.baselines(*parts)
    columns = ["probe", "layer", "accuracy", "control", "selectivity"] + (
        ["bits", "compression"] if flags.FLAGS.mdl else []
    )
    rows = []
    for one in found:
        for layer in range(len(one.accuracy)):
            values = [one.kind, layer, *(float(x[layer]) for x in (one.accuracy, one.control, one.selectivity))]
            if one.description_length is not None:
                bits = float(one.description_length[layer])
                values += [bits, one.uniform_length / bits]
            rows.append(values)
    sizes = [len(part.labels) for part in parts]
    title = f"{sizes[0]:,} examples and {sizes[1]:,} of test data, {len(numbers[2])} labels; layer 0 = embeddings"
    show(columns, rows, title=title)
    if sizes[1] < FEW:
        print(f"warning: {sizes[1]} examples of test data: so few say little", file=sys.stderr)
    for name, value in baselines.items():
        print(f"baseline, {name}: {value:.4f}")
    table = [*rows, *([name, "", value, *[""] * (len(columns) - 3)] for name, value in baselines.items())]
    curves = {f"{one.kind}, accuracy": one.accuracy for one in found} | {
        f"{one.kind}, selectivity": one.selectivity for one in found
    }
    count = len(found[0].accuracy)
    curves |= {name: np.full(count, value) for name, value in baselines.items()}
    write(
        outs,
        picture=lambda: pictures.lines(
            curves,
            title=f"{flags.FLAGS.label} by layer of {model.name}, {len(parts[1].labels):,} test examples",
            x_label="layer (0 = embeddings)",
            y_label="accuracy on test data",
            dashed=tuple(baselines),
        ),
        table=(columns, table),
        arrays={f"{one.kind}/{name}": getattr(one, name) for one in found for name in ("accuracy", "control")}
        | baselines,
    )


Records = Sequence[tuple[Any, ...]]


def _records() -> tuple[Records, Records]:
    """The words or texts, and labels, of the training and the test data."""
    records = read_labeled("data")
    if flags.FLAGS.test:
        other = read_labeled("test")
    else:
        order = np.random.default_rng(flags.FLAGS.seed).permutation(len(records))
        cut = max(1, round(HELD_OUT * len(records)))
        records, other = [records[i] for i in order[cut:]], [records[i] for i in order[:cut]]
        if not records:
            command_line.fail("there is one example: give more, or a file of test data, --test")
    return records, other


def _flat(records: Records) -> tuple[list[Any], list[str], list[str]]:
    """The words of each sentence, or the texts; the label of each word or text; and what it is."""
    given, labels = [record[0] for record in records], [record[1] for record in records]
    if not isinstance(given[0], list):
        return given, list(map(str, labels)), list(map(str, given))
    for number, (sentence, of_words) in enumerate(zip(given, labels, strict=True), start=1):
        if not isinstance(of_words, list) or len(of_words) != len(sentence):
            count = len(of_words) if isinstance(of_words, list) else "no list of"
            command_line.fail(f"example {number}: {count} labels for {len(sentence)} words: each word needs one")
    flat = [[str(item) for one in part for item in one] for part in (labels, given)]
    return given, flat[0], flat[1]


def _states(model: capture.Model, given: Sequence[Any]) -> np.ndarray:
    with progress("text") as shown:
        if isinstance(given[0], list):
            return probes.states_of_words(model, texts.rows_of_words(model, given), progress=shown)
        return probes.states_of_texts(model, texts.rows_to_encode(model, list(map(str, given))), progress=shown)


def words(model: capture.Model, outs: Sequence[Path]) -> None:
    given, senses = texts_given(least=2), flags.FLAGS.sense
    if not flags.FLAGS.word:
        command_line.fail("--word is needed: the word that is looked at, once, or once for each text")
    if flags.FLAGS.show == "cosine" and flags.FLAGS["layers"].present:
        command_line.fail("--layers does nothing for --show=cosine, which shows all of them: give --show=pca or tsne")
    if senses and len(senses) != len(given):
        command_line.fail(f"{len(given)} texts and {len(senses)} senses: each text needs a --sense, or none has one")
    if flags.FLAGS.show != "cosine":
        contexts.check_plane(len(given), flags.FLAGS.show)
    found = contexts.look(model, given, flags.FLAGS.word, seed=flags.FLAGS.seed)
    cosines, kinds = found.cosines(), list(senses or ["in all contexts"] * len(given))
    within, across = found.within_and_across(kinds)
    curves = {"same sense" if senses else "the word": within, "two tokens of different texts": found.baseline}
    if senses:
        curves["different senses"] = across
    curves = {name: values for name, values in curves.items() if not np.isnan(values).all()}
    columns = ["layer", *curves]
    rows = [[layer, *(float(values[layer]) for values in curves.values())] for layer in range(len(cosines))]
    show(columns, rows, title="mean cosines by layer; layer 0 = embeddings")
    pairs = [(i, j) for i in range(len(given)) for j in range(i + 1, len(given))]
    table = [
        (layer, given[i], given[j], kinds[i] == kinds[j] if senses else "", float(cosines[layer, i, j]))
        for layer in range(len(cosines))
        for i, j in pairs
    ]
    layers = numbers_given("layers") or sorted({round(x) for x in np.linspace(0, len(cosines) - 1, MOST_PANELS)})
    if wrong := [layer for layer in layers if not 0 <= layer < len(cosines)]:
        command_line.fail(f"there is no layer {wrong[0]}: 0 is the embeddings, 1 to {len(cosines) - 1} are the layers")
    title = f"{' / '.join(dict.fromkeys(flags.FLAGS.word))} in {len(given)} contexts, {model.name}"
    names = {"cosine": "", "pca": "by PCA", "tsne": "by t-SNE"}

    def picture() -> pictures.Figure:
        if flags.FLAGS.show == "cosine":
            return pictures.lines(
                curves,
                title=title,
                x_label="layer (0 = embeddings)",
                y_label="mean cosine",
                dashed=("two tokens of different texts",),
            )
        panels = {
            f"layer {layer}": contexts.plane(found.vectors[layer], flags.FLAGS.show, seed=flags.FLAGS.seed)
            for layer in layers
        }
        numbered = [str(number) for number in range(1, len(given) + 1)]
        return pictures.scatters(panels, numbered, kinds, title=f"{title}, {names[flags.FLAGS.show]}")

    write(
        outs,
        picture=picture,
        table=(("layer", "text", "other text", "same sense", "cosine"), table),
        arrays={"vectors": found.vectors, "cosines": cosines, "baseline": found.baseline},
    )


def similarity(model: capture.Model, outs: Sequence[Path]) -> None:
    given = texts_given()
    other, of_texts = model, False
    if flags.FLAGS.before:
        from tx_jax.runs import trained

        other = trained.load(flags.FLAGS.before)
        of_texts = model.require_tokenizer().fingerprint != other.require_tokenizer().fingerprint
        if of_texts:
            print("The models have different tokenizers: the means over each text's tokens are compared, not tokens.")
    states = []
    for one in [model, other] if flags.FLAGS.before else [model]:
        with progress("text") as shown:
            rows = texts.rows_to_encode(one, given)
            states.append(cka.states(one, rows, of_texts=of_texts, seed=flags.FLAGS.seed, progress=shown))
    found = cka.matrix(states[0], states[-1])
    rows = [(i, j, float(found[i, j])) for i, j in np.ndindex(found.shape)]
    if flags.FLAGS.before:
        same = [(i, float(found[i, i])) for i in range(min(found.shape))]
        show(("layer", f"CKA with {other.name}"), same, title="each layer with the same layer of the other model")
    print(f"compared: {len(states[0][0]):,} {'texts' if of_texts else 'tokens'}")
    names = [[str(layer) for layer in range(size)] for size in found.shape]
    write(
        outs,
        picture=lambda: pictures.heat_map(
            found,
            *names,
            title="linear CKA of layers (0 = embeddings)",
            label="CKA",
            row_label=f"layer of {model.name}",
            column_label=f"layer of {other.name}",
            limits=(0.0, 1.0),
        ),
        table=(("layer", "other layer", "CKA"), rows),
        arrays={"cka": found},
    )


def logit_lens(model: capture.Model, outs: Sequence[Path]) -> None:
    given = texts_given()
    head = predictions.head_of(model, classifiers=False)
    rows_of = texts.rows_of_texts(model, given, masks=head == "masked_lm")
    tokenizer, table, found = model.require_tokenizer(), [], []
    with progress("text") as shown:
        for number, row in enumerate(rows_of, start=1):
            found.append(_of_text(model, row, given[number - 1], tokenizer, table))
            shown(number, len(rows_of))
    right = np.concatenate([one[0] for one in found], axis=1)
    first = np.concatenate([one[1] for one in found], axis=1)
    divergence = np.concatenate([one[2] for one in found], axis=1)
    rows = [(layer, float(first[layer].mean()), float(right[layer].mean()), float(divergence[layer].mean()))
            for layer in range(len(right))]  # fmt: skip
    columns = ("layer", "agrees with the last", "probability of the last's word", "KL to the last, nats")
    show(columns, rows, title=f"{right.shape[1]} predictions; layer 0 = embeddings")
    one = found[0]
    labels = [str(layer) for layer in range(len(right))]

    def picture() -> pictures.Figure:
        if len(rows_of) > 1:
            curves = {columns[1]: first.mean(1), columns[2]: right.mean(1)}
            return pictures.lines(
                curves,
                title=f"logit lens of {model.name}, {right.shape[1]} predictions",
                x_label="layer (0 = embeddings)",
                y_label="share, mean probability",
                spread={columns[2]: right.std(1)},
            )
        return pictures.heat_map(
            one[0], labels, one[3], title=f"logit lens: {given[0]}", label="probability of the last layer's word",
            row_label="layer", limits=(0.0, 1.0), cells=one[4],
        )  # fmt: skip

    write(
        outs,
        picture=picture,
        table=(("text", "place", "token", "layer", "rank of the last's word", "its probability", "likeliest"), table),
        arrays={"probability": right, "agrees": first, "divergence": divergence},
    )


def _of_text(model: capture.Model, row: texts.Row, text: str, tokenizer, table: list) -> tuple:
    """Probability of the last layer's word, whether a layer has it first, divergence [L, P]; names of the places, and
    each layer's first word there."""
    seen = lens.look(model, row)
    log_p = seen.log_probabilities()
    best = log_p.argmax(-1)
    last = best[-1]
    probability = np.exp(np.take_along_axis(log_p, np.broadcast_to(last[None, :, None], (*best.shape, 1)), 2)[..., 0])
    ranks, words_of = seen.ranks(last), [[tokenizer.token(int(i)) for i in layer] for layer in best]
    order = np.argsort(-log_p, axis=-1)[..., : flags.FLAGS.top]
    for layer, place in np.ndindex(best.shape):
        likeliest = " ".join(tokenizer.tokens(map(int, order[layer, place])))
        at = seen.places[place]
        table.append(
            (text, at, row.tokens[at], layer, int(ranks[layer, place]), float(probability[layer, place]), likeliest)
        )
    names = [f"{row.tokens[place]} ({place})" for place in seen.places]
    return probability, best == last[None], seen.divergences(), names, words_of

"""Translates with a trained encoder-decoder: a line of the input becomes a line of the output.

    python -m experiments.translate --model=runs/multi30k --input=a.de --output=a.en
    python -m experiments.translate --model=runs/multi30k --average_checkpoints=5 --input=test.de --output=test.en \\
        --reference=test.en
    python -m experiments.translate --model=runs/multi30k --text="Ein Hund rennt."

Without a file it translates what --text gives, or lines of standard input as they come. As in the paper (Vaswani et al.
2017, section 6.1) it searches with 4 beams and GNMT's length penalty of 0.6, for at most 50 tokens more than the source
has; --num_beams=1 is greedy. --reference prints BLEU and chrF of the output, with sacrebleu's signatures.

A model that knows several languages is told which: --source_language=en_XX --target_language=ro_RO for mBART; for
Marian --target_language=fra, or texts that begin with >>fra<<. The number of beams and other settings that come with a
Hugging Face model are not followed, but printed, as flags to give.

Texts longer than the model's positions are an error that names the line; empty lines stay empty.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import command_line, decoding_flags, model_flags
from experiments.asking import asked

if TYPE_CHECKING:
    from tx_jax.decoding import Options
    from tx_jax.runs.trained import Trained

model_flags.define_model()
decoding_flags.define(num_beams=4, length_penalty=0.6, length_normalization="gnmt", greedy=True)
TEXT = flags.DEFINE_multi_string("text", [], "A text to translate. May be repeated.")
INPUT = flags.DEFINE_string("input", None, "The file to translate, a text a line; it may be compressed.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write.")
REFERENCE = flags.DEFINE_string("reference", None, "The translations to compare with, a line for each of --input.")
SOURCE_LANGUAGE, TARGET_LANGUAGE = model_flags.define_languages()
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the newest.")
AVERAGE = flags.DEFINE_integer(
    "average_checkpoints", 1, "Average the parameters of so many checkpoints, the last ones.", lower_bound=1
)


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    if bool(INPUT.value) != bool(OUTPUT.value):
        command_line.fail("--input and --output go together: give a file to read and one to write")
    if REFERENCE.value and not INPUT.value:
        command_line.fail("--reference is compared with the translation of --input: give --input and --output too")
    if INPUT.value and TEXT.value:
        command_line.fail("--input and --text both give what to translate: give one of them")
    command_line.keep_memory_and_programs()
    from tx_jax.data.prompt_files import read_lines
    from tx_jax.errors import InputError
    from tx_jax.files import path_of
    from tx_jax.runs import trained
    from tx_jax.text.pair_forms import speaking

    options = decoding_flags.options()
    if options.num_return_sequences > 1:
        command_line.fail("--num_return_sequences: a text has one translation here; experiments.generate gives n-best")
    texts = read_lines(path_of(INPUT.value, "--input", reads=True)) if INPUT.value else TEXT.value
    references = read_lines(Path(REFERENCE.value)) if REFERENCE.value else None
    if references is not None and len(references) != len(texts):
        raise InputError(f"{INPUT.value} has {len(texts):,} lines and {REFERENCE.value} {len(references):,}")
    model = trained.load(name, STEP.value, average=AVERAGE.value)
    if model.model.architecture != "encoder_decoder":
        kind = {"encoder": "an encoder", "decoder": "a decoder"}[model.model.architecture]
        raise InputError(f"{name} is no encoder-decoder, but {kind}: it cannot translate")
    decoding_flags.say_suggested(model.suggested, options)
    model = dataclasses.replace(
        model,
        tokenizer=speaking(
            model.require_tokenizer(), source=SOURCE_LANGUAGE.value or "", target=TARGET_LANGUAGE.value or ""
        ),
    )
    if not INPUT.value:
        for text in texts or asked("text: "):
            print(_translated(model, [text], options)[0], flush=True)
        return 0
    return _file(model, texts, references, options)


def _file(model: "Trained", texts: list[str], references: list[str] | None, options: "Options") -> int:
    from tqdm import tqdm

    from tx_jax.files import path_of, write_atomically
    from tx_jax.tasks.translation_scores import scores

    with tqdm(total=len(texts), unit="line", dynamic_ncols=True, delay=1e-3) as bar:
        found = _translated(model, texts, options, lambda done, total: bar.update(done - bar.n))
    write_atomically(path_of(OUTPUT.value, "--output"), "".join(f"{text}\n" for text in found))
    print(f"{len(found):,} lines: {OUTPUT.value}")
    if references is not None:
        for line in scores(found, references)[1]:
            print(line)
    return 0


def _translated(model, texts, options, progress=lambda done, total: None) -> list[str]:
    """A translation for each text; of an empty one an empty one."""
    from tx_jax import decoding

    places = [i for i, text in enumerate(texts) if text.strip()]
    found = decoding.generate(
        model,
        [texts[i] for i in places],
        options,
        numbers=[i + 1 for i in places],  # errors name the line
        batch_size=flags.FLAGS.batch_size,
        progress=progress,
    )
    translations = dict(zip(places, found, strict=True))
    return [translations[i].text.replace("\n", " ") if i in translations else "" for i in range(len(texts))]


if __name__ == "__main__":
    command_line.run(main)

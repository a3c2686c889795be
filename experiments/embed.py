"""Writes a vector of each text of a file.

    python -m experiments.embed --model=models/minilm --input=texts.csv --output=vectors.npy

The input is a table, JSON lines, a JSON list or parquet, of which --text names the column, or a file with a text a
line; its content decides which. The output is a NumPy array, float32 [texts, width], in the order of the input, written
as it is computed. By default a vector is the mean of the last layer's tokens, of length 1; other poolings and layers
are --pooling, --layers and --nonormalize.
"""

import sys
import warnings

from absl import flags

from experiments import command_line, model_flags, reading_flags

model_flags.define_model()
flags.adopt_module_key_flags(reading_flags)
INPUT = flags.DEFINE_string("input", None, "The file to read.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write: .npy.")
TEXT = flags.DEFINE_string("text", "text", "The text column.")
POOLING = flags.DEFINE_enum("pooling", "mean", ["mean", "first", "last"], "How a text's tokens become one vector.")
LAYERS = flags.DEFINE_list("layers", ["-1"], "The mean of these layers: 0 = the embeddings, -1 = the last.")
NORMALIZE = flags.DEFINE_bool("normalize", True, "Whether vectors get length 1.")
TRUNCATE = flags.DEFINE_bool("truncate", False, "Cut texts that are longer than the model instead of refusing them.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Texts of full length a batch.", lower_bound=1)
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the best, or the newest.")
BLOCK = 8192  # texts that are sorted by length, and held as tokens, at a time


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    if not INPUT.value or not OUTPUT.value:
        command_line.fail("--input and --output are needed: give a file to read and one to write")
    command_line.keep_memory_and_programs()
    from experiments.interpret_writing import numbers_given, progress
    from tx_jax.config import LabeledDataConfig
    from tx_jax.data.labeled import readers
    from tx_jax.errors import InputError, InputWarning
    from tx_jax.files import check_writable, is_local, path_of
    from tx_jax.interpret import texts, vectors
    from tx_jax.runs import trained

    out = path_of(OUTPUT.value, "--output")
    if not out.name.endswith(".npy"):
        command_line.fail(f"--output={OUTPUT.value}: the file's name must end in .npy")
    if not is_local(out):
        check_writable(out.parent, "--output")
    elif not out.parent.is_dir():
        command_line.fail(f"--output={OUTPUT.value}: there is no folder {out.parent}")
    layers = numbers_given("layers") or []
    source = LabeledDataConfig(
        train=INPUT.value,
        validation="",
        text=(TEXT.value,),
        label="",
        sequence_length=8,
        read_ahead=1,
        metrics=(),
        **reading_flags.options(),
    )
    try:
        with reading_flags.named_as_flags():
            with warnings.catch_warnings():
                warnings.filterwarnings("error", ".* are skipped", InputWarning)
                records = readers.read(INPUT.value, source, labeled=False)
            notices = readers.notices(INPUT.value, source, labeled=False)
    except InputWarning as warning:
        raise InputError(
            f"{warning}: take them out, so that row N of {OUTPUT.value} is line N of {INPUT.value}"
        ) from None
    for notice in notices:
        print(f"warning: {notice}", file=sys.stderr)
    model = trained.load(name, STEP.value)
    vectors.hidden_sites(model.model, layers)  # errors before the work
    vectors.require_pooling(model.model, POOLING.value)
    given = [str(record[TEXT.value]) for record in records]
    with progress("text") as shown, vectors.written(out, len(given), model.model.dim) as array:
        for start in range(0, len(given), BLOCK):
            part = given[start : start + BLOCK]
            array[start : start + len(part)] = vectors.embed(
                model,
                texts.rows_to_encode(model, part, cut=TRUNCATE.value, first=start + 1),
                pooling=POOLING.value,
                layers=layers,
                normalize=NORMALIZE.value,
                batch_size=BATCH_SIZE.value,
                progress=lambda done, _, start=start: shown(start + done, len(given)),
            )
    print(f"{len(given):,} vectors of width {model.model.dim}: {OUTPUT.value}")
    return 0


if __name__ == "__main__":
    command_line.run(main)

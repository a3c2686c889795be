"""Continues texts with a trained decoder, such as a GPT.

    python -m experiments.generate --model=runs/gpt --prompt="Once upon a time"
    python -m experiments.generate --model=runs/gpt --prompt="To be" --num_return_sequences=3 --top_p=0.9 --seed=1
    python -m experiments.generate --model=runs/gpt --input=prompts.txt --output=texts.jsonl

The model is a run, a converted model or a Hugging Face model. Several prompts: repeat --prompt, or give a file with one
a line, or JSON lines with a key `prompt`; --output gets a JSON line for each sequence: prompt, number, sample, text,
finish (end, stop, length), score, tokens, log_probs. Without either it asks for prompts, one after another, and reads
standard input that is no terminal as one a line.

Tokens are drawn at random unless --temperature=0 (greedy) or --num_beams asks for the most probable text. The same
--seed gives the same texts, for each prompt by its number, however many there are.
"""

import dataclasses
from collections.abc import Iterator

from absl import flags

from experiments import command_line, decoding_flags, model_flags
from experiments.asking import asked

model_flags.define_model()
decoding_flags.define()
PROMPT = flags.DEFINE_multi_string("prompt", [], "A text to continue. May be repeated.")
INPUT = flags.DEFINE_string("input", None, "A file of prompts: one a line, or .jsonl with the key `prompt`.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write, JSON lines.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; default: the newest.")


def main(argv: list[str]) -> int:
    name = model_flags.model_name()
    if bool(INPUT.value) != bool(OUTPUT.value):
        command_line.fail("--input and --output go together: give a file to read and one to write")
    if INPUT.value and PROMPT.value:
        command_line.fail("--input and --prompt both give prompts: give one of them")
    command_line.keep_memory_and_programs()
    from tqdm import tqdm

    from tx_jax import decoding
    from tx_jax.data.prompt_files import read_prompts
    from tx_jax.files import json_text, path_of, write_atomically
    from tx_jax.runs import trained

    options = decoding_flags.options()
    prompts = read_prompts(path_of(INPUT.value, "--input", reads=True)) if INPUT.value else PROMPT.value
    model = trained.load(name, STEP.value)
    decoding_flags.say_suggested(model.suggested, options)
    if not prompts:
        return _show(model, asked("prompt: "), options)
    if not OUTPUT.value:
        return _show(model, iter(prompts), options)
    with tqdm(total=len(prompts), unit="prompt", dynamic_ncols=True, delay=1e-3) as bar:
        found = decoding.generate(
            model,
            prompts,
            options,
            batch_size=flags.FLAGS.batch_size,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    lines = [
        json_text({"prompt": prompts[one.number]} | dataclasses.asdict(one), ensure_ascii=False) + "\n" for one in found
    ]
    write_atomically(path_of(OUTPUT.value, "--output"), "".join(lines))
    print(f"{len(found):,} texts for {len(prompts):,} prompts: {OUTPUT.value}")
    return 0


def _show(model, prompts: Iterator[str], options) -> int:
    """Prints each prompt with what follows it, as it comes where there is one sequence."""
    from tx_jax import decoding

    alone = options.num_beams == options.num_return_sequences == 1
    for number, prompt in enumerate(prompts):
        if alone:
            shown = False
            for piece in decoding.stream(model, prompt, options, number=number):
                print(piece if shown else prompt + piece, end="", flush=True)
                shown = True
            print("" if shown else prompt, flush=True)
            continue
        found = decoding.generate(model, [prompt], options, numbers=[number], batch_size=flags.FLAGS.batch_size)
        for one in found:
            print(f"[{one.sample + 1} of {len(found)}, {one.finish}, {one.score:.2f}] {prompt}{one.text}", flush=True)
    return 0


if __name__ == "__main__":
    command_line.run(main)

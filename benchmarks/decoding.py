"""Generation beside transformers: prefill, time per token, compilation; greedy and beam search, at several batch sizes.

    python -m benchmarks.decoding                           # GPT-2 small, batches of 1, 8, 64; 30 minutes on 2 cores
    python -m benchmarks.decoding --model=gpt2_mini --batch_sizes=1,8 --new_tokens=16 --rounds=2      # a minute

Both sides have the same weights, which are random, in float32, prompts of the same length without padding, and generate
the same number of tokens: no token ends a sequence. What transformers does, in a process of its own, is `generate` as
its documentation says (eager, a cache that grows) and, with --compiled, with `cache_implementation="static"` and
compilation. All sides take turns. The time of a token is that of all tokens but the first, divided by them; the first
counts as prefill. Without torch and transformers, only ours is measured.
"""

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import measure
from benchmarks.apart import Apart
from benchmarks.cases import CASES
from experiments import command_line

MODEL = flags.DEFINE_string("model", "gpt2_small", "gpt2_small, or a decoder in the table in benchmarks/cases.py.")
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "8", "64"], "Prompts in a batch.")
PROMPT = flags.DEFINE_integer("prompt", 64, "Tokens of a prompt.", lower_bound=1)
NEW_TOKENS = flags.DEFINE_integer("new_tokens", 64, "Tokens that follow.", lower_bound=4)
BEAMS = flags.DEFINE_list("beams", ["1", "4"], "Beams; 1 is greedy.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
COMPILED = flags.DEFINE_bool("compiled", False, "Also transformers with a static cache, which it compiles: minutes.")
JSON = flags.DEFINE_string("json", None, "Where to write the result.")

Generate = Callable[[np.ndarray, int, int], np.ndarray]  # prompts, new tokens, beams: the new tokens of the best


def main(argv: list[str]) -> None:
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()  # as experiments.generate does
    result = measure.print_header(measure.calibration())
    config = _config(MODEL.value)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(config)
        sides: dict[str, Generate] = {"tx_jax": ours}
        if measure.has_torch():
            _write(ours, Path(folder))
            sides["transformers, eager"] = Apart(Theirs, folder, static=False)
            if COMPILED.value:
                sides["transformers, static cache, compiled"] = Apart(Theirs, folder, static=True)
        else:
            print("torch and transformers are not installed: only tx_jax is measured")
        for beams in map(int, BEAMS.value):
            for size in map(int, BATCH_SIZES.value):
                rows += _measured(sides, ours, size, beams)
    measure.write_json(JSON.value, result | {"decoding": rows})


def _measured(sides: dict[str, Generate], ours: "Ours", size: int, beams: int) -> list[dict[str, Any]]:
    """Prints and returns the rows of a batch size."""
    new = NEW_TOKENS.value
    prompts = np.random.default_rng(0).integers(0, ours.config.vocab_size, (size, PROMPT.value))
    found = {name: side(prompts, new, beams) for name, side in sides.items()}
    first = next(iter(found.values()))
    agree = {name: float((ids[:, :new] == first).mean()) for name, ids in found.items()}
    parts = {}
    for name, side in sides.items():
        parts[f"{name}: prefill"] = functools.partial(side, prompts, 1, beams)
        parts[f"{name}: whole"] = functools.partial(side, prompts, new, beams)
    times = measure.interleaved(parts, ROUNDS.value).seconds
    compiled = ours.compile_seconds(prompts, new, beams)
    rows = []
    for name in sides:
        prefill, whole = times[f"{name}: prefill"], times[f"{name}: whole"]
        tokens = [(b - a) / (new - 1) * 1e3 for a, b in zip(prefill, whole, strict=True)]
        rows.append(
            {
                "side": name,
                "batch": size,
                "beams": beams,
                "prefill_min_ms": min(prefill) * 1e3,
                "token_min_ms": min(tokens),
                "token_median_ms": float(np.median(tokens)),
                "tokens_per_second": size * 1e3 / min(tokens),
                "whole_ratio_of_min": min(whole) / min(times["tx_jax: whole"]),
                "equal_tokens": agree[name],
                **({"compile_s": compiled} if name == "tx_jax" else {}),
            }
        )
    if beams == 1:
        rows[0] |= ours.flatness(prompts, new, ROUNDS.value)
    print()
    measure.print_table(rows)
    return rows


def _config(name: str) -> Any:
    """A TransformerConfig in float32."""
    if name in CASES:
        config = CASES[name].config("float32", dropout=False).model
    else:
        from configs import gpt2_small
        from tx_jax.config import from_config_dict

        config = from_config_dict(gpt2_small.get_config()).model
    if config.architecture != "decoder":
        command_line.fail(f"--model={name} is no decoder")
    positions = max(config.max_length, PROMPT.value + NEW_TOKENS.value)
    return dataclasses.replace(config, dtype="float32", max_length=positions, init_stddev=0.05)


class Ours:
    """The compiled loops of `tx_jax.decoding`."""

    def __init__(self, config: Any):
        import jax

        from tx_jax.decoding.steps import for_decoding
        from tx_jax.models import registry

        self.config = for_decoding(config)
        self.params = jax.jit(functools.partial(registry.init_params, self.config))(jax.random.key(0))

    def __call__(self, prompts: np.ndarray, new: int, beams: int) -> np.ndarray:
        import jax

        if beams == 1:
            return np.asarray(jax.device_get(self._rows(prompts, new).tokens_NL))
        from tx_jax.decoding import beam

        program, knobs = self._search(len(prompts), new, beams)
        found = beam.search(program, self.params, self._prompts(prompts), knobs, cache_size=prompts.shape[1] + new)
        return np.asarray(jax.device_get(found.tokens_BKL[:, 0]))

    def _rows(self, prompts: np.ndarray, new: int) -> Any:
        import jax.numpy as jnp

        from tx_jax.decoding import sampling

        program, knobs = self._greedy(len(prompts), new)
        size = prompts.shape[1] + new
        rows = sampling.start(program, self.params, self._prompts(prompts), knobs, cache_size=size)
        return sampling.proceed(program, self.params, rows, knobs, jnp.int32(new)) if new > 1 else rows

    def _prompts(self, prompts: np.ndarray) -> Any:
        import jax.numpy as jnp

        from tx_jax.decoding.steps import Prompts

        return Prompts(jnp.asarray(prompts, jnp.int32), jnp.full(len(prompts), prompts.shape[1], jnp.int32))

    def _greedy(self, rows: int, new: int) -> tuple[Any, Any]:
        import jax
        import jax.numpy as jnp

        from tx_jax.decoding import sampling
        from tx_jax.decoding.steps import Writable

        one = jnp.float32(1)
        knobs = sampling.Knobs(
            temperature=one,
            top_p=one,
            min_p=one,
            penalty=one,
            key=jax.random.key(0),
            numbers_N=jnp.arange(rows),
            samples_N=jnp.zeros(rows, jnp.int32),
            limits_N=jnp.full(rows, new, jnp.int32),
            stop_ids=jnp.asarray([-1]),
        )
        return sampling.Program(self.config, Writable(self.config.vocab_size), new, 1, samples=False), knobs

    def _search(self, rows: int, new: int, beams: int) -> tuple[Any, Any]:
        import jax.numpy as jnp

        from tx_jax.decoding import beam
        from tx_jax.decoding.steps import Writable

        one = jnp.float32(1)
        knobs = beam.SearchKnobs(one, one, jnp.full(rows, new, jnp.int32), jnp.asarray([-1]))
        return beam.Search(self.config, Writable(self.config.vocab_size), new, beams, 1, "length", False), knobs

    def compile_seconds(self, prompts: np.ndarray, new: int, beams: int) -> float:
        """Seconds to trace and compile all that a call needs."""
        import jax
        import jax.numpy as jnp

        from tx_jax.decoding import beam, sampling

        size, inputs = prompts.shape[1] + new, self._prompts(prompts)
        jax.clear_caches()
        began = time.perf_counter()
        if beams > 1:
            program, knobs = self._search(len(prompts), new, beams)
            beam.search.lower(program, self.params, inputs, knobs, cache_size=size).compile()
        else:
            program, knobs = self._greedy(len(prompts), new)
            started = sampling.start.lower(program, self.params, inputs, knobs, cache_size=size)
            started.compile()
            sampling.proceed.lower(program, self.params, started.out_info, knobs, jnp.int32(new)).compile()
        return time.perf_counter() - began

    def flatness(self, prompts: np.ndarray, new: int, rounds: int) -> dict[str, float]:
        """The time of a token in the second half of a row, in times of one in the first half; the minimum of each."""
        import jax
        import jax.numpy as jnp

        from tx_jax.decoding import sampling

        program, knobs = self._greedy(len(prompts), new)
        halves: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds + 1):
            size = prompts.shape[1] + new
            rows = sampling.start(program, self.params, self._prompts(prompts), knobs, cache_size=size)
            jax.block_until_ready(rows)
            for half, (first, last) in zip(halves, ((1, new // 2), (new // 2, new)), strict=True):
                began = time.perf_counter()
                rows = sampling.proceed(program, self.params, rows, knobs, jnp.int32(last))
                jax.block_until_ready(rows)
                half.append((time.perf_counter() - began) / (last - first))
        return {"second_half": min(halves[1][1:]) / min(halves[0][1:])}


def _write(ours: Ours, folder: Path) -> None:
    from tx_jax import tree
    from tx_jax.convert import to_hf
    from tx_jax.convert.model_dir import Model

    params = {path: np.asarray(value) for path, value in tree.flatten(ours.params).items()}
    to_hf.write(Model(ours.config, params, None, None), folder, model_type="gpt2")


class Theirs:
    """`transformers.generate`."""

    def __init__(self, folder: str, *, static: bool):
        import transformers

        self._model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval().to(measure.torch_device())
        self._more: dict[str, Any] = {}
        if static:
            how = transformers.CompileConfig(mode="default")
            how._compile_all_devices = True  # without it, nothing is compiled on a CPU, and nothing says so
            self._more = {"cache_implementation": "static", "compile_config": how}

    def __call__(self, prompts: np.ndarray, new: int, beams: int) -> np.ndarray:
        import torch

        ids = torch.from_numpy(prompts).to(measure.torch_device())
        with torch.inference_mode():
            made = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=beams,
                max_new_tokens=new,
                eos_token_id=None,
                pad_token_id=0,
                **self._more,
            )
        measure.torch_synchronize()
        return made[:, prompts.shape[1] :].cpu().numpy()


if __name__ == "__main__":
    command_line.run(main)

"""Runs every case here and in transformers, and prints how far they differ. `make parity` calls it.

    python -m tests.parity.compare                # the table; exit code 1 where a figure is too large
    python -m tests.parity.compare --write        # also stores what transformers computed, for the test suite
    python -m tests.parity.compare --large        # models of published sizes instead, at their full lengths
    python -m tests.parity.compare ModernBERT     # only cases whose names begin so; --write then keeps the others

Needs torch (CPU) and transformers beside this package.
"""

import dataclasses
import pathlib
import sys
import tempfile

import jax
import numpy as np
from safetensors.numpy import load_file

from tests.golden import weights
from tests.parity import cases, ours, theirs
from tx_jax.convert import families, from_hf, to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model, Source

SEED = 20_240
MAX_LOGITS = 1e-4  # |ours - theirs|, float32
MAX_HIDDEN = 1e-4
MAX_GRADIENTS = 1e-3  # relative, of each parameter
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "families.npz"


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    print(f"{'case':36s} {'logits':>9s} {'hidden':>9s} {'gradients':>9s}  (largest logit)   to_hf(from_hf(x)) == x")
    stored, failed, bodies = {}, [], set()
    large = "--large" in sys.argv
    chosen = tuple(argument for argument in sys.argv[1:] if not argument.startswith("--")) or ("",)
    for name, (model_type, config) in (cases.LARGE if large else cases.CASES).items():
        if not name.startswith(chosen):
            continue
        with tempfile.TemporaryDirectory() as folder:
            figures, expected = compare(model_type, config, pathlib.Path(folder) / "model")
        ok = figures["logits"] <= MAX_LOGITS and figures["hidden"] <= MAX_HIDDEN
        ok = ok and figures["gradients"] <= MAX_GRADIENTS and figures["bitwise"]
        columns = " ".join(f"{figures[key]:9.1e}" for key in ("logits", "hidden", "gradients"))
        largest = f"({figures['largest']:.1f})"
        print(f"{name:36s} {columns}  {largest:16s}  {figures['bitwise']}  {'' if ok else 'TOO LARGE'}", flush=True)
        failed += [] if ok else [name]
        body = dataclasses.replace(config, heads=(), num_labels=1, pooler="tanh", classifier_pooling="first")
        if body in bodies:  # hidden states of one case a body are enough
            del expected["hidden"]
        bodies.add(body)
        stored |= {f"{name}/{key}": value for key, value in expected.items()}
    if "--write" in sys.argv and not large:
        if chosen != ("",):
            with np.load(GOLDEN) as file:
                kept = {key: file[key] for key in file.files if not key.startswith(chosen)}
            stored = kept | stored
        np.savez_compressed(GOLDEN, **stored)
    sys.exit(f"differ: {', '.join(failed)}" if failed else 0)


def compare(model_type: str, config: cases.TransformerConfig, folder: pathlib.Path) -> tuple[dict, dict]:
    """The figures of one case, and what transformers computed."""
    params = cases.draw_params(shapes_of(config), SEED)
    batch = cases.draw_batch(config, SEED)
    source = Source("parity", None, model_type, "float32", {"pad_token_id": 1})
    written = Model(config, params, None, source)
    model = theirs.load(folder, to_hf.write(written, folder))
    model.save_pretrained(folder.with_name("theirs"))
    back, _ = from_hf.read(folder.with_name("theirs"))
    assert back.config == config, (back.config, config)
    saved = load_file(folder.with_name("theirs") / "model.safetensors")
    again = to_hf.convert(back)[1]
    bitwise = again.keys() == saved.keys() and all(x.tobytes() == again[name].tobytes() for name, x in saved.items())
    bitwise = bitwise and all(x.tobytes() == back.params[path].tobytes() for path, x in params.items())

    expected = theirs.outputs(model, config.heads, batch)
    actual = ours.outputs(config, params, batch)
    valid = batch["valid"]
    figures = {"bitwise": bitwise, "logits": 0.0, "hidden": 0.0, "gradients": 0.0, "largest": 0.0}
    for name, value in expected.items():
        a, b = actual[name], value
        assert a.shape == b.shape, (name, a.shape, b.shape)
        if name == "hidden":
            a, b = a[:, valid], b[:, valid]
        elif a.shape[:2] == valid.shape:
            a, b = a[valid], b[valid]
        kind = "hidden" if name == "hidden" else "logits"
        figures[kind] = max(figures[kind], float(np.abs(a - b).max()))
        if kind == "logits":
            figures["largest"] = max(figures["largest"], float(np.abs(b).max()))
    if set(config.heads) - {"pooled"}:
        figures["gradients"] = gradient_error(model, written, batch)
    return figures, expected | {"drawn": np.array(weights.fingerprint(params | batch))}


def gradient_error(model: object, written: Model, batch: dict) -> float:
    """The largest ||ours - theirs|| / ||theirs|| over all tensors.

    A tensor whose gradient is rounding only, as that of a key bias, which softmax does not see, is measured against
    the largest gradient of all.
    """
    _, gradients = ours.loss_and_gradients(written.config, written.params, batch)
    _, expected = theirs.gradients(model, written.config.heads, batch)
    tensors = to_hf.convert(Model(written.config, gradients, None, written.source))[1]
    # A tied parameter goes by whichever of its names comes first there.
    tied = families.of_config(written.config, written.source.model_type)[0].tied
    expected = {name if name in tensors else tied[name]: g for name, g in expected.items()}
    norms = {name: np.linalg.norm(g) for name, g in expected.items()}
    floor = 1e-4 * max(norms.values())
    return max(float(np.linalg.norm(tensors[name] - g) / max(norms[name], floor)) for name, g in expected.items())


if __name__ == "__main__":
    main()

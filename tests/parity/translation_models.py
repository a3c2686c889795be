"""Translation models of Hugging Face, in and out: Marian, BART, mBART and mBART-50 with their tokenizers.

    python -m tests.parity.translation_models      # prints a table; exit code 1 where anything differs

transformers makes each folder, with random weights, a SentencePiece model or merges learned from a few texts, and the
files that published models have. The folder is read here; texts are encoded and translated on both sides. Then it is
converted, written back, and asked of transformers again. Needs torch and transformers.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import transformers

from tests.golden import multilingual
from tx_jax import text
from tx_jax.convert import from_hf, model_dir, to_hf
from tx_jax.decoding import Options, generate
from tx_jax.runs import trained
from tx_jax.text import spm

# Of one bucket of lengths: each shape is compiled.
TEXTS = [
    "The cat sat on the mat.",
    "  two   spaces, ﬁne ｆｕｌｌ  ",
    "Der Hund ist größer.",
    "¿Qué pasó, niño?",
]
SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "init_std": 0.3,
    "dropout": 0.1,
}
NEW = 14
MAX_LOGITS = 1e-4
SEARCHES = {
    "greedy": (Options(temperature=0, max_new_tokens=NEW), {}),
    "4 beams": (
        Options(num_beams=4, num_return_sequences=3, length_penalty=0.6, max_new_tokens=NEW),
        {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.6},
    ),
}


def pieces(seed: int) -> bytes:
    """A SentencePiece model of a few texts."""
    documents = multilingual.DOCUMENTS[seed:] + multilingual.DOCUMENTS[:seed] * 2
    return spm.train_model(spm.count_words(documents), model_type="unigram", vocab_size=400 + 40 * seed)


def marian(folder: Path) -> dict[str, Any]:
    """Two SentencePiece models, and a vocabulary that lacks some of their pieces."""
    models = {"source.spm": pieces(0), "target.spm": pieces(1)}
    known: dict[str, None] = {}
    for name, model in models.items():
        (folder / name).write_bytes(model)
        known |= dict.fromkeys(piece.piece for piece in spm.parse(model).pieces[3:-20])
    vocabulary = ["</s>", "<unk>", *known, ">>deu<<", ">>spa<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "mul"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    pad = len(vocabulary) - 1
    return {
        "vocab_size": len(vocabulary),
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "eos_token_id": 0,
        "forced_eos_token_id": None,
        "activation_function": "swish",
        "scale_embedding": True,
        "bad_words_ids": [[pad]],
        "renormalize_logits": True,
    }


def bart(folder: Path) -> dict[str, Any]:
    text.train("byte_bpe", multilingual.DOCUMENTS, vocab_size=500).save(folder)
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 128}))
    return {"vocab_size": 500, "forced_bos_token_id": 0, "forced_eos_token_id": None}


def mbart(form: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "sentencepiece.bpe.model").write_bytes(pieces(0))
        name = {"mbart": "MBartTokenizer", "mbart50": "MBart50Tokenizer"}[form]
        languages = {"src_lang": "en_XX", "tgt_lang": "ro_RO"}
        kind = getattr(transformers, name)
        made = kind.from_pretrained(folder, **languages)
        made.save_pretrained(folder)
        target = made.convert_tokens_to_ids("ro_RO")
        started = {"decoder_start_token_id": target}
        if form == "mbart50":
            started = {"decoder_start_token_id": 2, "forced_bos_token_id": target}
        return {"vocab_size": len(made), "scale_embedding": True, "forced_eos_token_id": None, **started}

    return make


CASES = {
    "Marian": (transformers.MarianConfig, transformers.MarianMTModel, marian),
    "BART": (transformers.BartConfig, transformers.BartForConditionalGeneration, bart),
    "mBART": (transformers.MBartConfig, transformers.MBartForConditionalGeneration, mbart("mbart")),
    "mBART-50": (transformers.MBartConfig, transformers.MBartForConditionalGeneration, mbart("mbart50")),
}
GENERATION = ("bad_words_ids", "renormalize_logits", "forced_bos_token_id")


def make(name: str, folder: Path) -> None:
    """The folder, as transformers leaves it. The output layer's bias is not zero, and the end is likely."""
    config_class, model_class, files = CASES[name]
    folder.mkdir()
    values = files(folder)
    torch.manual_seed(0)
    generation = {key: values.pop(key) for key in list(values) if key in GENERATION}
    config = config_class(**SIZES, **values)
    model = model_class(config).eval()
    model.final_logits_bias = torch.randn_like(model.final_logits_bias)
    model.final_logits_bias[0, config.eos_token_id] += 6
    model.generation_config.update(**generation)
    model.save_pretrained(folder)


def theirs(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def sources(name: str) -> list[str]:
    return (
        [f">>deu<< {line}" if i % 2 else f">>spa<<{line}" for i, line in enumerate(TEXTS)]
        if name == "Marian"
        else TEXTS
    )


def their_translations(model: Any, tokenizer: Any, lines: Sequence[str], arguments: dict) -> list[str]:
    """Of each text alone; without padding."""
    found = []
    for line in lines:
        with torch.no_grad():
            made = model.generate(
                **tokenizer(line, return_tensors="pt"), do_sample=False, max_new_tokens=NEW, **arguments
            )
        found += tokenizer.batch_decode(made, skip_special_tokens=True)
    return [line.strip() for line in found]


def compare(name: str, folder: Path, ours: trained.Trained) -> list[str]:
    """What differs between a model here and in transformers, in words; prints the figures."""
    model, tokenizer = theirs(folder)
    lines, problems = sources(name), []
    tokens = ours.require_tokenizer().pair_tokens
    encoded = [[*tokens.before, *ids, *tokens.after] for ids in ours.tokenizer.encode_batch(lines)]
    same = sum(a == b for a, b in zip(encoded, tokenizer(lines).input_ids, strict=True))
    problems += [] if same == len(lines) else ["ids"]
    difference, largest = logits_differ(model, ours, encoded)
    problems += [] if difference <= MAX_LOGITS else ["logits"]
    print(f"  ids of {same} of {len(lines)} texts equal; logits up to {largest:.1f} differ by {difference:.1e}")
    for what, (options, arguments) in SEARCHES.items():
        found = [one.text.strip() for one in generate(ours, lines, options, batch_size=4 * options.num_beams)]
        expected = their_translations(model, tokenizer, lines, arguments)
        equal = sum(a == b for a, b in zip(found, expected, strict=True))
        print(f"  {what}: {equal} of {len(expected)} translations equal, {len(set(expected))} different ones")
        problems += [] if equal == len(expected) else [what]
    return problems


def logits_differ(model: Any, ours: trained.Trained, encoded: list[list[int]]) -> tuple[float, float]:
    """The largest difference of a logit, and the largest logit, for padded sources and any target."""
    longest = max(map(len, encoded))
    valid = np.arange(longest)[None] < np.array([len(ids) for ids in encoded])[:, None]
    source = np.array([ids + [model.config.pad_token_id] * (longest - len(ids)) for ids in encoded])
    target = np.random.default_rng(0).integers(3, ours.tokenizer.vocab_size - 1, (len(encoded), 9))
    target[:, 0] = ours.tokenizer.pair_tokens.start
    found = jax.jit(lambda params: run(ours.model, params, source, valid, target))(ours.params)
    with torch.no_grad():
        expected = model(
            input_ids=torch.from_numpy(source),
            attention_mask=torch.from_numpy(valid.astype(np.int64)),
            decoder_input_ids=torch.from_numpy(target),
        ).logits.numpy()
    return float(np.abs(np.asarray(found) - expected).max()), float(np.abs(expected).max())


def run(config: Any, params: Any, source: np.ndarray, valid: np.ndarray, target: np.ndarray) -> jax.Array:
    from tx_jax.models import registry

    output = registry.build(config).apply(
        {"params": params},
        source,
        valid_BS=valid,
        target_tokens_BT=target,
        target_valid_BT=np.ones(target.shape, bool),
        deterministic=True,
    )
    return output.logits["causal_lm"]


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    transformers.logging.set_verbosity_error()
    failed = []
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "theirs"
            make(name, folder)
            print(f"{name}, read from its folder")
            problems = compare(name, folder, trained.load(str(folder)))
            model, report = from_hf.read(folder)
            problems += [*report.warnings, *(["initialised"] if report.initialised else [])]
            model_dir.save(model, Path(root) / "ours")
            print(f"{name}, converted and written back")
            to_hf.write(model_dir.load(Path(root) / "ours"), Path(root) / "back")
            problems += compare(name, Path(root) / "back", trained.load(str(Path(root) / "ours")))
            failed += [f"{name}: {problem}" for problem in problems]
    sys.exit(f"differ: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

"""Downloads models by name from the Hugging Face Hub into its cache."""

from pathlib import Path

import huggingface_hub

# HTTPError comes from the HTTP client, which differs between versions.
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tx_jax.convert import hf_folder
from tx_jax.errors import InputError

# All files that a conversion may read. Files not listed, above all pickles, are never downloaded.
PATTERNS = (
    "config.json",
    hf_folder.SINGLE,
    hf_folder.INDEX,
    "model-*.safetensors",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
)


def fetch(name: str, revision: str | None = None) -> tuple[Path, str]:
    """Returns a model's folder, downloaded if not cached, and its commit hash.

    Args:
      name: for example "dccuchile/bert-base-spanish-wwm-cased".
      revision: a branch, tag or commit; None = the newest.

    Raises:
      InputError: the model or revision does not exist, there is no network, or the model has no safetensors files.
    """
    at = f" at revision {revision!r}" if revision else ""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS)))
    except HFValidationError:
        raise InputError(f"{name!r} is neither a folder nor a name on the Hugging Face Hub") from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise InputError(f"the Hugging Face Hub has no model {name!r}{at} that you may read") from None
    except (HTTPError, OSError) as error:
        why = str(error).splitlines()[0]
        raise InputError(
            f"{name!r} is no folder here, and cannot be fetched from the Hugging Face Hub{at} ({why}): give a folder, "
            "or try again where there is network"
        ) from None
    if not any((folder / file).is_file() for file in (hf_folder.SINGLE, hf_folder.INDEX)):
        advice = hf_folder.advice(name, hf_folder.read_config(folder))
        raise InputError(
            f"{name} has no {hf_folder.SINGLE}{at}, and pickles are never loaded. A pull request there may add them "
            f"(--revision=refs/pr/1). {advice}"
        )
    return folder, folder.name

"""Files of texts to continue or to translate."""

import json
from pathlib import Path

from tx_jax.data.reading import files_in, lines
from tx_jax.errors import InputError


def read_prompts(path: Path, key: str = "prompt") -> list[str]:
    """One text a line, or of JSON lines (.jsonl) the value of a key; compressed or not.

    Raises:
      InputError: no such file, a line that is empty or is not such JSON, or bytes that are not UTF-8.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file: give one with a text a line, or .jsonl with the key {key!r}")
    found = []
    for file in files_in(path):
        for number, line in lines(file):
            where = f"{file}, line {number}"
            text = _of_json(line, where, key) if file.ending in (".jsonl", ".ndjson") else line.rstrip("\r\n")
            if not text.strip():
                raise InputError(f"{where} is empty: take it out, so that results are in the order of the lines")
            found.append(text)
    if not found:
        raise InputError(f"{path} is empty: it has no line to read")
    return found


def _of_json(line: str, where: str, key: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get(key), str):
        raise InputError(f"{where} has no text with the key {key!r}")
    return record[key]


def read_lines(path: Path) -> list[str]:
    """The lines of a file, compressed or not, empty ones included. Raises InputError as `read_prompts` does."""
    if not path.is_file():
        raise InputError(f"{path} is not a file: give one with a text a line")
    found = [line.rstrip("\r\n") for file in files_in(path) for _, line in lines(file)]
    if not found:
        raise InputError(f"{path} is empty: it has no line to read")
    return found

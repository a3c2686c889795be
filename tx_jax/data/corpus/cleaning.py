"""Extracts the text of a record for the token store: from the field that holds it, valid Unicode, without NULs."""

from collections import Counter
from dataclasses import dataclass, field

from tx_jax.data.corpus.config import SourceConfig
from tx_jax.data.reading import NotUTF8
from tx_jax.errors import InputError, did_you_mean


@dataclass
class Cleaner:
    """Extracts text for the token store: valid Unicode without NULs, from the field that holds it.

    Attributes:
      config: names the field, and the policy for invalid UTF-8.
      counts: what was cleaned or skipped: "invalid_utf8" (lines or records), "nul" (characters).
    """

    config: SourceConfig
    counts: Counter[str] = field(default_factory=Counter)

    def without_nuls(self, text: str) -> str:
        if "\0" in text:
            self.counts["nul"] += text.count("\0")
            text = text.replace("\0", "")
        return text

    def text_of(self, record: object, place: str, number: int, *, escapes: str = "surrogatepass") -> str | None:
        """The text of a record; None if the policy for invalid UTF-8 drops the record.

        `escapes`: "surrogateescape" if lone surrogates may stand for bytes that are not UTF-8; otherwise they come from
        JSON, which can represent them although they are not text.
        """
        value = self._value(record, f"{place} {number}")
        if isinstance(value, str):
            try:
                value = value.encode("utf-8", errors=escapes)
            except UnicodeEncodeError:
                value = value.encode("utf-8", errors="surrogatepass")
        if not isinstance(value, bytes):
            name = self.config.field
            raise InputError(f"{place} {number}: field {name!r} is not text but {type(value).__name__}")
        try:
            return self.without_nuls(value.decode("utf-8"))
        except UnicodeDecodeError:
            if self.config.encoding_errors == "error":
                raise NotUTF8(f"{place} {number}: not valid UTF-8; convert the file with iconv") from None
        self.counts["invalid_utf8"] += 1
        if self.config.encoding_errors == "skip":
            return None
        return self.without_nuls(value.decode("utf-8", errors="replace"))

    def _value(self, record: object, place: str) -> object:
        name = self.config.field
        if isinstance(record, dict) and name in record:
            return record[name]
        value = record
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                raise InputError(f"{place}: {_no_field(name, record)}")
            value = value[part]
        return value


def _no_field(name: str, record: object) -> str:
    found = ", ".join(map(str, record)) if isinstance(record, dict) else f"a {type(record).__name__}"
    near = did_you_mean(name, map(str, record)) if isinstance(record, dict) else ""
    return f"no field {name!r}, found: {found or 'none'}; name the field that holds the text with --field.{near}"

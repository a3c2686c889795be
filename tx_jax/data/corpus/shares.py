"""A token store prepared by several processes, on one host or many: the same, bit for bit, as one would write.

    STORE.shares/plan.json          written by process 0: settings, the source's files, the code, how many processes
    STORE.shares/tokenizer/         of process 0, trained on the beginning of the source
    STORE.shares/00002-of-00004/    what process 2 made: a token store of its share of the files, and `digests.bin`

Each process takes files that follow one another, so that the shares in their order are the whole; process 0 puts them
together when all are there, and removes them. All must see STORE.shares: on a shared file system or an object store.
A process that was killed continues where it was when the same command is started again. A file is never divided, so the
largest should be well below a share.
"""

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tx_jax import text
from tx_jax.data.corpus import resume, token_store
from tx_jax.data.corpus.config import PrepareConfig, Share
from tx_jax.data.corpus.encoding import Digest
from tx_jax.data.corpus.prepare import (
    CLEANED,
    Prepared,
    Progress,
    Read,
    finish,
    open_writer,
    prepare,
    publish_store,
    trained_tokenizer,
)
from tx_jax.data.corpus.sources import Source
from tx_jax.data.corpus.token_store import Split, TokenStore
from tx_jax.data.corpus.writer import SplitWriter, TokenBlock
from tx_jax.errors import InputError
from tx_jax.files import is_local, json_text, remove_folder, replace_folder, write_atomically
from tx_jax.storage import cache

PLAN = "plan.json"
POLL_SECONDS = 2.0
COPIED = 1 << 22  # tokens that are put together at once
# The variables by which launchers tell a process how many there are and which it is.
LAUNCHERS = (("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))


def launched(environment: Mapping[str, str]) -> tuple[int, int]:
    """(index of this process, how many there are) as srun or mpirun tell; (0, 1) without them."""
    for many, which in LAUNCHERS:
        if many in environment and which in environment:
            return int(environment[which]), int(environment[many])
    return 0, 1


def prepare_share(
    config: PrepareConfig, number: int, of: int, progress: Callable[[Progress], None] = lambda _: None
) -> Prepared:
    """Does this process's part of making the token store `config.store`; on process 0 also that of putting it together.

    Returns:
      On process 0 that of the whole store, on others that of their share.

    Raises InputError as `prepare` does; if the shares were begun with other settings, another number of processes,
    another source or other code; or if a share was made by another tokenizer.
    """
    if not 0 <= number < of:
        raise InputError(f"--process_id={number}, --num_processes={of}: give each process an index of its own, from 0")
    if number == 0 and (complete := begin(config, of, progress)):
        return complete
    made = make_share(config, number, of, progress)
    return made if number else put_together(config, of, progress)


def begin(config: PrepareConfig, of: int, progress: Callable[[Progress], None] = lambda _: None) -> Prepared | None:
    """Makes the tokenizer, and then the plan for so many shares, which `make_share` waits for.

    Returns:
      The store if it is complete already; else None.
    """
    source, given = Source(config.source), text.load(config.tokenizer) if config.tokenizer else None
    settings = resume.settings(config, given)
    if complete := _complete(config, settings, source):
        return complete
    plan = {"processes": of, "code": code_fingerprint(), "settings": settings, "source_signature": source.signature}
    _begin(config, _place(config), plan, source, given, progress)
    return None


def _complete(config: PrepareConfig, settings: dict, source: Source) -> Prepared | None:
    """The store, if it is finished and the one that is asked for. Raises InputError if another one is in the way."""
    try:
        meta = resume.finished_meta(config, settings, source)
    except token_store.UnusableStore as error:
        if not config.overwrite:
            raise InputError(f"{error}; choose another --store, or pass --overwrite to replace it") from None
        return None
    return Prepared(meta, was_complete=True) if meta else None


def make_share(
    config: PrepareConfig, number: int, of: int, progress: Callable[[Progress], None] = lambda _: None
) -> Prepared:
    """Makes a share; if it was made already, or in part, only the rest of it."""
    place = _place(config)
    plan = _wait_for(place / PLAN, progress)
    _check_plan(place, plan, {"processes": of, "code": code_fingerprint(), "settings": plan["settings"]})
    return prepare(_of_share(config, place, number, of), progress, Share(number, of, plan["code"]))


def put_together(config: PrepareConfig, of: int, progress: Callable[[Progress], None] = lambda _: None) -> Prepared:
    """Makes the store of its shares, for which it waits, and removes them; once more, it leaves the store as it is."""
    place, given = _place(config), text.load(config.tokenizer) if config.tokenizer else None
    if complete := _complete(config, resume.settings(config, given), Source(config.source)):
        return complete
    plan, shares = token_store.read_json(place / PLAN), []
    for number in range(of):
        _wait_for(_folder(place, number, of) / token_store.META, progress)
        shares.append(TokenStore.open(_folder(place, number, of)))
    meta = _together(config, plan, place, shares)
    remove_folder(place)
    return Prepared(meta, was_complete=False)


def _place(config: PrepareConfig) -> Path:
    return config.store.with_name(f"{config.store.name}.shares")


def code_fingerprint() -> str:
    """Identifies the code that determines the bytes of a store."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(path for room in ("data", "data/corpus", "text") for path in (package / room).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _folder(place: Path, number: int, of: int) -> Path:
    return place / f"{number:05d}-of-{of:05d}"


def _of_share(config: PrepareConfig, place: Path, number: int, of: int) -> PrepareConfig:
    return replace(config, store=_folder(place, number, of), tokenizer=str(place / token_store.TOKENIZER))


def _begin(
    config: PrepareConfig,
    place: Path,
    plan: dict,
    source: Source,
    given: text.Tokenizer | None,
    progress: Callable[[Progress], None],
) -> None:
    """Process 0: makes the tokenizer, and then the plan, which the others wait for."""
    if (place / PLAN).is_file():
        try:
            return _check_plan(place, token_store.read_json(place / PLAN), plan)
        except InputError:
            if not config.overwrite:
                raise
            remove_folder(place)
    source.check_files()
    tokenizer = given or trained_tokenizer(config, source, progress)
    replace_folder(place / token_store.TOKENIZER, tokenizer.save)
    write_atomically(place / PLAN, json_text(plan, indent=1) + "\n")


def _check_plan(place: Path, found: dict, expected: dict) -> None:
    what = {"processes": "for another number of processes", "code": "by another version of the code"}
    for key, value in expected.items():
        if found.get(key) != value:
            why = what.get(key, f"with other {key.replace('_', ' ')}")
            raise InputError(
                f"{place} was begun {why} ({found.get(key)}, now {value}): start all processes with the same, or give "
                "process 0 --overwrite to begin anew"
            )


def _wait_for(path: Path, progress: Callable[[Progress], None]) -> dict:
    while not path.is_file():
        progress(Progress("wait"))
        time.sleep(POLL_SECONDS)
    return token_store.read_json(path)


def _together(config: PrepareConfig, plan: dict, place: Path, shares: list[TokenStore]) -> dict:
    """Puts the shares together, in their order."""
    tokenizer = text.load(place / token_store.TOKENIZER)
    for number, share in enumerate(shares):
        made = share.meta["settings"]
        if made.get("share") != [number, len(shares)] or made.get("code") != plan["code"]:
            raise InputError(f"{share.path} was made by another version of the code: remove it, and start its process")
        if share.meta["tokenizer_fingerprint"] != tokenizer.fingerprint:
            raise InputError(f"{share.path} was made with another tokenizer: remove it, and start its process again")
    store = config.store if is_local(config.store) else cache.work_folder(config.store)
    resume.open_journal(store, plan["settings"], Source(config.source))
    replace_folder(store / token_store.TOKENIZER, tokenizer.save)
    digest, counts, read = Digest(), Counter(), Counter()
    with contextlib.ExitStack() as stack:
        local = replace(config, store=store)
        writers = {name: open_writer(local, name, tokenizer, {"splits": {}}) for name in token_store.SPLITS}
        for writer in writers.values():
            stack.callback(writer.close)
        for share in shares:
            for name, writer in writers.items():
                _copy(share.split(name), writer)
            digest.extend((share.folder / token_store.DIGESTS).read_bytes())
            counts["characters"] += share.meta["characters"]
            counts.update({reason: share.meta["cleaned"][reason] for reason in CLEANED})
            read["documents"] += share.meta["documents_read"]
        if not writers["train"].num_documents:
            raise InputError(f"no text to train on in {', '.join(config.source.specs)}")
        journal = {
            "settings": plan["settings"],
            "documents": read["documents"],
            "digest": digest.hexdigest(),
            "counts": dict(counts),
        }
        found = Read(plan["source_signature"], _taken_for(shares), Counter())
        meta = finish(store, found, tokenizer, journal, writers)
    if store != config.store:
        publish_store(store, config.store)
    return meta


def _copy(split: Split, writer: SplitWriter) -> None:
    for block in _blocks(split):
        writer.append(block)


def _blocks(split: Split) -> Iterator[TokenBlock]:
    """The documents of a split, about `COPIED` tokens at a time."""
    sentences, documents = split.sentence_offsets, split.document_offsets
    starts = sentences[documents]  # the token where each document begins, and the end
    first = 0
    while first < split.num_documents:
        last = int(np.searchsorted(starts, starts[first] + COPIED, side="right")) - 1
        last = min(max(last, first + 1), split.num_documents)
        tokens = split.read(starts[first:last], starts[first + 1 : last + 1])
        lengths = np.diff(sentences[documents[first] : documents[last] + 1])
        yield TokenBlock(tokens, lengths, np.diff(documents[first : last + 1]))
        first = last


def _taken_for(shares: list[TokenStore]) -> list[dict]:
    """What `Source.taken_for` would say of all of them."""
    kinds: dict[str, dict] = {}
    for taken in (taken for share in shares for taken in share.meta["taken_for"]):
        if taken["kind"] not in kinds:
            kinds[taken["kind"]] = dict(taken)
        else:
            for name in ("files", "documents"):
                kinds[taken["kind"]][name] += taken[name]
    return list(kinds.values())

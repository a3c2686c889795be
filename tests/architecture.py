"""What the layout of the packages promises, checked on source text alone: nothing is imported."""

import ast
import pathlib
from collections.abc import Iterator

# Imports run downward only. `tx_jax/__init__.py` is the front door's: it hands out the names of `tx_jax/api.py`.
FLOORS = (
    {"added", "batch", "config", "sharding", "shipped", "tree", "errors", "files", "storage", "text", "web"},
    {"nn", "data", "hosts"},
    {"models"},
    {"tasks", "convert", "decoding", "interpret"},
    {"runs"},
    {"evaluation"},
    {"training"},
    {"planning"},
    {"arguments", "sweeps", "reports", "doctor", "launch", "console", "api", "extend", "loaded"},
    {"experiments"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Pairs of one floor that never meet; rooms of the other floors may use each other.
STRANGERS = ({"nn", "data"}, {"nn", "hosts"}, {"data", "hosts"})
WITHOUT_JAX = {"data", "text"}
JAX_LIBRARIES = {"jax", "flax", "optax", "orbax", "chex"}
MAY_USE_LINEN = {"nn", "models", "interpret"}
CONFIGS_MAY_IMPORT = {"ml_collections", "configs"}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc"}
MAX_LINES = 400


def problems(root: pathlib.Path) -> list[str]:
    """Every breach in `tx_jax/`, `experiments/` and `configs/` below `root`, as `path:line: what`."""
    found = []
    for folder in ("tx_jax", "experiments", "configs"):
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root)
            found += [f"{relative}{text}" for text in _problems_of(relative, path.read_text(encoding="utf-8"))]
    return found


def _problems_of(path: pathlib.Path, source: str) -> Iterator[str]:
    room = _room(path.with_suffix("").parts)
    if path.parts[0] != "configs":
        lines = source.count("\n")
        if lines > MAX_LINES:
            yield f": {lines} lines, more than {MAX_LINES}"
    if FORBIDDEN_NAMES & set(path.with_suffix("").parts):
        yield ": name the concept, not 'utils' or 'common'"
    if path.parts[0] == "tx_jax" and room and room not in FLOOR_OF:
        yield f": the room {room!r} has no floor"
    for line, name in _imports(path, source):
        for text in _breaches(path, room, name):
            yield f":{line}: {text}"


def _breaches(path: pathlib.Path, room: str, name: str) -> Iterator[str]:
    top = name.split(".")[0]
    if path.parts[0] == "configs":
        if top not in CONFIGS_MAY_IMPORT:
            yield f"configs import ml_collections and configs only, not {name}"
        return
    if room in WITHOUT_JAX and top in JAX_LIBRARIES:
        yield f"{room} does without jax, but imports {name}"
    if (name + ".").startswith("flax.linen.") and room not in MAY_USE_LINEN:
        yield f"only {', '.join(sorted(MAY_USE_LINEN))} import flax.linen"
    if top == "tests" or (top == "configs" and path.parts[0] == "tx_jax"):
        yield f"imports {name}"
    other = _room(name.split("."))
    if other and room != other:
        if FLOOR_OF.get(other, 0) > FLOOR_OF.get(room, -1):
            yield f"{room or 'tx_jax'} imports {name}, which is above it"
        if any({room, other} == pair for pair in STRANGERS):
            yield f"{room} and {other} never meet, but it imports {name}"


def _room(parts: list[str] | tuple[str, ...]) -> str:
    """`nn` of tx_jax/nn/mlp.py or tx_jax.nn.mlp, `experiments` of experiments/train.py, "" of anything else."""
    if parts[0] == "experiments":
        return "experiments"
    if tuple(parts) == ("tx_jax", "__init__"):
        return "api"
    return parts[1] if parts[0] == "tx_jax" and len(parts) > 1 and parts[1] != "__init__" else ""


def _imports(path: pathlib.Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything imported, also inside functions."""
    package = path.parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            base += [node.module] if node.module else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])

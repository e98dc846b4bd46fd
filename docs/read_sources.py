"""What the code says of itself, read as text: schemas with the comment beside each key, docstrings, commands."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "segmentation"


class Key(NamedTuple):
    """One field of a schema."""

    name: str
    kind: str
    default: str
    comment: str


class Schema(NamedTuple):
    """One dataclass of segmentation/config.py."""

    doc: str
    keys: list[Key]


def comments(source: str) -> dict[int, str]:
    """The comment of each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def read_schemas() -> tuple[dict[str, Schema], dict[str, str]]:
    """The schemas by the names of their classes, and which class each command has."""
    source = (PACKAGE / "config.py").read_text()
    said, schemas, commands = comments(source), dict[str, Schema](), dict[str, str]()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            inherited = [key for base in node.bases for key in schemas[ast.unparse(base)].keys]
            own = [read_key(field, said) for field in node.body if isinstance(field, ast.AnnAssign)]
            schemas[node.name] = Schema(ast.get_docstring(node) or "", inherited + own)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCHEMAS":
            assert isinstance(node.value, ast.Dict)
            commands = {
                ast.literal_eval(key): ast.unparse(value)
                for key, value in zip(node.value.keys, node.value.values, strict=True)
                if key is not None
            }
    return schemas, commands


def read_key(node: ast.AnnAssign, said: dict[int, str]) -> Key:
    """A field: its default as YAML has it, its comment from whichever of its lines carries one."""
    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    value = node.value
    if isinstance(value, ast.Call):
        factory = value.keywords[0].value
        made = factory.body if isinstance(factory, ast.Lambda) else factory
        default = {"dict": "{}", "list": "[]"}.get(ast.unparse(made), "" if made is factory else ast.unparse(made))
    elif isinstance(value, ast.Constant):
        default = {"None": "null", "True": "true", "False": "false"}.get(str(value.value), str(value.value))
    else:
        default = "" if value is None or ast.unparse(value) == "MISSING" else ast.unparse(value)
    comment = " ".join(said[line] for line in lines if line in said)
    return Key(ast.unparse(node.target), ast.unparse(node.annotation), default, comment)


def definition(path: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The class or function of the project that a dotted path names."""
    module, _, name = path.rpartition(".")
    file = ROOT / Path(*module.split(".")).with_suffix(".py")
    if not module.startswith("segmentation.") or not file.is_file():
        return None
    found = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return next((node for node in found if node.name == name), None)


def docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A docstring as Markdown: its arguments as a list."""
    words, _, arguments = (ast.get_docstring(node) or "").partition("\nArgs:\n")
    text = re.sub(r"^(Returns|Raises):\n", r"\1:\n\n", words, flags=re.MULTILINE)
    for entry in re.split(r"\n(?=    \w)", arguments.partition("\n\n")[0].rstrip()):
        name, colon, meaning = " ".join(entry.split()).partition(":")
        text += f"\n- `{name}`:{meaning}" if colon else ""
    return text.strip() + "\n"


def public(module: str) -> list[str]:
    """The paths of a module's public functions."""
    tree = ast.parse((ROOT / Path(*module.split(".")).with_suffix(".py")).read_text())
    return [
        f"{module}.{node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def command_modules() -> Iterator[tuple[str, ast.Module]]:
    """The modules that `python -m` runs, by name."""
    for file in sorted(PACKAGE.glob("*.py")):
        source = file.read_text()
        if '\nif __name__ == "__main__":' in source:
            yield file.stem, ast.parse(source)


def literal(node: ast.expr | None) -> str:
    """What an expression stands for where it is plain, and how it is written where not; nothing for None."""
    try:
        value = ast.literal_eval(node) if node else None
    except ValueError:
        return ast.unparse(node) if node else ""
    return "" if value is None else str(value)

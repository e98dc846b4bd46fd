"""Write docs/reference: a page for each command and each configuration group, from what stands in the code itself.

Everything is read as text, nothing is imported: `conf/` with the comments at the top of each YAML, the schemas in
segmentation/config.py with the comment beside each key, the options of the commands without a schema, and the
docstrings of what the YAML files name. Run by `make docs`.
"""

import ast
import io
import re
import shutil
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONF, PACKAGE, TARGET = ROOT / "conf", ROOT / "segmentation", ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; change it there. -->\n"
# Modules whose public functions a key of the group names.
NAMED_BY = {"lstm": "segmentation.models.orders", "scheduler": "segmentation.optim"}


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


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of Markdown, the first as the head."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def code(text: str) -> str:
    """Text in Markdown's quotes for code, or nothing."""
    return f"`{text}`" if text else ""


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


def group_page(group: str, schema: Schema | None) -> str:
    """A configuration group: its keys, its choices as they stand, and what they name."""
    files = sorted((CONF / group).glob("*.yaml"))
    parts = [NOTE, f"# `{group}=`\n", schema.doc if schema else ""]
    if schema:
        rows = [(code(key.name), code(key.kind), code(key.default) or "required", key.comment) for key in schema.keys]
        parts.append("## Keys\n\n" + table([("key", "type", "default", "is"), *rows]))
    parts.append("## Choices\n")
    named: list[str] = []
    for file in files:
        lines = file.read_text().splitlines()
        start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
        words = " ".join(line.lstrip("# ") for line in lines[:start] if not line.startswith("# @"))
        parts.append(f"### `{group}={file.stem}`\n")
        parts += [f"{words}\n"] * bool(words)
        parts.append("```yaml\n" + "\n".join(lines[start:]) + "\n```\n")
        named += re.findall(r"_target_: (segmentation\.[\w.]+)", "\n".join(lines[start:]))
    named += [key.default for key in (schema.keys if schema else []) if key.name == "_target_"]
    if group in NAMED_BY:
        named += public(NAMED_BY[group])
    described = [(name, node) for name in sorted(set(named)) if (node := definition(name))]
    if described:
        parts.append("## What they name\n")
        parts += [f"### `{name}`\n\n{docstring(node)}" for name, node in described]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def public(module: str) -> list[str]:
    """The paths of a module's public functions."""
    tree = ast.parse((ROOT / Path(*module.split(".")).with_suffix(".py")).read_text())
    return [
        f"{module}.{node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def schema_page(command: str, schema: Schema, schemas: dict[str, Schema], groups: set[str]) -> str:
    """A command that Hydra configures."""
    defaults = re.findall(r"^  - (?:optional )?([a-z]\w*): (\S+)", (CONF / f"{command}.yaml").read_text(), re.MULTILINE)
    parts = [NOTE, f"# `python -m segmentation.{command}`\n", schema.doc + "\n"]
    chosen = [(f"[`{group}=`](../groups/{group}.md)", code(choice)) for group, choice in defaults if group in groups]
    if chosen:
        parts.append("## Groups\n\n" + table([("group", "default"), *chosen]))
    rows: list[tuple[str, ...]] = [("key", "type", "default", "is")]
    for key in schema.keys:
        if key.name in groups:
            continue
        if key.kind in schemas:  # a schema that is no group
            rows += [(code(f"{key.name}.{k.name}"), code(k.kind), code(k.default) or "required", k.comment)
                     for k in schemas[key.kind].keys]  # fmt: skip
        else:
            rows.append((code(key.name), code(key.kind), code(key.default) or "required", key.comment))
    parts.append("## Keys\n\n" + table(rows))
    return "\n".join(parts)


def options_page(command: str, tree: ast.Module) -> str:
    """A command with options: those that its parser is told."""
    rows: list[tuple[str, ...]] = [("option", "default", "is")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            said = {word.arg: word.value for word in node.keywords}
            names = " ".join(ast.literal_eval(name) for name in node.args)
            default = said.get("default")
            text = ast.literal_eval(said["help"]) if "help" in said else ""
            rows.append((code(names), code(str(ast.literal_eval(default))) if default else "", text))
    doc = ast.get_docstring(tree) or ""
    return "\n".join([NOTE, f"# `python -m segmentation.{command}`\n", doc + "\n", "## Options\n\n" + table(rows)])


def command_modules() -> Iterator[tuple[str, ast.Module]]:
    """The modules that `python -m` runs, by name."""
    for file in sorted(PACKAGE.glob("*.py")):
        source = file.read_text()
        if '\nif __name__ == "__main__":' in source:
            yield file.stem, ast.parse(source)


def pages() -> dict[str, str]:
    """All pages by their paths below docs/reference."""
    schemas, commands = read_schemas()
    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    of_group = {key.name: schemas[key.kind] for name in commands.values() for key in schemas[name].keys
                if key.kind in schemas}  # fmt: skip
    written, index = {}, [NOTE, "# Reference\n", "## Commands\n"]
    for command, tree in command_modules():
        schema = schemas[commands[command]] if command in commands else None
        page = schema_page(command, schema, schemas, groups) if schema else options_page(command, tree)
        written[f"commands/{command}.md"] = page
        purpose = (ast.get_docstring(tree) or "").partition("\n\n")[0].partition(": ")[2].replace("\n", " ")
        index.append(f"- [`{command}`](commands/{command}.md): {purpose}")
    index.append("\n## Configuration groups\n")
    for group in sorted(groups):
        written[f"groups/{group}.md"] = group_page(group, of_group.get(group))
        choices = " ".join(f"`{file.stem}`" for file in sorted((CONF / group).glob("*.yaml")))
        index.append(f"- [`{group}=`](groups/{group}.md): {choices}")
    return written | {"README.md": "\n".join(index) + "\n"}


def main() -> None:
    shutil.rmtree(TARGET, ignore_errors=True)
    for name, text in pages().items():
        (TARGET / name).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / name).write_text(text)
    print(f"{TARGET.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()

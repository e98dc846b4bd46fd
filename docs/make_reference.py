"""Write docs/reference: a page for each command and each configuration group, from what stands in the code itself.

Everything is read as text, nothing is imported: `conf/` with the comments at the top of each YAML, the schemas in
segmentation/config.py with the comment beside each key, the options of the commands without a schema, and the
docstrings of what the YAML files name. Run by `make docs`.
"""

import ast
import re
import shutil

from read_sources import ROOT, Schema, command_modules, definition, docstring, literal, public, read_schemas

CONF, TARGET = ROOT / "conf", ROOT / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; change it there. -->\n"
# Modules whose public functions a key of the group names.
NAMED_BY = {"lstm": "segmentation.models.orders", "scheduler": "segmentation.optim"}


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of Markdown, the first as the head."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def code(text: str) -> str:
    """Text in Markdown's quotes for code, or nothing."""
    return f"`{text}`" if text else ""


def group_page(group: str, schema: Schema | None) -> str:
    """A configuration group: its keys, its choices as they stand, and what they name."""
    files = sorted((CONF / group).glob("*.yaml"))
    parts = [NOTE, f"# `{group}=`\n", f"{schema.doc}\n" if schema and schema.doc else ""]
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
    if len(rows) > 1:
        parts.append("## Keys\n\n" + table(rows))
    return "\n".join(parts)


def options_page(command: str, tree: ast.Module) -> str:
    """A command with options: those that its parser is told."""
    rows: list[tuple[str, ...]] = [("option", "default", "is")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            said = {word.arg: word.value for word in node.keywords}
            names = " ".join(literal(name) for name in node.args)
            rows.append((code(names), code(literal(said.get("default"))), literal(said.get("help"))))
    doc = ast.get_docstring(tree) or ""
    return "\n".join([NOTE, f"# `python -m segmentation.{command}`\n", doc + "\n", "## Options\n\n" + table(rows)])


def pages() -> dict[str, str]:
    """All pages by their paths below docs/reference."""
    schemas, commands = read_schemas()
    groups = {folder.name for folder in CONF.iterdir() if any(folder.glob("*.yaml"))}
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

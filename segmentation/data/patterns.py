"""Which samples a split has: fields of path patterns, taken from the lines of a list file or from the paths there are."""

import glob
import re
from collections.abc import Mapping
from pathlib import Path

from segmentation.errors import UserError, nearest

Fields = dict[str, str]
FIELD = re.compile(r"\{(\w+)\}")


def fill(key: str, pattern: str, fields: Mapping[str, str]) -> str:
    """The pattern with its `{field}`s filled in; `key` says in errors where it stands in the configuration."""
    unknown = set(FIELD.findall(pattern)) - set(fields)
    if unknown:
        field = min(unknown)
        raise UserError(f"data.reader.{key}: nothing fills {{{field}}} in {pattern!r}; {nearest(field, fields)}")
    return FIELD.sub(lambda match: fields[match[1]], pattern)


def match_lines(path: Path, line: str) -> list[Fields]:
    """The fields in each line of a list file, empty lines aside; none where there is no such file."""
    try:
        expression = re.compile(line)
    except re.error as error:
        raise UserError(f"data.reader.line: {line!r} is not a regular expression: {error}") from error
    if "name" not in expression.groupindex:
        raise UserError(f"data.reader.line: {line!r} has no group (?P<name>...)")
    if not path.is_file():
        return []
    entries = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        if not text.strip():
            continue
        match = expression.match(text.strip())
        if match is None:
            raise UserError(f"{path}:{number}: {text!r} does not fit data.reader.line={line!r}")
        entries.append(match.groupdict(default=""))
    return entries


def match_paths(root: Path, pattern: str) -> list[Fields]:
    """The fields in each path below `root` that fits the pattern, in the paths' order; a field has no `/` in it."""
    if "name" not in FIELD.findall(pattern):
        raise UserError(f"data.reader.image: {pattern!r} has no field {{name}}")
    literals, fields = FIELD.split(pattern)[::2], FIELD.findall(pattern)
    expression = re.escape(literals[0])
    for index, (field, literal) in enumerate(zip(fields, literals[1:], strict=True)):
        again = field in fields[:index]
        expression += (f"(?P={field})" if again else f"(?P<{field}>[^/]+)") + re.escape(literal)
    # Path.glob takes `[` for a wildcard, and folders and files may have it in their names.
    wildcard = "*".join(glob.escape(literal) for literal in literals)
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob(wildcard))
    return [match.groupdict() for match in map(re.compile(expression).fullmatch, paths) if match]

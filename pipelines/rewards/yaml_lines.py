"""YAML documents with the lines that their fields stand on, so that errors can name them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from pipelines.errors import CardlineError

_OWN_RULES = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int")


class TermsLoader(yaml.SafeLoader):
    """YAML in which `on`, `off`, `yes` and `no` are words: closures are told by the field `on`.

    What begins with a zero is text, such as the merchant category 0742, and no octal number.
    A key that is there twice and a date that does not exist are errors with their line.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OWN_RULES]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each of its keys there once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        """A date or a time."""
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError as error:
            raise ConstructorError(None, None, f"{node.value}: {error}", node.start_mark) from error


TermsLoader.add_constructor("tag:yaml.org,2002:timestamp", TermsLoader.construct_yaml_timestamp)
TermsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
TermsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)


@dataclass(frozen=True)
class Lines:
    """Where the fields of one document stand; `first` is the line of its first field."""

    first: int
    _root: yaml.Node

    def of(self, location: Sequence[int | str]) -> int:
        """The line of the field at `location` (keys and list positions), counted from 1.

        Parts that lead out of the document are left away: a missing field has the line of the
        mapping that lacks it.
        """
        node, line = self._root, self.first
        for part in location:
            found = _child(node, part)
            if found is None:
                break
            marked, node = found
            line = marked.start_mark.line + 1
        return line


def documents(text: str) -> Iterator[tuple[Any, Lines]]:
    """The documents of a YAML text, empty ones left out, each with its lines.

    Raises `yaml.YAMLError` where the text is not YAML.
    """
    loader = TermsLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            document = loader.construct_document(node)
            if document is not None:
                yield document, Lines(node.start_mark.line + 1, node)
    finally:
        loader.dispose()


def read_documents(path: Path) -> list[tuple[Any, Lines]]:
    """The documents of the file at `path`; `CardlineError` with its line where it is not YAML."""
    try:
        return list(documents(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        message = " ".join((getattr(error, "problem", None) or str(error)).split())
        raise CardlineError(f"{place}: not readable as YAML: {message}") from error


def _child(node: yaml.Node, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that bears the mark of `part` (its key, or itself) and the node of its value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None

"""YAML documents with the lines that their fields stand on, so that errors can name them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml


class TermsLoader(yaml.SafeLoader):
    """YAML in which `on`, `off`, `yes` and `no` are words: closures are told by the field `on`."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


TermsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
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


def _child(node: yaml.Node, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that bears the mark of `part` (its key, or itself) and the node of its value."""
    if isinstance(node, yaml.MappingNode):
        # Of a key that is there twice the last one counts.
        for key, value in reversed(node.value):
            if key.value == part:
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None

"""YAML documents with the lines that their fields stand on, so that errors can name them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml


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
    loader = yaml.SafeLoader(text)
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

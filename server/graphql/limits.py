"""How large a GraphQL document may be.

Two passes, both linear in the text. ``scan`` reads the characters before the recursive parser sees them;
``measure`` walks the parsed document before the validation rules do, some of which take time quadratic in
its size. Each fragment is measured once, whatever the number of its spreads, so that fragments that double
one another cost nothing to refuse.
"""

import re
from collections import Counter
from typing import cast

import msgspec
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)

from server.graphql.config import QueryLimits

#: One lexical token (https://spec.graphql.org/draft/#sec-Appendix-Grammar-Summary.Lexical-Tokens). A string
#: that never ends is a token too, and nothing after a loop can fail, so that no text is read twice. A block
#: string ends at the first three quotes without a backslash, another one with its line at the latest.
#: Loops over groups are not possessive: Python before 3.11.5 loses its place in those (cpython gh-106052).
_TOKEN = re.compile(
    r"""
      \"{3} (?: [^"\\]++ | \\ (?:\"{3})? | "(?!"") )* (?: \"{3} | \Z )
    | "     (?: [^"\\\n\r]++ | \\ [^\n\r] )* "?+
    | \#    [^\n\r]*+
    | [_A-Za-z][_0-9A-Za-z]*+
    | -?+[0-9][0-9A-Za-z_.+-]*+
    | \.\.\.
    | [^\s,\ufeff]
    """,
    re.VERBOSE,
)
_SATURATED = 1_000_000


class Scan(msgspec.Struct, frozen=True):
    """What a text is made of."""

    tokens: int
    #: What is too large, for the client; None when nothing is.
    excess: str | None = None


def scan(text: str, limits: QueryLimits) -> Scan:
    """Count tokens and open brackets; those inside strings and comments are text."""
    if len(text) > limits.characters:
        return Scan(0, f"The query is longer than {limits.characters} characters.")
    tokens = depth = 0
    for match in _TOKEN.finditer(text):
        tokens += 1
        if tokens > limits.tokens:
            return Scan(tokens, f"The query has more than {limits.tokens} tokens.")
        first = text[match.start()]
        if first in "{[(":
            depth += 1
            if depth > limits.brackets:
                return Scan(tokens, f"The query has more than {limits.brackets} open brackets.")
        elif first in "}])":
            depth -= 1
    return Scan(tokens)


class Measure(msgspec.Struct):
    """What a part of a document adds to the answer; fragments count at each of their spreads.

    Attributes:
        width: fields on the uppermost level alone.
        repeats: how often each name is a field's in the text, squared and added up.
        visited: selections looked at to find all this out: the work of measuring.
    """

    aliases: int = 0
    fields: int = 0
    width: int = 0
    directives: int = 0
    depth: int = 0
    repeats: int = 0
    visited: int = 0

    def add(self, other: "Measure") -> None:
        """Add a neighbour. Counters stop at a million: doubled fragments would otherwise count for long."""
        self.aliases = min(self.aliases + other.aliases, _SATURATED)
        self.fields = min(self.fields + other.fields, _SATURATED)
        self.width = min(self.width + other.width, _SATURATED)
        self.directives = min(self.directives + other.directives, _SATURATED)
        self.depth = max(self.depth, other.depth)


class _Walk:
    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._known: dict[str, Measure] = {}
        self._open: set[str] = set()
        self.names: Counter[str] = Counter()
        self.visited = 0

    def selections(self, node: SelectionSetNode | None) -> Measure:
        total = Measure()
        if node is None:
            return total
        for selection in node.selections:
            self.visited += 1
            if isinstance(selection, FieldNode):
                part = self._field(selection)
            elif isinstance(selection, FragmentSpreadNode):
                part = self._fragment(selection.name.value)
            else:
                # The third and last kind of selection.
                part = self.selections(cast("InlineFragmentNode", selection).selection_set)
            total.add(part)
            total.directives = min(total.directives + len(selection.directives or ()), _SATURATED)
        return total

    def _field(self, node: FieldNode) -> Measure:
        self.names[(node.alias or node.name).value] += 1
        inner = self.selections(node.selection_set)
        return Measure(
            aliases=inner.aliases + (node.alias is not None),
            fields=inner.fields + 1,
            width=1,
            directives=inner.directives,
            depth=inner.depth + 1,
        )

    def _fragment(self, name: str) -> Measure:
        known = self._known.get(name)
        if known is not None:
            return known
        if name in self._open or name not in self._fragments:
            # A cycle or an unknown fragment: validation says so.
            return Measure()
        self._open.add(name)
        measured = self._known[name] = self.selections(self._fragments[name].selection_set)
        self._open.discard(name)
        return measured


def measure(document: DocumentNode) -> Measure:
    """Measure all operations of a document together.

    But for ``width``, which is the widest mutation's, and ``repeats``, where a fragment counts once.
    """
    walk = _Walk(document)
    total = Measure()
    mutations = 0
    for node in document.definitions:
        total.directives += len(getattr(node, "directives", None) or ())
        if not isinstance(node, OperationDefinitionNode):
            continue
        total.directives += sum(
            len(variable.directives or ()) for variable in node.variable_definitions or ()
        )
        measured = walk.selections(node.selection_set)
        total.add(measured)
        if node.operation is OperationType.MUTATION:
            mutations = max(mutations, measured.width)
    total.width = mutations
    total.repeats = sum(count * count for count in walk.names.values())
    total.visited = walk.visited
    return total


def find_excess(document: DocumentNode, limits: QueryLimits) -> str | None:
    """Say what of a document is over a limit, or None."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    variables = max((len(node.variable_definitions or ()) for node in operations), default=0)
    measured = measure(document)
    counted = (
        (len(document.definitions) - len(operations), limits.fragments, "fragments"),
        (len(operations), limits.operations, "operations"),
        (variables, limits.variables, "variables"),
        (measured.width, limits.mutations, "mutations in one operation"),
        (measured.aliases, limits.aliases, "aliases"),
        (measured.fields, limits.fields, "fields"),
        (measured.directives, limits.directives, "directives"),
        (measured.depth, limits.depth, "levels of fields"),
    )
    for count, limit, what in counted:
        if count > limit:
            return f"The query has more than {limit} {what}."
    if measured.repeats > limits.repeats:
        return "The query has too many fields of the same name."
    return None

"""Documents, ready to run: scanned, parsed, measured and validated once, then remembered by their text."""

from collections import OrderedDict
from http import HTTPStatus

import msgspec
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    parse,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from server.errors import ErrorCode
from server.graphql.config import QueryLimits
from server.graphql.limits import find_excess, scan

_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)


class Document(msgspec.Struct, frozen=True, eq=False):
    """A valid document within the limits."""

    node: DocumentNode
    tokens: int
    operations: dict[str, OperationDefinitionNode]

    def find_operation(self, name: str | None) -> OperationDefinitionNode | None:
        """Return the operation of that name, or the only one there is when no name is given."""
        if name:
            return self.operations.get(name)
        return next(iter(self.operations.values())) if len(self.operations) == 1 else None


class Refused(Exception):
    """A document that will not be run, with the errors to answer."""

    def __init__(self, errors: list[GraphQLError], *, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(errors[0].message)
        self.errors = errors
        self.status = status


def refusal(message: str, code: ErrorCode) -> GraphQLError:
    """Make an error of ours about a request as a whole."""
    return GraphQLError(message, extensions={"code": code.value})


class Documents:
    """Prepares documents for one schema and remembers the valid ones, the least recently used go first.

    Only valid documents are kept: refusing is cheap by the limits. What is kept is bounded by tokens, since
    the memory of a parsed document grows with them (about 500 bytes each).
    """

    def __init__(self, schema: GraphQLSchema, limits: QueryLimits, *, max_tokens: int) -> None:
        self._schema = schema
        self._limits = limits
        self._max_tokens = max_tokens
        self._known: OrderedDict[str, Document] = OrderedDict()
        self._tokens = 0

    def prepare(self, text: str) -> Document:
        """Return the document of a text.

        Raises:
            Refused: it has a syntax error, is over a limit or is not valid for the schema.
        """
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            return known
        document = self._read(text)
        self._remember(text, document)
        return document

    def _read(self, text: str) -> Document:
        scanned = scan(text, self._limits)
        if scanned.excess:
            raise Refused([refusal(scanned.excess, ErrorCode.QUERY_LIMIT)])
        try:
            node = parse(text)
        except GraphQLSyntaxError as error:
            raise Refused([error]) from error
        excess = find_excess(node, self._limits)
        if excess:
            raise Refused([refusal(excess, ErrorCode.QUERY_LIMIT)])
        errors = validate(self._schema, node, _RULES, max_errors=self._limits.errors)
        if errors:
            raise Refused(errors)
        operations = {
            definition.name.value if definition.name else "": definition
            for definition in node.definitions
            if isinstance(definition, OperationDefinitionNode)
        }
        return Document(node, scanned.tokens, operations)

    def _remember(self, text: str, document: Document) -> None:
        self._known[text] = document
        self._tokens += document.tokens
        while self._tokens > self._max_tokens:
            _, forgotten = self._known.popitem(last=False)
            self._tokens -= forgotten.tokens

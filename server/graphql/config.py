"""What an operator may set about the GraphQL face. Sizes in bytes or counts, durations in seconds."""

import msgspec


class QueryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large one GraphQL document may be, and how much it may ask for."""

    #: Characters of the document, before anything reads it.
    characters: int = 32_000
    #: Open brackets at any place, before the recursive parser runs.
    brackets: int = 60
    tokens: int = 3_000
    aliases: int = 50
    #: Nested fields. The introspection query of common tools needs 15.
    depth: int = 16
    #: Fields that would be answered if every list had one element.
    fields: int = 1_500
    #: How often each name is a field's, squared and added up: the dearest validation rule compares each two
    #: fields of one name. Everything of every node has 36,000.
    repeats: int = 80_000
    directives: int = 20
    variables: int = 50
    fragments: int = 50
    #: Tools send every operation of an editor's page together with the name of one.
    operations: int = 10
    #: Root fields of a mutation: each may be as dear as a request.
    mutations: int = 10
    #: Nodes that one operation may be answered with, over all lists.
    nodes: int = 10_000
    #: Errors in one answer.
    errors: int = 10


class GraphQLConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the controller and its sockets."""

    limits: QueryLimits = QueryLimits()
    max_body_bytes: int = 8 * 1024 * 1024
    max_upload_bytes: int = 32 * 1024 * 1024
    #: One message of a socket.
    max_message_bytes: int = 1024 * 1024
    #: Documents whose parsing and validation is remembered, counted in their tokens.
    cached_tokens: int = 100_000
    #: How long a new socket may take to send connection_init.
    init_timeout_s: float = 10.0
    ping_interval_s: float = 20.0
    #: How long after a ping a silent socket is given up.
    pong_timeout_s: float = 10.0
    operations_per_socket: int = 100
    #: Origins other than our own whose pages may open sockets.
    allowed_origins: frozenset[str] = frozenset()
    secure_cookies: bool = False

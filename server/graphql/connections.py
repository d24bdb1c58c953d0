"""Relay connections over the pages of the services (https://relay.dev/graphql/connections.htm)."""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import strawberry

from server.graphql.context import Context
from server.records import Page, PageRequest

T = TypeVar("T")
R = TypeVar("R")

#: Elements of a page whose length nobody asked for.
DEFAULT_FIRST = 50

First = Annotated[
    int | None,
    strawberry.argument(
        description="How many from the start, 1 to 100. Without `first` and `last` it is 50."
    ),
]
After = Annotated[str | None, strawberry.argument(description="The cursor to start behind, with `first`.")]
Last = Annotated[int | None, strawberry.argument(description="How many from the end, 1 to 100.")]
Before = Annotated[str | None, strawberry.argument(description="The cursor to end before, with `last`.")]


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """Relay's PageInfo."""

    has_next_page: bool = strawberry.field(description="Whether there is more behind this page.")
    has_previous_page: bool = strawberry.field(description="Whether there is more before this page.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first edge.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last edge.")


@strawberry.type(description="One element of a page.")
class Edge(Generic[T]):
    """Relay's Edge."""

    node: T = strawberry.field(description="The element.")
    cursor: str = strawberry.field(description="What `after` and `before` take to go on from here.")


@strawberry.type(description="A page of a list, newest first.")
class Connection(Generic[T]):
    """Relay's Connection."""

    edges: list[Edge[T]] = strawberry.field(description="The page's elements.")
    page_info: PageInfo = strawberry.field(description="Where the page lies in its list.")
    total_count: int | None = strawberry.field(description="How many there are in all, where that is known.")


def page_request(
    *, first: int | None, after: str | None, last: int | None, before: str | None
) -> PageRequest:
    """Make a service's page request of a connection's arguments."""
    if first is None and last is None:
        first = DEFAULT_FIRST
    return PageRequest(first=first, after=after, last=last, before=before)


def connection(context: Context, page: Page[R], to_node: Callable[[R], T]) -> Connection[T]:
    """Make a connection of a service's page.

    Raises:
        QueryLimitReached: the operation's answer grows too large.
    """
    context.spend(len(page.items))
    return Connection(
        edges=[
            Edge(node=to_node(item), cursor=cursor)
            for item, cursor in zip(page.items, page.cursors, strict=True)
        ],
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=page.cursors[0] if page.cursors else None,
            end_cursor=page.cursors[-1] if page.cursors else None,
        ),
        total_count=page.total,
    )

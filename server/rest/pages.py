"""Lists over REST: one page, and where the next one begins."""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import msgspec
from litestar.params import Parameter

from server.records import Page, PageRequest

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_PAGE_SIZE = 50

First = Annotated[
    int | None, Parameter(description="How many of the newest, 1 to 100; 50 if nothing is said.")
]
After = Annotated[str | None, Parameter(description="The `next_cursor` of the page before this one.")]


class PageBody(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page, newest first."""

    data: list[T]
    has_more: bool
    #: What `after` takes for the next page; null when there is none.
    next_cursor: str | None


def page_request(first: int | None, after: str | None) -> PageRequest:
    """Make the request for a page out of the query parameters."""
    return PageRequest(first=DEFAULT_PAGE_SIZE if first is None else first, after=after)


def page_body(page: Page[R], to_body: Callable[[R], T]) -> PageBody[T]:
    """Write a page."""
    return PageBody(
        data=[to_body(item) for item in page.items],
        has_more=page.has_next,
        next_cursor=page.cursors[-1] if page.has_next else None,
    )

"""Who is asking."""

import strawberry

from server.graphql.context import Info
from server.graphql.types.accounts import User


@strawberry.type
class AccountQueries:
    """The caller's account."""

    @strawberry.field(description="The account that asks; null for somebody who has not signed in.")
    async def viewer(self, info: Info) -> User | None:
        """Find the caller's account."""
        context = info.context
        if context.principal is None:
            if context.refusal is not None:
                # Not nobody, but somebody whose credential does not hold: they should know.
                raise context.refusal
            return None
        record = await context.loaders.user(context.principal.user_id)
        return User.of(record) if record else None

"""Looking things up by their ids."""

from typing import Annotated, cast

import strawberry

from server.errors import InvalidInput
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.nodes import find_node
from server.graphql.types.node import Node

MAX_IDS = 100


@strawberry.type
class NodeQueries:
    """Relay's ways in."""

    @strawberry.field(
        description="What an id names; null when there is no such thing or it is somebody else's."
    )
    async def node(
        self,
        info: Info,
        global_id: Annotated[strawberry.ID, strawberry.argument(name="id", description="The id.")],
    ) -> Node | None:
        """Find one."""
        info.context.spend(1)
        return await find_node(info, global_id, ("id",))

    @strawberry.field(description="What up to 100 ids name, in their order, each as `node` has it.")
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="The ids.")],
    ) -> list[Node | None]:
        """Find several. Each fails by itself; those that don't are looked up together."""
        require_principal(info)
        if len(ids) > MAX_IDS:
            raise InvalidInput(f"At most {MAX_IDS} ids.", path=("ids",))
        info.context.spend(len(ids))
        found = [find_node(info, global_id, ("ids", str(index))) for index, global_id in enumerate(ids)]
        return cast("list[Node | None]", found)

"""What can be looked up by its id."""

import strawberry


@strawberry.interface(description="Anything that can be looked up by its id.")
class Node:
    """Relay's Node."""

    id: strawberry.ID = strawberry.field(description="Opaque, and unique over all types.")

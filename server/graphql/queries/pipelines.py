"""Which pipelines there are, and which `auto` would take."""

from typing import Annotated

import strawberry

from server.auth.principal import Scope
from server.errors import NotFound
from server.graphql import ids
from server.graphql.connections import After, Before, Connection, First, Last, connection, page_request
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.enums import Modality
from server.graphql.types.pipelines import Pipeline, PipelineSelection


@strawberry.type
class PipelineQueries:
    """Pipelines are the same for everybody who has signed in."""

    @strawberry.field(description="Every pipeline that is or was hosted.")
    async def pipelines(
        self,
        info: Info,
        modality: Annotated[
            Modality | None, strawberry.argument(description="Only those for this kind of thing.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Pipeline]:
        """Page through pipelines."""
        require_principal(info)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.pipelines.page(modality, request)
        return connection(info.context, page, Pipeline.of)

    @strawberry.field(description="The pipeline of a name.")
    async def pipeline(
        self, info: Info, name: Annotated[str, strawberry.argument(description="Its name.")]
    ) -> Pipeline | None:
        """Find one by its name."""
        require_principal(info)
        record = await info.context.loaders.pipeline_named(name)
        if record is None:
            raise NotFound("There is no pipeline of this name.", path=("name",))
        return Pipeline.of(record)

    @strawberry.field(
        description="Which pipeline `auto` would take for this file, and why. Needs READ or EMBED."
    )
    async def select_pipeline(
        self, info: Info, file_id: Annotated[strawberry.ID, strawberry.argument(description="The file.")]
    ) -> PipelineSelection | None:
        """Choose as `embed` would."""
        require_principal(info, Scope.READ, Scope.EMBED)
        path = ("file_id",)
        record = await info.context.loaders.file(ids.decode_as("File", file_id, path))
        if record is None:
            raise NotFound("There is no such file.", path=path)
        return PipelineSelection.of(await info.context.services.selector.for_file(record))

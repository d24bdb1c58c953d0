"""The composition root of the server process, and nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide

from server.auth.guards import require_principal
from server.auth.headers import SecurityHeaders
from server.auth.hosts import HostCheck
from server.auth.middleware import Authentication
from server.auth.principal import Principal
from server.graphql.config import GraphQLConfig
from server.graphql.controller import graphql_controller
from server.health import HealthController
from server.rest.accounts import AccountsController
from server.rest.datasets import DatasetsController
from server.rest.docs.controller import openapi_config
from server.rest.embeddings import EmbeddingsController, ModelsController
from server.rest.errors import exception_handlers
from server.rest.generations import GenerationsController
from server.rest.jobs import JobsController
from server.rest.models import TrainedModelsController
from server.rest.training_jobs import TrainingJobsController
from server.rest.uploads import FilesController
from server.services import Services, open_services
from server.settings import Settings
from server.telemetry import RequestTelemetry, Telemetry

#: Of the REST contract, not of the program: it changes when a client has to.
_API_VERSION = "1"
_DESCRIPTION = (
    "Any piece of data in, an embedding out. The same services speak GraphQL at /graphql; "
    "/v1/embeddings and /v1/models are what an OpenAI client expects."
)


class _Running:
    """Where handlers find the services, which start after the routes are known."""

    def __init__(self) -> None:
        self.services: Services | None = None

    def get(self) -> Services:
        if self.services is None:
            raise RuntimeError("the application has not been started")
        return self.services


def create_app(settings: Settings) -> Litestar:
    """Put the server together; nothing is connected before it starts."""
    telemetry = Telemetry(service="towhee-api")
    running = _Running()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, telemetry) as running.services:
            yield
        running.services = None
        telemetry.close()

    app = Litestar(
        [
            HealthController,
            AccountsController,
            FilesController,
            EmbeddingsController,
            ModelsController,
            JobsController,
            DatasetsController,
            TrainingJobsController,
            TrainedModelsController,
            GenerationsController,
            graphql_controller(_graphql_config(settings), running.get),
        ],
        lifespan=[lifespan],
        dependencies=_dependencies(settings, telemetry, running),
        middleware=[
            Authentication(lambda: running.get().authenticator, secure_cookies=settings.secure_cookies)
        ],
        exception_handlers=exception_handlers(),
        openapi_config=openapi_config(
            title="Towhee hosted API", version=_API_VERSION, description=_DESCRIPTION
        ),
        request_max_body_size=settings.max_body_bytes,
        # A form has an operation, a map and a few files; more parts are an attack on its reader.
        multipart_form_part_limit=20,
        debug=False,
        # Whoever runs the process decides how it logs.
        logging_config=None,
    )
    # Around the router, so that what matches no route is checked, protected and counted too.
    counted = RequestTelemetry(app.asgi_handler, meter=telemetry.meter)
    app.asgi_handler = SecurityHeaders(
        HostCheck(counted, settings.allowed_hosts), secure=settings.secure_cookies
    )
    return app


def _dependencies(settings: Settings, telemetry: Telemetry, running: _Running) -> dict[str, Provide]:
    """Name what a handler may ask for: every service, and who is asking."""

    def service(name: str) -> Callable[[], Any]:
        return lambda: getattr(running.get(), name)

    providers: dict[str, Callable[..., Any]] = {name: service(name) for name in Services.__struct_fields__}
    providers |= {
        "principal": _principal,
        "secure_cookies": lambda: settings.secure_cookies,
        "telemetry": lambda: telemetry,
    }
    return {name: Provide(provider, sync_to_thread=False) for name, provider in providers.items()}


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return require_principal(request)


def _graphql_config(settings: Settings) -> GraphQLConfig:
    return GraphQLConfig(
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        secure_cookies=settings.secure_cookies,
    )

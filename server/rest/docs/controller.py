"""The REST face described: OpenAPI at /schema/openapi.json, and a page of ours to read it at /schema."""

from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, Router, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath

from server.browser_pages import PAGE_POLICY, PageFolder

_HERE = Path(__file__).parent
_PAGE = "index.html"


class DocumentationPage(OpenAPIRenderPlugin):
    """Litestar's hook for a page at the root of /schema, with the scripts it loads."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)
        self._folder = PageFolder(_HERE / "page", _HERE / "static")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page; it fetches the description by itself."""
        del request, openapi_schema
        return self._folder.page(_PAGE).content

    def receive_router(self, router: Router) -> None:
        """Add the route of scripts and styles."""

        @get("/page/{name:str}", include_in_schema=False, sync_to_thread=False)
        def part(name: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
            return self._folder.part(name, request.headers)

        router.register(part)


def openapi_config(*, title: str, version: str, description: str) -> OpenAPIConfig:
    """Describe the REST face under these words, at /schema."""
    return OpenAPIConfig(
        title=title,
        version=version,
        description=description,
        components=Components(
            security_schemes={
                "token": SecurityScheme(
                    type="http", scheme="bearer", description="A session token or an API key."
                )
            }
        ),
        security=[{"token": []}],
        use_handler_docstrings=True,
        render_plugins=[DocumentationPage()],
        openapi_router=Router(
            "/schema",
            route_handlers=[],
            include_in_schema=False,
            response_headers={"Content-Security-Policy": PAGE_POLICY},
        ),
    )

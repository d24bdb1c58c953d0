"""GraphiQL, served by us. What is vendored, and how it was made: VENDORED.md."""

from pathlib import Path

from server.browser_pages import PageFolder

_HERE = Path(__file__).parent


def ide_folder() -> PageFolder:
    """List the page's files: ours and the vendored ones."""
    return PageFolder(_HERE / "page", _HERE / "static")

"""The pages a browser opens: the studio at `/`, the reference at `/docs`, and their files; all in the package."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
NO_CACHE = {"Cache-Control": "no-cache"}


class PageFiles(StaticFiles):
    """The pages' files; a browser asks each time whether they are still the same, so that an update never mixes two."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """One file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(NO_CACHE)
        return response


def install(app: FastAPI) -> None:
    """Add the pages to the application."""
    app.mount("/static/swagger-ui", PageFiles(packages=[("fastapi_swagger", "resources")]), name="swagger-ui")
    app.mount("/static", PageFiles(directory=STATIC), name="static")
    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_api_route(path, _page(name), methods=["GET", "HEAD"], include_in_schema=False, name=name)


def _page(name: str) -> Any:
    async def page() -> Response:
        return FileResponse(STATIC / name, headers=NO_CACHE)

    return page

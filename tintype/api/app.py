"""The application: parts made at start, routes, the plain page at `/`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from tintype import __version__, settings, storage
from tintype.api import guards, problems
from tintype.api.context import Context
from tintype.api.feed import Feed
from tintype.api.routes import events, generate, health, media, models, synchronous
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.notify import Listener
from tintype.generations.events import CHANNELS
from tintype.storage import signing

STATIC = Path(__file__).parent / "static"
PAGE_POLICY = (
    "default-src 'self'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
PAGE_HEADERS = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}


class Application(FastAPI):
    """FastAPI, whose document says how problems really read."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return problems.describe(super().openapi())


def create(*, url: str, home: Path, api: settings.Api) -> FastAPI:
    """The application over the PostgreSQL at `url` and the data under `home`."""

    @asynccontextmanager
    async def parts(app: FastAPI) -> AsyncGenerator[None]:
        database = db.connect(url, pool_size=settings.load(settings.Database).pool_size)
        feed = Feed(Listener(url, CHANNELS))
        stored = settings.load(settings.Storage)
        app.state.context = Context(
            home=home,
            api=api,
            database=database,
            store=storage.open(stored, home),
            catalogue=Catalogue(home),
            feed=feed,
            signing_secret=signing.load_secret(home),
            url_expiry_s=stored.url_expiry_s,
        )
        await feed.start()
        yield
        await feed.stop()
        await db.close(database)

    app = Application(
        title="Tintype",
        version=__version__,
        description="A studio for generated images and video that you run yourself.",
        lifespan=parts,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(guards.Guards, api=api)
    problems.install(app)
    for module in (generate, events, media, models, health, synchronous):
        app.include_router(module.router)
    _add_page(app)
    return app


class PageFiles(StaticFiles):
    """The page's files; a browser asks each time whether they are still the same, so that an update never mixes two."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """One file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_page(app: FastAPI) -> None:
    app.mount("/static", PageFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:  # pyright: ignore[reportUnusedFunction]  the decorator keeps it
        return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)

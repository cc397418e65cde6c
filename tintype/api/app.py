"""The application: parts made at start, routes and pages."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI

from tintype import __version__, settings, storage
from tintype.api import document, guards, pages, parameters, problems
from tintype.api.context import Context
from tintype.api.feed import Feed
from tintype.api.issuing import Issuing
from tintype.api.routes import (
    consents,
    events,
    generate,
    health,
    inspect,
    media,
    models,
    synchronous,
    verdicts,
    workflows,
)
from tintype.api.vitals import Vitals
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.notify import Listener
from tintype.generations.events import CHANNELS
from tintype.storage import signing


class Application(FastAPI):
    """FastAPI, whose document says what every route really answers."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return self.openapi_schema or document.complete(super().openapi())


def create(*, url: str, home: Path, api: settings.Api) -> FastAPI:
    """The application over the PostgreSQL at `url` and the data under `home`."""

    @asynccontextmanager
    async def parts(app: FastAPI) -> AsyncGenerator[None]:
        database = db.connect(url, pool_size=settings.load(settings.Database).pool_size)
        feed = Feed(Listener(url, CHANNELS))
        stored = settings.load(settings.Storage)
        store = storage.open(stored, home)
        vitals = Vitals(database=database, store=store, home=home)
        app.state.context = Context(
            home=home,
            api=api,
            database=database,
            store=store,
            catalogue=Catalogue(home),
            feed=feed,
            vitals=vitals,
            issuing=Issuing(home),
            signing_secret=signing.load_secret(home),
            url_expiry_s=stored.url_expiry_s,
        )
        await feed.start()
        yield
        await feed.stop()
        await vitals.stop()
        await db.close(database)

    app = Application(
        title="Tintype",
        version=__version__,
        description="A studio for generated images and video that you run yourself.",
        lifespan=parts,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(guards.Guards, api=api)
    problems.install(app)
    for module in (generate, models, consents, verdicts):
        app.include_router(module.router, dependencies=[Depends(parameters.refuse_unknown)])
    for module in (events, inspect, media, workflows, health, synchronous):
        app.include_router(module.router)
    pages.install(app)
    return app

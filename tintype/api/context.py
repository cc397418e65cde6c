"""What every request handler is given: the parts of this process, and on whose behalf it acts."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from tintype import settings, storage
from tintype.accounts import actors
from tintype.accounts.actors import Actor
from tintype.api.feed import Feed
from tintype.api.issuing import Issuing
from tintype.api.vitals import Vitals
from tintype.catalog.operations import Catalogue
from tintype.db.session import Database

UPLOADS = 4
LINKS = 8


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts of the API process. `uploads` limits how many are looked into at once, `links` how many are fetched."""

    home: Path
    api: settings.Api
    database: Database
    store: storage.Store
    catalogue: Catalogue
    feed: Feed
    vitals: Vitals
    issuing: Issuing
    signing_secret: bytes
    url_expiry_s: int
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    links: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LINKS))


async def get_context(connection: HTTPConnection) -> Context:
    """The parts of this process."""
    return connection.app.state.context


async def get_actor() -> Actor:
    """Who asks. Until accounts exist the API listens on loopback only and the person there is the owner."""
    return actors.local_owner()


Parts = Annotated[Context, Depends(get_context)]
CurrentActor = Annotated[Actor, Depends(get_actor)]

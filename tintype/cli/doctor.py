"""`tintype doctor`: looks at every part and says how to mend what is wrong."""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from tintype import errors, logs, safety, settings, storage
from tintype.api.serve import check_address
from tintype.catalog import operations as catalog
from tintype.cli import places
from tintype.cli.terminal import out
from tintype.db import embedded, migrate, orphans
from tintype.db import session as db
from tintype.db.base import now
from tintype.media.provenance import credentials, gate, visible
from tintype.providers import registry
from tintype.providers.contract import Capability, Provider
from tintype.safety import registry as detectors
from tintype.worker import registry as workers
from tintype.worker.tables import Worker

LEAST_FREE_BYTES = 1 << 30
PROVIDER_S = 60.0
LEAST_VALID = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One part looked at; `mend` says what to do where it is not well, which `is_harmless` if all works anyway."""

    part: str
    is_well: bool
    detail: str
    mend: str = ""
    is_harmless: bool = False


def doctor() -> None:
    """Check database, storage, certificate, detectors, devices, providers, models and workers; say how to mend them."""
    logs.configure(settings.Logs.model_construct(level="critical"), process="doctor")  # whatever the settings say
    findings = [finding for check in CHECKS for finding in _checked(check)]
    told: list[str] = []
    for finding in findings:
        if any(wrong in finding.detail for wrong in told):  # wrong settings are met by every part
            continue
        if not finding.is_well:
            told.append(finding.detail)
        mark = "[green]ok[/]   " if finding.is_well else "[yellow]note[/] " if finding.is_harmless else "[red]wrong[/]"
        out.print(f"{mark}  [bold]{finding.part}[/]: ", end="")
        out.print(finding.detail, markup=False)
        if not finding.is_well and finding.mend:
            out.print(f"       → {finding.mend}", markup=False)
    if not all(finding.is_well or finding.is_harmless for finding in findings):
        sys.exit(1)


def _checked(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except errors.TintypeError as error:
        yield Finding(part=check.__name__.strip("_").replace("_", " "), is_well=False, detail=error.detail)


def _settings() -> Iterator[Finding]:
    for group in settings.GROUPS:
        settings.load(group)
    check_address(settings.load(settings.Api).host)
    visible.load(settings.load(settings.Provenance))
    source = settings.config_file()
    yield Finding(part="settings", is_well=True, detail=f"read from {source or 'the environment and defaults'}")


def _database() -> Iterator[Finding]:
    home = settings.home()
    configured = settings.load(settings.Database).url
    if configured is None and not embedded.is_running(home / "postgres"):
        if why := embedded.obstacle():
            yield Finding(
                part="database",
                is_well=False,
                detail=why,
                mend="reinstall with `make run`, or set DATABASE_URL",
            )
        else:
            yield Finding(
                part="database",
                is_well=True,
                detail="embedded PostgreSQL, not started; `tintype up` starts it",
            )
        return
    url = places.database_url(home)
    revision = asyncio.run(migrate.current(url))
    yield Finding(
        part="database",
        is_well=revision == migrate.head(),
        detail=f"reached, tables at revision {revision}, newest is {migrate.head()}",
        mend="run `tintype migrate`",
    )


def _orphans() -> Iterator[Finding]:
    for orphan in orphans.find():
        yield Finding(
            part="orphan database",
            is_well=False,
            is_harmless=True,
            detail=f"{orphan.folder} belongs to {orphan.data}, which is gone",
            mend=f"unless that folder was moved or its disk is not mounted, remove it: {orphan.removal}",
        )


def _storage() -> Iterator[Finding]:
    store = storage.open(settings.load(settings.Storage), settings.home())
    asyncio.run(storage.check(store))
    yield Finding(part="storage", is_well=True, detail="writes, reads and deletes work")


def _disk() -> Iterator[Finding]:
    home = settings.home()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    yield Finding(
        part="disk",
        is_well=free >= LEAST_FREE_BYTES,
        detail=f"{free / 1e9:.1f} GB free for {home}",
        mend="free some space, or move the data with TINTYPE_HOME",
    )


def _signing_certificate() -> Iterator[Finding]:
    home = settings.home()
    chosen = settings.load(settings.Provenance)
    own = home / credentials.FOLDER
    part = "signing certificate"
    if chosen.certificate_chain is None and not own.exists():
        yield Finding(part=part, is_well=True, detail="none yet; one of its own is made at the first start")
        return
    whose = f"its own, in {own}" if chosen.certificate_chain is None else f"yours, {chosen.certificate_chain}"
    if chosen.certificate_chain is None:
        mend = f"move {own} away and restart the studio: it makes a new one, with another root"
    else:
        mend = "set another certificate_chain and private_key under [provenance], or neither for one of its own"
    try:
        expires_at = gate.open(home, chosen).credentials.expires_at
    except credentials.CertificateError as error:
        yield Finding(part=part, is_well=False, detail=f"{whose}: {error.detail}", mend=mend)
        return
    is_well = expires_at > now() + LEAST_VALID
    detail = f"{whose}; valid until {expires_at:%Y-%m-%d}"
    yield Finding(part=part, is_well=is_well, is_harmless=True, detail=detail, mend=f"before that day, {mend}")


def _safety_detectors() -> Iterator[Finding]:
    part = "safety detectors"
    loaded = detectors.load()
    if loaded.broken:
        why = "; ".join(f"{name}: {reason}" for name, reason in loaded.broken.items())
        mend = "mend or uninstall it and restart the workers; until then only models that ship with Tintype are drawn"
        yield Finding(part=part, is_well=False, detail=why, mend=mend)
        return
    if not any(safety.Label.SEXUAL in detector.image_labels for detector in loaded.ready.values()):
        what = f"none judges pictures ({', '.join(loaded.ready)} does not)" if loaded.ready else "none installed"
        detail = f"{what}: only the built-in model `{catalog.DEFAULT_MODEL}` is drawn, which draws no people"
        mend = "for other models install a detector; docs/safety.md says how"
        yield Finding(part=part, is_well=False, is_harmless=True, detail=detail, mend=mend)
        return
    scored = [f"{name} scores {', '.join(sorted(d.image_labels | d.text_labels))}" for name, d in loaded.ready.items()]
    models = [model.id for model in catalog.installed(settings.home()).values() if model.manifest.kind == "detector"]
    if models:
        scored.append(f"among the models: {', '.join(models)}")
    yield Finding(part=part, is_well=True, detail="; ".join(scored))


def _models() -> Iterator[Finding]:
    found = catalog.look(settings.home())
    for path, why in found.left_out.items():
        mend = f"mend the manifest, or remove {path.parent}"
        yield Finding(part=f"model in {path.parent.name}", is_well=False, detail=why, mend=mend)
    for model in found.models.values():
        problems = catalog.verify(model)
        yield Finding(
            part=f"model {model.id}",
            is_well=not problems,
            detail="; ".join(f"{p.path} {p.problem}" for p in problems)
            or f"{len(model.manifest.files)} files verified",
            mend="install it again",
        )


def _providers() -> Iterator[Finding]:
    loaded = registry.load()
    for name, why in loaded.broken.items():
        yield Finding(part=f"provider {name}", is_well=False, detail=why, mend="update or uninstall the package")
    for name, provider in loaded.ready.items():
        capability = _complete_capabilities(provider)
        asyncio.run(provider.close())
        part = f"provider {name}"
        if capability.families:
            families = ", ".join(capability.families).replace("*", "any family")
            detail = f"{', '.join(capability.devices) or 'no devices of its own'}; {families}"
            yield Finding(part=part, is_well=capability.problem is None, detail=capability.problem or detail)
        for note in capability.notes:
            yield Finding(part=part, is_well=True, detail=note)
        for broken, why in capability.broken.items():
            yield Finding(part=f"{part}, {broken}", is_well=False, detail=why)


def _complete_capabilities(provider: Provider) -> Capability:
    deadline = time.monotonic() + PROVIDER_S
    while not (capability := provider.capabilities()).is_complete and time.monotonic() < deadline:
        time.sleep(0.1)
    return capability


def _workers() -> Iterator[Finding]:
    home = settings.home()
    if settings.load(settings.Database).url is None and not embedded.is_running(home / "postgres"):
        return
    url = places.database_url(home)
    if asyncio.run(migrate.current(url)) != migrate.head():
        return
    for worker in asyncio.run(_alive(url)):
        part = f"worker {worker.pid} on {worker.host}"
        serves = ", ".join(worker.models) or "no model"
        yield Finding(part=part, is_well=True, detail=f"{worker.state}; serves {serves}")
        for name, why in worker.broken_providers.items():
            mend = "mend what it names, then restart this worker"
            yield Finding(part=part, is_well=False, detail=f"provider {name}: {why}", mend=mend)


async def _alive(url: str) -> list[Worker]:
    database = db.connect(url)
    try:
        async with db.reading(database) as session:
            return await workers.alive(session)
    finally:
        await db.close(database)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _settings,
    _database,
    _orphans,
    _storage,
    _disk,
    _signing_certificate,
    _safety_detectors,
    _models,
    _providers,
    _workers,
)

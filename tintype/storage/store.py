"""Files by key in a local folder or an S3-compatible bucket, over obstore.

What a completed `put` promises: a reader sees the whole file or none, and the bytes survive a power cut.
obstore's local store writes `<name>#1` and renames it over the name, which gives the first half; it never
calls fsync (traced with strace, obstore 0.12.1), so for a folder `put` syncs the file and its folders itself
before it returns. A crash between rename and sync can leave a short file under the key, but nobody was told
that it is there. S3 answers only after the object is durable. A crash can also leave `<name>#1` behind, which
is nobody's key.

obstore's own coroutines are not used: a Tokio thread that still hands a result to Python when the interpreter
ends aborts the process (SIGABRT in 56 of 360 short processes on a busy machine, pyo3-async-runtimes issue 40;
0 of 360 this way). Its blocking calls, which release the GIL, run in the store's own threads instead.
"""

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import obstore
from obstore.store import LocalStore, S3Store

from tintype import settings
from tintype.errors import SetupError
from tintype.storage import faults

if TYPE_CHECKING:
    from obstore import GetOptions

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
KEY_CHARS = 512
CHUNK_BYTES = 256 << 10
PART_BYTES = 16 << 20
SIGN_MAX_S = 7 * 24 * 3600  # SigV4's limit
CONNECT_TIMEOUT = timedelta(seconds=5)
READ_TIMEOUT = timedelta(seconds=30)
REQUEST_TIMEOUT = timedelta(hours=1)  # whole transfers of long videos; a stall ends by READ_TIMEOUT
RETRY_TIMEOUT = timedelta(seconds=15)
RETRIES = 3
THREADS = 16  # transfers at once; waiting ones cost nothing

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Store:
    """An opened storage: `folder` of a local one, `location` for people to read (no secrets in it)."""

    objects: LocalStore | S3Store = field(repr=False)
    folder: Path | None
    location: str
    lasting: set[Path] = field(default_factory=set[Path], repr=False)  # folders whose own entries are on disk
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "storage"), repr=False)


@dataclass(frozen=True, kw_only=True)
class Health:
    """What `check` found: how long a write, a read and a delete took, and the space left (folders only)."""

    took_s: float
    free_bytes: int | None
    total_bytes: int | None


def open(storage: settings.Storage, home: Path) -> Store:  # noqa: A001 - called as `storage.open`
    """Open the configured storage; a local folder is made (mode 700) when missing, S3 is not contacted.

    A relative folder lies under `home`. S3 without keys in the settings uses what the machine offers
    (instance role, `AWS_SESSION_TOKEN`, web identity).

    Raises:
        SetupError: the URL, the endpoint or the keys cannot be used, or the folder cannot be made.
    """
    url = storage.url or "media"
    if url.startswith("s3://"):
        return _open_s3(storage, url)
    if "://" in url:
        raise SetupError(f"settings [storage]: url: {url!r} is neither a folder nor s3://bucket/prefix")
    folder = home / Path(url).expanduser()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        objects = LocalStore(folder)
    except (OSError, obstore.exceptions.BaseError) as error:
        raise SetupError(f"settings [storage]: the folder {folder} cannot be used: {error}") from error
    return Store(objects=objects, folder=folder, location=str(folder))


async def put(store: Store, key: str, data: bytes, content_type: str) -> None:
    """Store `data` under `key`, replacing what was there; durable when it returns.

    S3 keeps `content_type` and sends it with signed downloads; a folder has no place for it.

    Raises:
        StorageFullError, StorageUnavailableError: what the key holds now is not promised.
    """
    name = _checked(key)
    with faults.named(missing_is_fault=True):
        if store.folder is None:
            attributes = {"Content-Type": content_type}
            upload = partial(obstore.put, attributes=attributes, chunk_size=PART_BYTES)
            await _in_thread(store, partial(upload, store.objects, name, data))
            return
        await _in_thread(store, partial(_write, store.objects, store.folder, name, data, store.lasting))


async def get(store: Store, key: str) -> bytes:
    """The whole file.

    Raises:
        ObjectNotFoundError, StorageUnavailableError: there is nothing to give.
    """
    name = _checked(key)
    with faults.named():
        return await _in_thread(store, lambda: bytes(obstore.get(store.objects, name).bytes()))


async def stream(store: Store, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    """Await it for an iterator over bytes `start` to `end` (exclusive; None: to the end of the file).

    The file is opened before this returns, so a missing one is known before a response begins. Chunks are
    about 256 KiB and read as they are asked for: memory stays bounded whatever the size of the file.

    Raises:
        RangeNotSatisfiableError, ObjectNotFoundError, StorageUnavailableError: the last also while iterating.
    """
    name = _checked(key)
    if end is not None or start:
        _check_range(start, end)
    options: GetOptions = {}
    if end is not None:
        options = {"range": (start, end)}
    elif start:
        options = {"range": {"offset": start}}
    with faults.named():
        result = await _in_thread(store, partial(obstore.get, store.objects, name, options=options))
    return _chunks(store, iter(result.stream(min_chunk_size=CHUNK_BYTES)))


async def size(store: Store, key: str) -> int:
    """The file's length in bytes.

    Raises:
        ObjectNotFoundError, StorageUnavailableError: there is no such file, or nobody to ask.
    """
    name = _checked(key)
    with faults.named():
        return (await _in_thread(store, partial(obstore.head, store.objects, name)))["size"]


async def delete(store: Store, keys: Iterable[str]) -> None:
    """Remove the files; one that is already gone is fine. S3 is asked in batches of 1000.

    Raises:
        StorageUnavailableError: some may be left; a folder that is gone itself counts as away, not as empty.
    """
    names = [_checked(key) for key in keys]
    if store.folder is None:
        if names:
            with faults.named(missing_is_fault=True):
                await _in_thread(store, partial(obstore.delete, store.objects, names))
        return
    for name in names:
        try:
            with faults.named():
                await _in_thread(store, partial(obstore.delete, store.objects, name))
        except faults.ObjectNotFoundError:
            if not store.folder.is_dir():
                raise faults.StorageUnavailableError(f"{store.folder} is not there") from None


async def sign(store: Store, key: str, expires_s: int) -> str | None:
    """A URL that fetches this file without an account for `expires_s` seconds (1 to 7 days).

    None for a folder, which nobody but the API can serve: it signs its own path with `storage.signing`. The
    file is not looked for; a URL of a missing one answers 404.
    """
    name = _checked(key)
    if not 1 <= expires_s <= SIGN_MAX_S:
        raise ValueError(f"expires_s is {expires_s}, not 1 to {SIGN_MAX_S}")
    if not isinstance(store.objects, S3Store):
        return None
    with faults.named():
        make = partial(obstore.sign, store.objects, "GET", name, timedelta(seconds=expires_s))
        return str(await _in_thread(store, make))


async def check(store: Store) -> Health:
    """Write, read back and delete a small file, for `doctor` and the health page.

    Raises:
        StorageFullError, StorageUnavailableError: what a put would meet; `reason` says it for operators.
    """
    key, data = f"probe/{uuid4()}", os.urandom(64)
    began = time.perf_counter()
    await put(store, key, data, "application/octet-stream")
    if await get(store, key) != data:
        raise faults.StorageUnavailableError(f"{store.location} gave back other bytes than were stored")
    await delete(store, [key])
    took_s = time.perf_counter() - began
    if store.folder is None:
        return Health(took_s=took_s, free_bytes=None, total_bytes=None)
    with faults.named(missing_is_fault=True):
        usage = await _in_thread(store, partial(shutil.disk_usage, store.folder))
    return Health(took_s=took_s, free_bytes=usage.free, total_bytes=usage.total)


def _open_s3(storage: settings.Storage, url: str) -> Store:
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.query or parts.fragment or (prefix and not KEY.fullmatch(prefix)):
        raise SetupError(f"settings [storage]: url: {url!r} is not s3://bucket or s3://bucket/prefix")
    endpoint = storage.endpoint
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise SetupError(f"settings [storage]: endpoint: {endpoint!r} does not begin with http:// or https://")
    key_id, secret = storage.access_key_id, storage.secret_access_key
    if (key_id is None) != (secret is None):
        raise SetupError("settings [storage]: access_key_id and secret_access_key belong together; one is missing")
    config: dict[str, str | bool] = {
        "region": storage.region,
        # Bucket names with a dot do not match AWS's certificate as a host name.
        "virtual_hosted_style_request": endpoint is None and "." not in parts.netloc,
    }
    if endpoint is not None:
        config["endpoint"] = endpoint.rstrip("/")
    if key_id is not None and secret is not None:
        config["access_key_id"] = key_id.get_secret_value()
        config["secret_access_key"] = secret.get_secret_value()
    try:
        objects = S3Store(
            parts.netloc,
            prefix=prefix or None,
            config=config,  # pyright: ignore[reportArgumentType] - a TypedDict built in steps
            client_options={
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": READ_TIMEOUT,
                "timeout": REQUEST_TIMEOUT,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
        )
    except (ValueError, obstore.exceptions.BaseError) as error:
        raise SetupError(f"settings [storage]: {url}: {str(error).splitlines()[0]}") from error
    return Store(objects=objects, folder=None, location=url)


def _checked(key: str) -> str:
    if len(key) > KEY_CHARS or not KEY.fullmatch(key):
        raise faults.InvalidKeyError(f"{key[:80]!r} is not the name of a stored file")
    return key


def _check_range(start: int, end: int | None) -> None:
    if start < 0 or (end is not None and end <= start):
        raise faults.RangeNotSatisfiableError


async def _in_thread(store: Store, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(store.threads, call)


async def _chunks(store: Store, source: Iterator[bytes]) -> AsyncIterator[bytes]:
    with faults.named():
        while (chunk := await _in_thread(store, partial(next, source, None))) is not None:
            yield bytes(chunk)


def _write(objects: LocalStore | S3Store, folder: Path, name: str, data: bytes, lasting: set[Path]) -> None:
    # Multipart would write a folder's file in parts; one write of bytes already in memory is faster.
    obstore.put(objects, name, data, use_multipart=False)
    _sync(folder, folder / name, lasting)


def _sync(root: Path, path: Path, lasting: set[Path]) -> None:
    """fsync a file and its folder; for a folder not in `lasting` also those above it, whose entries may be new."""
    _fsync(path, os.O_RDONLY)
    for folder in path.parents:
        _fsync(folder, os.O_RDONLY | os.O_DIRECTORY)
        if folder == root or folder in lasting:
            break
    lasting.add(path.parent)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

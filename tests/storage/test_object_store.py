"""The same promises on a folder and on an S3 server, and what happens when either fails."""

import asyncio
import os
import stat
import tracemalloc
from uuid import uuid4

import httpx
import pytest
from obstore.store import S3Store
from pydantic import SecretStr

from tests.storage.listing import keys_in
from tintype import settings, storage
from tintype.errors import SetupError


def a_key() -> str:
    return f"2026/11/{uuid4()}.png"


async def collect(chunks) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_what_was_put_comes_back(store):
    key, data = a_key(), os.urandom(100_000)
    await storage.put(store, key, data, "image/png")
    assert await storage.get(store, key) == data
    assert await storage.size(store, key) == len(data)
    assert keys_in(store) == {key}


async def test_a_put_replaces_what_was_there(store):
    key = a_key()
    await storage.put(store, key, b"a long first version", "image/png")
    await storage.put(store, key, b"second", "image/png")
    assert await storage.get(store, key) == b"second"


async def test_an_empty_file_is_a_file(store):
    key = a_key()
    await storage.put(store, key, b"", "image/png")
    assert await storage.get(store, key) == b""
    assert await storage.size(store, key) == 0
    assert await collect(await storage.stream(store, key)) == b""


async def test_a_large_file_goes_in_and_comes_out_whole(store):
    key, data = a_key(), os.urandom(40 << 20)
    await storage.put(store, key, data, "video/mp4")
    assert await storage.size(store, key) == len(data)
    assert await collect(await storage.stream(store, key)) == data


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 10), (3, 7), (9, 10), (8, 1000)])
async def test_a_range_gives_exactly_those_bytes_cut_at_the_end(store, start, end):
    key, data = a_key(), b"0123456789"
    await storage.put(store, key, data, "image/png")
    assert await collect(await storage.stream(store, key, start, end)) == data[start:end]


async def test_a_stream_may_start_in_the_middle_and_run_to_the_end(store):
    key, data = a_key(), os.urandom(1_000_000)
    await storage.put(store, key, data, "image/png")
    assert await collect(await storage.stream(store, key, 123_456)) == data[123_456:]


@pytest.mark.parametrize(("start", "end"), [(10, 12), (500, 600), (5, 5), (7, 3), (-1, 4)])
async def test_a_range_with_no_bytes_in_it_is_refused(store, start, end):
    key = a_key()
    await storage.put(store, key, b"0123456789", "image/png")
    with pytest.raises(storage.RangeNotSatisfiableError) as caught:
        await storage.stream(store, key, start, end)
    assert (caught.value.status, caught.value.code) == (416, "range_not_satisfiable")


async def test_streaming_a_large_file_takes_little_memory(folder_store):
    key = a_key()
    await storage.put(folder_store, key, bytes(64 << 20), "video/mp4")
    largest = total = 0
    tracemalloc.start()
    try:
        async for chunk in await storage.stream(folder_store, key):
            largest, total = max(largest, len(chunk)), total + len(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert largest <= 2 << 20
    assert peak_bytes <= 8 << 20


async def test_a_missing_file_is_a_named_fact_before_any_byte_flows(store):
    for ask in (
        storage.get(store, a_key()),
        storage.size(store, a_key()),
        storage.stream(store, a_key()),
    ):
        with pytest.raises(storage.ObjectNotFoundError) as caught:
            await ask
        assert (caught.value.status, caught.value.code) == (404, "file_missing")


async def test_deleting_removes_the_named_files_and_no_others(store):
    gone, kept = [a_key() for _ in range(3)], a_key()
    for key in [*gone, kept]:
        await storage.put(store, key, b"x", "image/png")
    await storage.delete(store, [gone[0], a_key(), gone[1], gone[2], gone[0]])
    assert keys_in(store) == {kept}
    await storage.delete(store, [])


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a\0b", "a\nb", "a.png\n", "~/x"),
        *("%2e%2e/x", ".hidden", "a/.", "é", "a b", "x#1", "C:/x", "a" * 513),
    ],
)
async def test_a_name_that_is_not_a_key_is_refused_everywhere(store, key):
    for ask in (
        storage.put(store, key, b"x", "image/png"),
        storage.get(store, key),
        storage.stream(store, key),
        storage.size(store, key),
        storage.delete(store, [key]),
        storage.sign(store, key, 60),
    ):
        with pytest.raises(storage.InvalidKeyError):
            await ask


async def test_concurrent_puts_of_one_key_leave_one_of_them_whole(store):
    key, versions = a_key(), [bytes([n]) * 300_000 for n in range(8)]
    seen: set[bytes] = set()
    await storage.put(store, key, versions[0], "image/png")
    writers = asyncio.gather(*(storage.put(store, key, data, "image/png") for data in versions))
    while not writers.done():
        seen.add(await storage.get(store, key))
        await asyncio.sleep(0)
    await writers
    assert seen | {await storage.get(store, key)} <= set(versions)


async def test_many_puts_at_once_all_arrive(store):
    files = {a_key(): os.urandom(5_000) for _ in range(40)}
    await asyncio.gather(*(storage.put(store, key, data, "image/png") for key, data in files.items()))
    got = await asyncio.gather(*(storage.get(store, key) for key in files))
    assert got == list(files.values())


async def test_a_check_writes_reads_and_leaves_nothing_behind(store):
    health = await storage.check(store)
    assert 0 < health.took_s < 10
    assert keys_in(store) == set()
    if store.folder is None:
        assert health.free_bytes is None
    else:
        usage = os.statvfs(store.folder)
        assert health.total_bytes == usage.f_frsize * usage.f_blocks
        assert 0 < health.free_bytes <= health.total_bytes


async def test_a_signed_s3_url_is_fetched_by_anyone_until_it_expires(s3_store):
    key = a_key()
    await storage.put(s3_store, key, b"0123456789", "image/webp")
    url = await storage.sign(s3_store, key, 2)
    async with httpx.AsyncClient() as client:
        fetched = await client.get(url)
        assert (fetched.status_code, fetched.content) == (200, b"0123456789")
        assert fetched.headers["content-type"] == "image/webp"
        part = await client.get(url, headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.content) == (206, b"234")
        assert (await client.get(url.split("?")[0])).status_code == 403
        assert (await client.get(url.replace("Expires=2", "Expires=9999"))).status_code == 403
        await asyncio.sleep(3.1)
        assert (await client.get(url)).status_code == 403


async def test_a_folder_has_no_urls_of_its_own(folder_store):
    assert await storage.sign(folder_store, a_key(), 60) is None


@pytest.mark.parametrize("expires_s", [0, -5, 7 * 24 * 3600 + 1])
async def test_an_expiry_that_s3_would_refuse_is_refused_first(s3_store, expires_s):
    with pytest.raises(ValueError, match="expires_s"):
        await storage.sign(s3_store, a_key(), expires_s)


def test_the_folder_is_made_for_its_owner_only(tmp_path):
    store = storage.open(settings.Storage(), tmp_path / "home")
    assert store.folder == tmp_path / "home" / "media"
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    elsewhere = storage.open(settings.Storage(url=str(tmp_path / "pictures")), tmp_path)
    assert elsewhere.folder == tmp_path / "pictures"


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "gs://bucket/x"},
        {"url": "s3://"},
        {"url": "s3://bucket/../up"},
        {"url": "s3://bucket?x=1"},
        {"url": "s3://bucket", "endpoint": "minio:9000"},
        {"url": "s3://bucket", "access_key_id": SecretStr("only-half")},
    ],
)
def test_settings_that_cannot_work_are_refused_when_opening(tmp_path, changes):
    with pytest.raises(SetupError, match=r"settings \[storage\]"):
        storage.open(settings.Storage(**changes), tmp_path)


def test_a_file_where_the_folder_should_be_is_refused_when_opening(tmp_path):
    (tmp_path / "media").write_text("in the way")
    with pytest.raises(SetupError, match="media"):
        storage.open(settings.Storage(), tmp_path)


def test_an_opened_store_shows_no_secrets(s3_server, tmp_path):
    store = storage.open(s3_server.settings("s3://pictures/x"), tmp_path)
    assert "test-secret" not in repr(store)
    assert "test-secret" not in repr(store.objects)


def test_plain_http_is_spoken_only_where_the_endpoint_says_so(tmp_path):
    keys = {"access_key_id": SecretStr("a"), "secret_access_key": SecretStr("b")}
    for endpoint, allowed in [("http://127.0.0.1:9", True), ("https://s3.example.com", False), (None, False)]:
        store = storage.open(settings.Storage(url="s3://bucket", endpoint=endpoint, **keys), tmp_path)
        assert isinstance(store.objects, S3Store)
        assert store.objects.client_options["allow_http"] == str(allowed).lower()


async def test_a_folder_that_is_gone_is_away_and_not_empty(folder_store, tmp_path):
    key = a_key()
    await storage.put(folder_store, key, b"x", "image/png")
    (tmp_path / "media").rename(tmp_path / "elsewhere")
    with pytest.raises(storage.StorageUnavailableError):
        await storage.delete(folder_store, [key])
    (tmp_path / "elsewhere").rename(tmp_path / "media")
    await storage.delete(folder_store, [key])
    assert keys_in(folder_store) == set()

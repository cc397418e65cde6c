"""The same API over an S3-compatible store: links of the bucket's own, and no secret in any log."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api import pictures, problems
from tests.processes import RunningStudio
from tests.storage.conftest import s3_server  # noqa: F401  a fixture
from tests.storage.listing import keys_in
from tintype import storage

ACCESS_KEY, SECRET_KEY = "test-id", "test-secret"


@pytest.fixture(scope="module")
def bucket(s3_server) -> str:  # noqa: F811
    name = f"pictures-{uuid.uuid4()}"
    s3_server.make_bucket(name)
    return name


@pytest.fixture(scope="module")
async def studio(servers, bucket, s3_server, tmp_path_factory) -> AsyncIterator[RunningStudio]:  # noqa: F811
    """A studio that keeps its pictures in a bucket."""
    running = RunningStudio(home=tmp_path_factory.mktemp("s3studio") / "home", url=await servers.new_database())
    environment = {
        "TINTYPE_STORAGE_URL": f"s3://{bucket}/some/prefix",
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "TINTYPE_STORAGE_URL_EXPIRY_S": "600",
        "TINTYPE_LOGS_LEVEL": "debug",
    }
    try:
        await running.start(environment=environment)
        yield running
    finally:
        await running.stop()


@pytest.fixture
def stored(s3_server, bucket, tmp_path):  # noqa: F811
    """The keys in the bucket, asked for anew at each call."""
    opened = storage.open(s3_server.settings(f"s3://{bucket}/some/prefix"), tmp_path)

    async def keys() -> set[str]:
        return await asyncio.to_thread(keys_in, opened)

    return keys


async def test_a_picture_is_fetched_from_the_bucket_itself(studio, s3_server):  # noqa: F811
    done = await studio.wait((await studio.generate(num_images=2))["id"])
    for path, media in zip(done["output_paths"], done["media"], strict=True):
        assert path.startswith(s3_server.endpoint)
        assert parse_qs(urlsplit(path).query)["X-Amz-Expires"] == ["600"]
        async with httpx.AsyncClient() as stranger:
            answer = await stranger.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
            assert hashlib.sha256(answer.content).hexdigest() == media["sha256"]
            assert (await stranger.get(path.replace("X-Amz-Expires=600", "X-Amz-Expires=6000"))).status_code == 403


async def test_the_api_hands_the_bytes_through_with_ranges(studio):
    done = await studio.wait((await studio.generate(width=256, height=256))["id"])
    [media] = done["media"]
    path = f"/api/media/{media['id']}/content"
    whole = await studio.http.get(path)
    assert hashlib.sha256(whole.content).hexdigest() == media["sha256"]
    part = await studio.http.get(path, headers={"Range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, whole.content[10:30])
    assert (await studio.http.get(path, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
    thumbnail = await studio.http.get(f"/api/media/{media['id']}/thumbnail")
    assert thumbnail.headers["content-type"] == "image/webp"


async def test_an_event_names_a_link_that_works(studio):
    asked = await studio.generate()
    [image] = [event async for event in studio.events(asked["id"]) if event.type == "image"]
    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(image.data["url"])).status_code == 200


async def test_deleting_removes_the_objects(studio, stored):
    before = await stored()
    done = await studio.wait((await studio.generate())["id"])
    assert len(await stored() - before) == 2
    assert (await studio.http.delete(f"/api/generate/{done['id']}")).status_code == 204
    assert await stored() == before
    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(done["output_paths"][0])).status_code == 404


async def test_a_refused_upload_leaves_nothing_in_the_bucket(studio, stored):
    before = await stored()
    files = {"file": ("a.png", pictures.png(), "image/png")}
    first = await studio.http.post("/api/media", files=files, headers={"Idempotency-Key": "one"})
    assert first.status_code == 201
    kept = await stored()
    assert len(kept - before) == 2
    again = await studio.http.post("/api/media", files=files, headers={"Idempotency-Key": "one"})
    assert again.json()["id"] == first.json()["id"]
    assert await stored() == kept


async def test_no_secret_is_in_any_log_though_everything_goes_wrong(studio, s3_server, bucket):  # noqa: F811
    done = await studio.wait((await studio.generate())["id"])
    signature = parse_qs(urlsplit(done["output_paths"][0]).query)["X-Amz-Signature"][0]
    media = done["media"][0]["id"]
    for query in ("expires=1&signature=sEcReTsIgNaTuRe", f"signature={signature}"):
        problems.check(await studio.http.get(f"/api/media/{media}/content?{query}"), 403, "link_invalid")
    answer = await studio.http.get("/api/nothing", headers={"Authorization": "Bearer sEcReTbEaReR"})
    problems.check(answer, 404, "route_unknown")
    await asyncio.to_thread(_empty_and_remove, s3_server, bucket)
    answer = await studio.http.get(f"/api/media/{media}/content")
    assert answer.status_code in (404, 503)
    problems.check(answer, answer.status_code, answer.json()["code"])
    files = {"file": ("a.png", pictures.png(), "image/png")}
    answer = await studio.http.post("/api/media", files=files)
    problems.check(answer, 503, "storage_unavailable")
    async with asyncio.timeout(30):  # the worker writes its line after everybody has heard
        while '"completed"' not in (studio.home / "worker.log").read_text():
            await asyncio.sleep(0.05)
    logs = {path.name: path.read_text() for path in studio.home.rglob("*.log")}
    assert {"api.log", "worker.log"} <= set(logs)
    password = urlsplit(studio.url).password
    assert len(password) > 20
    for name, text in logs.items():
        for secret in (password, SECRET_KEY, ACCESS_KEY, signature, "sEcReTsIgNaTuRe", "sEcReTbEaReR"):
            assert secret not in text, f"{secret} in {name}"
    _check_lines(logs, done["id"], answer.headers["x-request-id"])


def _check_lines(logs: dict[str, str], generation_id: str, request_id: str) -> None:
    lines = {name: [json.loads(line) for line in text.splitlines()] for name, text in logs.items()}
    for line in (line for part in lines.values() for line in part):
        assert {"event", "level", "timestamp", "process", "pid"} <= set(line), line
    answered = [line for line in lines["api.log"] if line["event"] == "answered"]
    assert all(line["request_id"] and line["path"] and line["status"] >= 400 for line in answered)
    assert {line["event"] for line in lines["api.log"] if line.get("request_id") == request_id} == {
        "files stay for now",
        "problem",
        "answered",
    }
    worked = [line for line in lines["worker.log"] if line.get("generation_id") == generation_id]
    assert [line["event"] for line in worked] == ["started", "completed"]


def _empty_and_remove(s3_server, bucket: str) -> None:  # noqa: F811
    import boto3

    client = boto3.resource(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    client.Bucket(bucket).objects.all().delete()
    client.Bucket(bucket).delete()
    client.meta.client.close()

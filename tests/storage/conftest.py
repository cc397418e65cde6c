"""Both storages for the same tests: a folder, and an S3 server in a process of its own."""

import asyncio
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
import pytest
from pydantic import SecretStr

from tintype import settings, storage

SERVER = Path(__file__).with_name("s3_server.py")


@dataclass(frozen=True, kw_only=True)
class S3Server:
    endpoint: str

    def settings(self, url: str, **changes) -> settings.Storage:
        keys = {"access_key_id": SecretStr("test-id"), "secret_access_key": SecretStr("test-secret")}
        return settings.Storage(**{"url": url, "endpoint": self.endpoint, **keys, **changes})

    def make_bucket(self, name: str) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test-id",
            aws_secret_access_key="test-secret",
        )
        client.create_bucket(Bucket=name)
        client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "server.log").open("wb")
    server = subprocess.Popen([sys.executable, str(SERVER), str(port)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/moto-api/", timeout=2)
                break
            except httpx.TransportError:
                assert server.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.05)
        yield S3Server(endpoint=f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(10)
        log.close()


@pytest.fixture
def folder_store(tmp_path) -> storage.Store:
    return storage.open(settings.Storage(), tmp_path)


@pytest.fixture
async def s3_store(s3_server, tmp_path) -> storage.Store:
    bucket = f"pictures-{uuid4()}"
    await asyncio.to_thread(s3_server.make_bucket, bucket)
    return storage.open(s3_server.settings(f"s3://{bucket}/some/prefix"), tmp_path)


@pytest.fixture(params=["folder", "s3"])
def store(request) -> storage.Store:
    return request.getfixturevalue(f"{request.param}_store")

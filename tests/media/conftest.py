"""What sealing needs, made once: credentials of this installation's own; and a server that nobody should ask."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tintype import settings
from tintype.media.provenance import gate, inspect
from tintype.media.provenance.gate import Issuer
from tintype.media.provenance.inspect import Trust


@pytest.fixture(scope="session")
def provenance_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder."""
    return tmp_path_factory.mktemp("provenance")


@pytest.fixture(scope="session")
def issuer(provenance_home: Path) -> Issuer:
    """What a fresh installation labels with."""
    return gate.open(provenance_home, settings.Provenance())


@pytest.fixture(scope="session")
def trust(provenance_home: Path, issuer: Issuer) -> Trust:
    """What that installation judges files by."""
    return inspect.trust(provenance_home, settings.Provenance())


class Loopback:
    """A server on this machine that notes who asks for what, and answers that it has nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_error(500)

            do_POST = do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Says nothing on the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A server that should not be asked."""
    server = Loopback()
    yield server
    server.close()

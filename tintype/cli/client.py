"""A small client of Tintype's own HTTP API: submit, follow, fetch."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tintype import errors

RECONNECT_FOR_S = 60.0


class RefusedError(errors.TintypeError):
    """The studio refused the request."""

    code = "refused"


class UnreachableError(errors.TintypeError):
    """The studio cannot be reached."""

    code = "unreachable"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One Server-Sent Event."""

    id: str | None
    type: str
    data: dict[str, Any]


class Client:
    """Talks to the studio at `address`."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        if not self.address.startswith(("http://", "https://")):
            raise UnreachableError(f"{address!r} is no address of a studio; it looks like http://127.0.0.1:8000")
        self.asked: set[str] = set()  # ids of what this client asked for
        self._http = httpx.Client(base_url=self.address, timeout=httpx.Timeout(10, read=60))

    def generate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for pictures; the waiting generation."""
        generation = self._json(self._send("POST", "/api/generate/image", json=dict(body)))
        self.asked.add(generation["id"])
        return generation

    def read(self, generation_id: str) -> dict[str, Any]:
        """A generation as it stands."""
        return self._json(self._send("GET", f"/api/generate/{generation_id}"))

    def page(self, **wanted: Any) -> list[dict[str, Any]]:
        """The newest generations, `limit` at most and of this `status`."""
        return self._json(self._send("GET", "/api/generate", params=wanted))["items"]

    def workers(self) -> list[dict[str, Any]]:
        """The workers that are alive."""
        return self._json(self._send("GET", "/health/detailed"))["workers"]

    def cancel(self, generation_id: str) -> None:
        """Cancel a generation; one that has ended meanwhile is fine."""
        answer = self._send("POST", f"/api/generate/{generation_id}/cancel")
        if answer.status_code != 409:
            self._json(answer)

    def fetch(self, url: str) -> bytes:
        """The bytes behind a link of the studio."""
        answer = self._send("GET", url)
        if answer.is_error:
            raise RefusedError(f"{url}: {answer.status_code}")
        return answer.content

    def follow(self, generation_id: str) -> Iterator[dict[str, Any]]:
        """Events until the generation ends; a dropped connection is taken up again after the last event seen."""
        last_id: str | None = None
        deadline = time.monotonic() + RECONNECT_FOR_S
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with self._http.stream("GET", f"/api/generate/{generation_id}/events", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                        self._json(answer)
                    for event in _events(answer.iter_lines()):
                        deadline = time.monotonic() + RECONNECT_FOR_S
                        last_id = event.id or last_id
                        yield event.data
                        if event.type in ("completed", "failed", "cancelled"):
                            return
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise UnreachableError(f"the studio at {self.address} went away ({error})") from error
            if time.monotonic() > deadline:
                raise UnreachableError(f"the studio at {self.address} says nothing more of {generation_id}")
            time.sleep(0.5)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise UnreachableError(f"the studio at {self.address} cannot be reached ({error})") from error

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError as error:
            raise UnreachableError(
                f"what answers at {self.address} is no studio (status {answer.status_code}); correct --server"
            ) from error
        if answer.is_error:
            raise RefusedError(str(body.get("detail", answer.text)))
        return body


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Parse Server-Sent Events (the fields id, event and data; comments are skipped)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line == "":
            if "data" in fields:
                data = json.loads(fields["data"])
                yield Event(id=fields.get("id"), type=fields.get("event", "message"), data=data)
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")

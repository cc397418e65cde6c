"""The whole API, asked at random for what its OpenAPI document offers and for what it does not.

Whatever is asked: no answer is a failure of the server, and each answer is one the document names, with the content
the document says. The examples are the same in every run.
"""

import io
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from tests.api import problems
from tests.conftest import Servers
from tests.processes import RunningStudio
from tintype.api import app
from tintype.settings import Api

EXAMPLES = 15
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
DOCUMENT = app.create(url="postgresql://nobody@nowhere/nothing", home=Path(), api=Api()).openapi()
OPERATIONS = [f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods]
ANYTHING_FITS = {
    "GET /api/models/{model_id}",
    "GET /api/styles",
    "GET /api/verdicts/counts",
    "GET /health",
    "GET /health/detailed",
}
MODES = {"as documented": GenerationMode.POSITIVE, "otherwise": GenerationMode.NEGATIVE}


@pytest.fixture(scope="module")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """A studio for this file alone, that waits for no picture longer than a moment."""
    running = RunningStudio(home=tmp_path_factory.mktemp("fuzzed") / "home", url=await servers.new_database())
    try:
        await running.start(environment={"TINTYPE_API_SYNC_WAIT_S": "0.2"})
        yield running
    finally:
        await running.stop()


@pytest.fixture(scope="module")
def http(studio: RunningStudio) -> Iterator[httpx.Client]:
    """A client of the studio."""
    with httpx.Client(base_url=studio.address, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    """The document as the studio gives it out."""
    return http.get("/openapi.json").json()


def test_the_studio_gives_out_the_document_that_is_asked_for_here(document):
    assert document == DOCUMENT


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_answer_is_one_that_the_document_names(http, document, name, mode):
    method, _, path = name.partition(" ")
    operation = schemathesis.openapi.from_dict(document)[path][method]
    known = {
        "generation_id": some_generations(http) if "{generation_id}" in path else [],
        "media_id": [upload(http)] if "{media_id}" in path else [],
        "model_id": ["scripted", "sketch"],
        "consent_id": [consent(http)] if "{consent_id}" in path else [],
        "image": [upload(http)] if path.endswith(("/edit", "/upscale")) else [],
    }

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=MODES[mode]), chance=st.data())
    def ask(case: schemathesis.Case, chance: st.DataObject) -> None:
        make_it_meet_something(case, known, chance)
        case.validate_response(answer_to(case, session, str(http.base_url)), checks=CHECKS)

    with requests.Session() as session:
        try:
            ask()
        except Unsatisfiable:
            assert (mode, name) in {("otherwise", name) for name in ANYTHING_FITS}


def make_it_meet_something(case: schemathesis.Case, known: dict[str, list[str]], chance: st.DataObject) -> None:
    """Name what exists where chance says so, and no model whose pictures take long."""
    for parameter, values in known.items():
        if parameter in (case.path_parameters or {}) and chance.draw(st.booleans()):
            case.path_parameters[parameter] = chance.draw(st.sampled_from(values))
    if not isinstance(case.body, dict):
        return
    if "file" in case.body and chance.draw(st.booleans()):
        case.body["file"] = picture()
    if known["image"] and "image" in case.body and chance.draw(st.booleans()):
        case.body["image"] = known["image"][0]
    inner = case.body.get("extra_params") if case.operation.path == "/generate" else case.body
    is_for_pictures = isinstance(inner, dict) and ("prompt" in case.body or "scale" in case.body)
    if is_for_pictures and (inner.get("model") is None or chance.draw(st.booleans())):
        inner["model"] = "scripted"


def answer_to(case: schemathesis.Case, session: requests.Session, address: str) -> requests.Response:
    """The answer; of a stream of events, which has no end, the head alone."""
    answer = session.request(**case.as_transport_kwargs(base_url=address), stream=True, timeout=20)
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.close()
        answer._content = b""
    return answer


def some_generations(http: httpx.Client) -> list[str]:
    """The ids of one that is completed, one that failed and one that runs for a while."""

    def make(**fields: object) -> str:
        return http.post("/api/generate/image", json={"prompt": "x", "model": "scripted", **fields}).json()["id"]

    ended = [make(), make(options={"fail_code": "fuzzed"})]
    for generation_id in ended:
        deadline = time.monotonic() + 20
        while http.get(f"/api/generate/{generation_id}").json()["completed_at"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    return [*ended, make(steps=50, options={"step_s": 0.1})]


def upload(http: httpx.Client) -> str:
    answer = http.post("/api/media", files={"file": ("a.png", picture(), "image/png")})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def consent(http: httpx.Client) -> str:
    said = {"stated_by": "Ada", "statement": "Yes.", "media": [upload(http)]}
    return http.post("/api/consents", json=said).json()["id"]


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), "red").save(file, "PNG")
    return file.getvalue()


def test_a_method_that_a_path_does_not_take_is_refused_with_those_it_takes(http, document):
    for path, methods in document["paths"].items():
        for method in {"PUT", "PATCH", "TRACE", "OPTIONS", "POST"} - {name.upper() for name in methods}:
            answer = http.request(method, path.format(generation_id=0, media_id=0, model_id=0, consent_id=0))
            body = problems.check(answer, 405, "method_not_allowed")
            assert answer.headers["allow"] in body["detail"], path

"""The document clients are generated from."""

import pytest

ROUTES = {
    ("post", "/api/generate/image"),
    ("post", "/api/generate/video"),
    ("get", "/api/generate"),
    ("get", "/api/generate/{generation_id}"),
    ("delete", "/api/generate/{generation_id}"),
    ("post", "/api/generate/{generation_id}/cancel"),
    ("post", "/api/generate/{generation_id}/retry"),
    ("get", "/api/generate/{generation_id}/events"),
    ("get", "/api/events"),
    ("post", "/api/media"),
    ("get", "/api/media/{media_id}"),
    ("get", "/api/media/{media_id}/content"),
    ("get", "/api/media/{media_id}/thumbnail"),
    ("get", "/api/media/{media_id}/storyboard"),
    ("get", "/api/models"),
    ("get", "/api/models/{model_id}"),
    ("get", "/api/styles"),
    ("get", "/health"),
    ("get", "/health/detailed"),
    ("post", "/generate"),
}


@pytest.fixture
async def document(http) -> dict:
    answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def operations(document: dict):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


async def test_the_document_is_valid_openapi(document):
    pytest.importorskip("openapi_spec_validator").validate(document)


async def test_every_route_of_the_contract_is_there(document):
    assert {(method, path) for method, path, _ in operations(document)} >= ROUTES


async def test_every_error_a_route_names_reads_as_a_problem(document):
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status >= "400":
                schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
                assert answer["content"] == schema, (method, path, status)


async def test_every_route_names_the_problems_it_can_answer_with(document):
    for method, path, operation in operations(document):
        named = set(operation["responses"])
        assert "421" in named, (method, path)
        if operation.get("parameters") or "requestBody" in operation:
            assert "422" in named, (method, path)
        if method in ("post", "delete"):
            assert {"403", "503"} <= named, (method, path)
        if "requestBody" in operation:
            assert "413" in named, (method, path)
        if "_id}" in path:
            assert "404" in named, (method, path)


async def test_every_route_and_every_field_of_a_request_is_described(document):
    for method, path, operation in operations(document):
        assert operation["description"], (method, path)
    assert document["components"]["schemas"]["ImageCreate"]["properties"]["prompt"]["description"]


async def test_operation_names_are_unique(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


async def test_every_write_says_that_it_can_be_repeated(document):
    for method, path, operation in operations(document):
        names = [parameter["name"] for parameter in operation.get("parameters", [])]
        assert names.count("Idempotency-Key") == (method in ("post", "delete")), (method, path)


async def test_every_answer_names_the_kind_of_its_content(document):
    kinds = {
        (path.rpartition("/")[2], status): set(answer.get("content", {}))
        for method, path, operation in operations(document)
        for status, answer in operation["responses"].items()
        if method == "get" and status < "400"
    }
    pictures = {"image/png", "image/jpeg", "image/webp", "image/avif", "image/gif", "video/mp4"}
    assert kinds["events", "200"] == {"text/event-stream"}
    assert kinds["content", "200"] == kinds["content", "206"] == pictures
    assert kinds["events", "204"] == kinds["content", "304"] == set()
    assert kinds["generate", "200"] == {"application/json"}


async def test_the_interactive_documentation_comes_with_the_package(http):
    answer = await http.get("/docs")
    assert answer.status_code == 200
    assert 'data-document="/openapi.json"' in answer.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        file = await http.get(f"/static/swagger-ui/{name}")
        assert file.status_code == 200
        assert f"/static/swagger-ui/{name}" in answer.text
    assert (await http.get("/redoc")).status_code == 404

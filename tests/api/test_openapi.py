"""The document clients are generated from."""

import pytest

ROUTES = {
    ("post", "/api/generate/image"),
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


async def test_the_interactive_documentation_is_served(http):
    answer = await http.get("/docs")
    assert answer.status_code == 200
    assert "/openapi.json" in answer.text

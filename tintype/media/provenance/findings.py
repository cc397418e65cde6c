"""What the manifest in anybody's file says, and how far that can be relied on."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from tintype.media.provenance import contexts
from tintype.media.provenance.manifest import MODEL_KEY

MAX_PARTS = 100  # of each list in a manifest that is shown

State = Literal["absent", "trusted", "untrusted", "invalid", "unreadable", "unread"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One thing that is wrong with a manifest: C2PA's code and an explanation."""

    code: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """An ingredient of a file as its manifest names it, with what was wrong with its own manifest, if it had one."""

    title: str | None
    relation: str
    has_manifest: bool
    failures: tuple[Failure, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a file's manifest says, and how far that can be relied on.

    `trusted` signatures come from a known root, `untrusted` ones are intact but anybody's; `invalid` means that file or
    manifest was changed, or that the signature does not count; `unreadable`, that there is one but broken;
    `unread`, that nobody looked.
    """

    state: State
    reasons: tuple[Failure, ...] = ()
    issuer: str | None = None
    signed_at: str | None = None
    generator: str | None = None
    model: str | None = None
    actions: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


def read(data: bytes, content_type: str, roots: str = "") -> Manifest:
    """What the manifest in a file says; never raises on what a stranger sent. `roots` (PEM) are those to trust."""
    import c2pa

    try:
        with c2pa.Reader(content_type, io.BytesIO(data), context=contexts.reading(roots)) as reader:
            return _manifest(json.loads(reader.json()))
    except (c2pa.C2paError, ValueError, RecursionError) as error:
        if str(error).startswith("ManifestNotFound"):
            return Manifest(state="absent")
        return Manifest(state="unreadable", reasons=(_unreadable(str(error)),))


def _manifest(document: object) -> Manifest:
    """What the reader's JSON says, of which strangers wrote much: nothing in it need have the type it should."""
    store = _dict(document)
    active = _dict(_dict(store.get("manifests")).get(str(store.get("active_manifest"))))
    results = _dict(_dict(store.get("validation_results")).get("activeManifest"))
    failures = _failures(results)
    signature = _dict(active.get("signature_info"))
    actions = [action for assertion in _dicts(active.get("assertions")) for action in _actions(assertion)]
    generators = [_text(one.get("name"), one.get("version")) for one in _dicts(active.get("claim_generator_info"))]
    models = [_text(_dict(action.get("parameters")).get(MODEL_KEY)) for action in actions]
    return Manifest(
        state=_state(str(store.get("validation_state"))),
        reasons=failures,
        issuer=_text(signature.get("issuer")),
        signed_at=_text(signature.get("time")),
        generator=next(iter(generators), None),
        model=next(filter(None, models), None),
        actions=tuple(str(action.get("action"))[:100] for action in actions),
        source_types=tuple(filter(None, (_text(action.get("digitalSourceType")) for action in actions))),
        parts=tuple(_part(one) for one in _dicts(active.get("ingredients"))[:MAX_PARTS]),
    )


def _unreadable(error: str) -> Failure:
    if error.startswith("Remote"):
        return Failure(code="manifest.remote", explanation="its manifest lies elsewhere, and is not fetched")
    return Failure(code="manifest.unreadable", explanation=error[:300])


def _state(said: str) -> State:
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "untrusted"}
    return states.get(said, "invalid")


def _part(ingredient: Mapping[str, Any]) -> Part:
    return Part(
        title=_text(ingredient.get("title")),
        relation=str(ingredient.get("relationship"))[:100],
        has_manifest=ingredient.get("active_manifest") is not None,
        failures=_failures(_dict(_dict(ingredient.get("validation_results")).get("activeManifest"))),
    )


def _failures(results: Mapping[str, Any]) -> tuple[Failure, ...]:
    return tuple(
        Failure(code=str(one.get("code"))[:100], explanation=str(one.get("explanation"))[:300])
        for one in _dicts(results.get("failure"))[:MAX_PARTS]
    )


def _actions(assertion: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not str(assertion.get("label")).startswith("c2pa.actions"):
        return []
    return _dicts(_dict(assertion.get("data")).get("actions"))[:MAX_PARTS]


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [_dict(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def _text(*values: object) -> str | None:
    return " ".join(str(value)[:200] for value in values if value is not None) or None

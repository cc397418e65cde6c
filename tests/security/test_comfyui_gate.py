"""ComfyUI as a way in and out: what may not be made reaches no server, and leaves none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.comfy import studios
from tests.faults.ledger import files_in, until
from tests.processes import RunningStudio
from tests.security.test_content_gate import HARMLESS, REFUSED, everything_in_the_database, rows
from tests.security.test_pictures_gate import GREEN, MAGENTA, ORANGE, PINK, colour_of, data_url, ended, picture
from tests.standins.comfyui import drawing, server
from tests.standins.comfyui.server import ComfyUI
from tintype.media import embedded, xmp
from tintype.media.provenance import findings


@pytest.fixture(scope="module")
async def comfyui(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ComfyUI]:
    async with server.running(tmp_path_factory.mktemp("comfyui")) as started:
        yield started


@pytest.fixture(scope="module")
async def studio(comfyui: ComfyUI, servers, tmp_path_factory) -> AsyncIterator[RunningStudio]:
    async with studios.running(tmp_path_factory.mktemp("gate"), await servers.new_database(), comfyui) as started:
        yield started


@pytest.fixture(autouse=True)
async def calm(studio: RunningStudio, comfyui: ComfyUI):
    """Refusals of the test before do not count, and the server has nothing of it."""
    await rows(studio, "DELETE FROM verdicts")
    comfyui.faults = server.Faults()
    comfyui.requests.clear()
    for path in studios.files_of(comfyui, kind="input"):
        path.unlink()


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch):
    """Have the server draw one flat colour, and show another meanwhile."""

    def flat(colour: int, *, shown: int = HARMLESS) -> None:
        def painted(batch: drawing.Batch, index: int) -> Image.Image:
            return Image.new("RGB", (batch.width, batch.height), colour_of(colour))

        def preview(batch: Any) -> bytes:
            return drawing.encode(Image.new("RGB", (64, 64), colour_of(shown)), "PNG")

        def of_an_upload(graph: Any, node: str, folder: Path) -> Any:
            given = batch_of(graph, node, folder)
            return Image.new("RGB", given.size, colour_of(colour)) if isinstance(given, Image.Image) else given

        batch_of = drawing.batch_of
        monkeypatch.setattr(drawing, "batch_of", of_an_upload)
        monkeypatch.setattr(drawing.Batch, "picture", painted)
        monkeypatch.setattr(drawing, "preview", preview)

    return flat


def posted(comfyui: ComfyUI) -> int:
    return comfyui.requests.count(("POST", "/prompt"))


async def drawn(studio: RunningStudio, **fields: Any) -> dict[str, Any]:
    return await studio.wait((await studio.generate("a boat", model="drawn", **fields))["id"])


async def redrawn(studio: RunningStudio, colour: int, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "a boat", "model": "redrawn", "image": data_url(picture(colour)), **fields}
    answer = await studio.http.post("/api/generate/edit", json=body)
    assert answer.status_code == 202, answer.text
    return await studio.wait(answer.json()["id"])


async def require_nothing_left(studio: RunningStudio, comfyui: ComfyUI, before: list[Path]) -> None:
    """Neither in the studio nor at the server."""
    assert files_in(studio.home / "media") == before
    await until(lambda: not comfyui.memory.history and comfyui.memory.running is None, "the server forgets it")
    assert studios.files_of(comfyui) == []


async def test_a_refused_prompt_reaches_no_server(studio, comfyui):
    answer = await studio.http.post("/api/generate/image", json={"prompt": REFUSED, "model": "drawn"})
    assert (answer.status_code, answer.json()["code"]) == (422, "content_blocked")
    assert posted(comfyui) == 0


async def test_a_refused_text_in_the_workflow_itself_reaches_no_server(studio, comfyui):
    graph = studios.read_graph("txt2img")
    graph["7"]["inputs"]["text"] = "blurry"
    graph["6"]["inputs"]["text"] = REFUSED
    inputs = [one for one in [*studios.SAMPLED, *studios.SIZED] if one["name"] not in ("prompt", "negative_prompt")]
    studios.add_workflow(
        studio, "worded", graph, {"inputs": inputs, "outputs": [{"node": "9"}]}, tasks=["text_to_image"]
    )
    await asyncio.sleep(0.5)
    failed = await studio.wait((await studio.generate("a boat", model="worded"))["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert posted(comfyui) == 0


async def test_a_blocked_input_is_sent_to_no_server(studio, comfyui):
    before = files_in(studio.home / "media")
    failed = await redrawn(studio, MAGENTA)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert "the picture you sent" in failed["error"]["message"]
    assert posted(comfyui) == 0
    assert studios.files_of(comfyui, kind="input") == []
    await require_nothing_left(studio, comfyui, before)


async def test_a_blocked_output_leaves_no_file_here_or_there_and_ends_its_batch(studio, comfyui, draw):
    before = files_in(studio.home / "media")
    comfyui.faults.step_s = 0.05
    draw(MAGENTA)
    failed = await drawn(studio, num_images=4, steps=10)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert failed["output_paths"] == []
    await require_nothing_left(studio, comfyui, before)
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [(one["stage"], one["reasons"]) for one in blocked] == [("output", ["sexual"])]


async def test_a_blocked_preview_is_not_shown_and_ends_the_job(studio, comfyui, draw):
    before = files_in(studio.home / "media")
    comfyui.faults.step_s = 0.1
    draw(HARMLESS, shown=MAGENTA)
    asked = await studio.generate("a boat", model="drawn", steps=200)
    heard = [event async for event in ended(studio, asked["id"])]
    assert [event.data for event in heard if "preview" in event.data] == []
    failed = await studio.read(asked["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    await require_nothing_left(studio, comfyui, before)
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [one["stage"] for one in blocked] == ["preview"]


async def test_a_harmless_preview_is_shown_and_never_stored(studio, comfyui, draw):
    comfyui.faults.step_s = 0.1
    draw(HARMLESS, shown=GREEN)
    asked = await studio.generate("a boat", model="drawn", steps=15)
    shown = [event.data["preview"] async for event in ended(studio, asked["id"]) if "preview" in event.data]
    assert shown, "no preview came"
    assert "data:image" not in await everything_in_the_database(studio)


async def test_what_is_made_of_a_persons_picture_may_not_be_suggestive(studio, comfyui, draw):
    draw(PINK)
    fine = await redrawn(studio, GREEN)
    assert fine["status"] == "completed", "of a landscape it may"
    failed = await redrawn(studio, ORANGE)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [(one["stage"], one["reasons"]) for one in blocked] == [("output", ["person"])]
    await until(lambda: studios.files_of(comfyui) == [], "the server has it no more")


async def test_a_person_stays_in_the_lineage(studio, draw):
    draw(HARMLESS)
    done = await redrawn(studio, ORANGE)
    assert done["status"] == "completed", done["error"]
    (row,) = await rows(studio, f"SELECT * FROM media WHERE id = '{done['media'][0]['id']}'")
    assert (row["shows_person"], row["person_in_lineage"], row["is_foreign"]) == (False, True, True)


async def test_every_output_is_judged_and_labelled(studio, draw):
    draw(HARMLESS)
    done = await drawn(studio)
    assert done["status"] == "completed", done["error"]
    (verdict,) = await rows(studio, "SELECT * FROM verdicts")
    assert (verdict["stage"], verdict["is_blocked"], verdict["detectors"]) == ("output", False, ["colours"])
    data = (await studio.http.get(done["output_paths"][0])).content
    found = await asyncio.to_thread(findings.read, data, "image/png")
    assert found.state in ("trusted", "untrusted"), "it is signed"
    label = xmp.label_in(embedded.read(data).xmp)
    assert (label.source_type, label.model) == (xmp.SourceType.CREATED, "drawn")


async def test_without_a_detector_no_workflow_runs(new_studio, comfyui, tmp_path):
    bare = tmp_path / "bare" / "tintype_scripted-0.1.0.dist-info"
    bare.mkdir(parents=True)
    (bare / "METADATA").write_text("Metadata-Version: 2.1\nName: tintype-scripted\nVersion: 0.1.0\n")
    environment = studios.environment(tmp_path, comfyui)
    first, *rest = environment["PYTHONPATH"].split(":")
    studios.add_workflows(RunningStudio(home=tmp_path / "home0", url=""), "drawn")
    without = await new_studio(
        workers=1, environment={**environment, "PYTHONPATH": ":".join([first, str(bare.parent), *rest])}
    )
    answer = await without.http.post("/api/generate/image", json={"prompt": "a boat", "model": "drawn"})
    assert (answer.status_code, answer.json()["code"]) == (422, "safety_detector_missing")
    assert posted(comfyui) == 0

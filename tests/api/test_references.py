"""Pictures that a model sees beside the one it changes: only where its manifest says so, and up to how many."""

import asyncio
import json
import shutil

import pytest

from tests.api import problems
from tests.api.test_edits import ask, drawn, given, picture
from tests.processes import SCRIPTED
from tintype.catalog.operations import LOOK_S
from tintype.media.provenance import findings


@pytest.fixture(scope="module", autouse=True)
async def referring(studio):
    """A model that takes two references."""
    folder = studio.home / "models" / "referring"
    folder.mkdir()
    limits = {**SCRIPTED["limits"], "max_references": 2}
    manifest = {**SCRIPTED, "id": "referring", "features": ["references"], "limits": limits}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    await asyncio.sleep(LOOK_S)
    yield folder
    shutil.rmtree(folder)
    await asyncio.sleep(LOOK_S)


async def test_references_reach_the_model_in_their_order_and_size(http, studio):
    made, _ = await drawn(http, studio, image=picture())
    references = [picture((70, 50), "lime"), made["media"][0]["id"]]
    done, _ = await drawn(http, studio, image=picture(), model="referring", references=references)
    seen = given(studio, done)
    assert (seen["source"], seen["reference 0"], seen["reference 1"]) == ([0, 0, 255], [0, 255, 0], [255, 0, 0])
    assert (seen["reference 0 size"], seen["reference 1 size"]) == ([70, 50], [64, 48])
    assert done["parameters"]["references"][1] == made["media"][0]["id"]
    again = await studio.wait((await http.post(f"/api/generate/{done['id']}/retry")).json()["id"])
    assert given(studio, again)["reference 0"] == [0, 255, 0]
    said = findings.read((await http.get(done["output_paths"][0])).content, "image/png")
    assert [part.relation for part in said.parts] == ["parentOf", "inputTo", "inputTo"]


async def test_a_reference_goes_along_with_a_new_background(http, studio):
    fields = {"image": picture(spot="yellow"), "background": "a beach", "references": [picture((70, 50), "lime")]}
    done, _ = await drawn(http, studio, model="referring", **fields)
    assert (given(studio, done)["task"], given(studio, done)["reference 0"]) == ("inpaint", [0, 255, 0])


async def test_who_names_no_model_gets_one_that_takes_references(http, studio):
    done, _ = await drawn(http, studio, image=picture(), model=None, references=[picture()])
    assert done["model"] == "referring"
    plain = await ask(http, image=picture(), model=None)
    assert plain.json()["model"] == "sketch"
    await studio.wait(plain.json()["id"])


async def test_more_than_the_model_takes_are_refused(http):
    answer = await ask(http, image=picture(), model="referring", references=[picture()] * 3)
    problems.check_field(answer, "references", says="'referring' takes at most 2")


async def test_where_no_model_takes_references_that_is_said(http, referring):
    manifest = referring / "manifest.json"
    hidden = manifest.rename(referring / "hidden.json")
    await asyncio.sleep(LOOK_S)
    try:
        answer = await ask(http, image=picture(), model=None, references=[picture()])
        problems.check_field(answer, "references", says="no installed model takes references")
    finally:
        hidden.rename(manifest)
        await asyncio.sleep(LOOK_S)

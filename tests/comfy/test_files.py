"""Files to and from the stand-in, with what can go wrong on the way."""

import hashlib
from pathlib import Path

import pytest

from tests.comfy.events import new_prefix, perform
from tests.standins.comfyui import graphs
from tests.standins.comfyui.server import ComfyUI
from tintype.comfy import files
from tintype.comfy.client import File, Server
from tintype.comfy.errors import ResultIncompleteError, ResultTooLargeError, UploadRefusedError

MOST_BYTES = 1 << 20


async def flat(client: Server) -> File:
    return (await perform(client, graphs.flat(prefix=new_prefix()))).files[0]


def posted(standin: ComfyUI) -> int:
    return standin.requests.count(("POST", "/upload/image"))


async def test_what_breaks_off_half_way_is_fetched_again(standin: ComfyUI, client: Server):
    file = await flat(client)
    standin.faults.cut_files = 2
    whole = (standin.folders["output"] / file.subfolder / file.name).read_bytes()
    assert await files.read(client, file, most_bytes=MOST_BYTES) == whole
    assert standin.faults.cut_files == 0


async def test_what_breaks_off_each_time_is_no_result(standin: ComfyUI, client: Server):
    file = await flat(client)
    standin.faults.cut_files = 100
    with pytest.raises(ResultIncompleteError, match=r"bytes of .* arrived") as caught:
        await files.read(client, file, most_bytes=MOST_BYTES)
    assert caught.value.retryable
    assert standin.faults.cut_files == 100 - files.ATTEMPTS


async def test_what_is_larger_than_is_taken_is_not_fetched(client: Server):
    file = await flat(client)
    with pytest.raises(ResultTooLargeError, match="10 are taken at most"):
        await files.read(client, file, most_bytes=10)


async def test_a_picture_is_sent_once_also_by_another_process(standin: ComfyUI, client: Server):
    name = await files.upload(client, b"a picture", suffix=".png")
    assert name == f"tintype/{hashlib.sha256(b'a picture').hexdigest()}.png"
    async with Server(standin.url) as other:
        assert await files.upload(other, b"a picture", suffix=".png") == name
    assert await files.upload(client, b"a picture", suffix=".png") == name
    assert posted(standin) == 1


async def test_a_picture_the_server_lost_is_sent_again(standin: ComfyUI, client: Server):
    name = await files.upload(client, b"a picture", suffix=".png")
    (standin.folders["input"] / name).unlink()
    assert await files.upload(client, b"a picture", suffix=".png") == name
    assert posted(standin) == 2
    assert (standin.folders["input"] / name).read_bytes() == b"a picture"


async def test_an_upload_that_is_too_large_is_refused_with_what_to_do(standin: ComfyUI, client: Server):
    standin.faults.most_upload_bytes = 100
    with pytest.raises(UploadRefusedError, match="--max-upload-size"):
        await files.upload(client, bytes(1000), suffix=".png")


async def test_a_result_in_a_folder_of_this_machine_is_deleted_with_its_folder(standin: ComfyUI):
    async with Server(standin.url, output_folder=standin.folders["output"]) as client:
        file = await flat(client)
        assert await files.remove(client, file) == "deleted"
    assert list(standin.folders["output"].iterdir()) == []


async def test_what_lies_beside_a_removed_result_stays(standin: ComfyUI):
    async with Server(standin.url, output_folder=standin.folders["output"]) as client:
        file = await flat(client)
        beside = standin.folders["output"] / "tintype-tests" / "somebody's.png"
        beside.write_bytes(b"theirs")
        await files.remove(client, file)
    assert beside.read_bytes() == b"theirs"


async def test_nothing_outside_the_output_folder_is_deleted(standin: ComfyUI, tmp_path: Path):
    theirs = tmp_path / "theirs.png"
    theirs.write_bytes(b"theirs")
    async with Server(standin.url, output_folder=standin.folders["output"]) as client:
        answer = await files.remove(client, File(name="theirs.png", subfolder="../.."))
    assert answer == "kept"
    assert theirs.read_bytes() == b"theirs"


def test_files_are_listed_whatever_list_they_stand_in():
    outputs = {
        "1": {"images": [{"filename": "a.png", "subfolder": "s", "type": "output"}]},
        "2": {"images": [{"filename": "b.mp4", "subfolder": "", "type": "output"}], "animated": [True]},
        "3": {"gifs": [{"filename": "c.mp4", "subfolder": "", "type": "temp", "format": "video/h264-mp4"}]},
        "4": {"text": ["no file"], "images": []},
    }
    assert files.listed(outputs) == (
        File(name="a.png", subfolder="s", node="1"),
        File(name="b.mp4", node="2", is_animated=True),
        File(name="c.mp4", type="temp", node="3", kind="gifs", is_animated=True),
    )

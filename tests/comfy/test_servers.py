"""Several servers: which one gets a prompt, and what is said of those that cannot."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.comfy.conftest import SOON
from tests.comfy.events import new_prefix, perform
from tests.standins.comfyui import graphs, server
from tests.standins.comfyui.server import ComfyUI
from tintype.comfy.errors import NoServerFitsError, UnreachableError
from tintype.comfy.servers import Inventory, Servers


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[ComfyUI, ComfyUI]]:
    async with server.running(tmp_path / "a") as first, server.running(tmp_path / "b") as second:
        yield first, second


@pytest.fixture
async def servers(pair: tuple[ComfyUI, ComfyUI]) -> AsyncIterator[Servers]:
    made = Servers([each.url for each in pair], SOON)
    yield made
    await made.close()


def needs_lora(name: str):
    def missing(inventory: Inventory) -> Sequence[str]:
        return () if name in inventory.models["loras"] else (f"The LoRA {name} is missing.",)

    return missing


async def test_each_server_tells_how_it_is(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    await pair[1].kill()
    first, second = await servers.health()
    assert (first.url, first.problem, first.version, first.remaining) == (pair[0].url, None, "0.3.64", 0)
    assert first.devices[0].type == "cpu"
    assert "cannot be reached" in (second.problem or "")


async def test_prompts_spread_over_idle_servers(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    async with servers.chosen() as first, servers.chosen() as second:
        assert {first.url, second.url} == {each.url for each in pair}


async def test_the_shorter_queue_is_chosen(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    pair[0].faults.step_s = 0.2
    running = asyncio.create_task(
        perform(servers.at(pair[0].url), graphs.text_to_image("bench.safetensors", prefix=new_prefix()))
    )
    while pair[0].memory.running is None:
        await asyncio.sleep(0.01)
    async with servers.chosen() as chosen:
        assert chosen.url == pair[1].url
    await running


async def test_a_server_that_has_what_is_needed_is_chosen(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    pair[1].offer("loras", "ink.safetensors")
    for _ in range(2):
        async with servers.chosen(needs_lora("ink.safetensors")) as chosen:
            assert chosen.url == pair[1].url


async def test_what_all_servers_lack_is_said(servers: Servers):
    with pytest.raises(NoServerFitsError, match=r"^The LoRA ink.safetensors is missing\.$") as caught:
        async with servers.chosen(needs_lora("ink.safetensors")):
            pass
    assert caught.value.code == "comfyui_no_server_fits"


async def test_a_model_that_came_later_is_found(
    pair: tuple[ComfyUI, ComfyUI], servers: Servers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tintype.comfy.servers.STALE_S", 0.0)
    with pytest.raises(NoServerFitsError):
        async with servers.chosen(needs_lora("ink.safetensors")):
            pass
    pair[0].offer("loras", "ink.safetensors")
    async with servers.chosen(needs_lora("ink.safetensors")) as chosen:
        assert chosen.url == pair[0].url


async def test_an_inventory_is_read_once(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    for _ in range(3):
        async with servers.chosen():
            pass
    assert sum(each.requests.count(("GET", "/object_info")) for each in pair) <= 2


async def test_a_server_that_is_away_is_left_out(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    await pair[0].kill()
    for _ in range(2):
        async with servers.chosen() as chosen:
            assert chosen.url == pair[1].url


async def test_a_server_that_was_away_is_asked_again_when_it_is_the_last(
    pair: tuple[ComfyUI, ComfyUI], servers: Servers
):
    await pair[0].kill()
    async with servers.chosen() as chosen:
        assert chosen.url == pair[1].url
    await pair[1].kill()
    await pair[0].start()
    async with servers.chosen() as chosen:
        assert chosen.url == pair[0].url


async def test_when_none_answers_that_is_said(pair: tuple[ComfyUI, ComfyUI], servers: Servers):
    for each in pair:
        await each.kill()
    with pytest.raises(UnreachableError, match="None of the ComfyUI servers answers"):
        async with servers.chosen():
            pass


async def test_a_ticket_of_a_server_that_was_taken_out_is_refused(servers: Servers):
    with pytest.raises(NoServerFitsError, match="is no longer a server of this studio"):
        servers.at("http://127.0.0.1:9")

"""The provider by itself: what it leaves on a server of this machine, and tokens nobody can use any more."""

import json
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from tests.comfy import studios
from tests.comfy.workflows import given
from tests.faults.ledger import until
from tests.processes import RunningStudio
from tests.standins.comfyui import server
from tests.standins.comfyui.drawing import DATA
from tests.standins.comfyui.server import ComfyUI
from tintype import settings
from tintype.comfy.jobs import Job
from tintype.comfy.provider import ComfyProvider
from tintype.providers.contract import WORK_UNKNOWN, Checkpoint, ModelFiles, Output, ProviderError


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    """A workflow in its folder."""
    studios.add_workflows(RunningStudio(home=tmp_path, url=""), "drawn")
    return ModelFiles(id="drawn", family="sd15", folder=str(tmp_path / "models" / "drawn"))


async def ready(provider: ComfyProvider) -> ComfyProvider:
    await until(lambda: provider.capabilities().is_complete, "it has looked at the servers")
    return provider


async def test_where_the_server_says_that_its_output_lies_here_nothing_of_a_job_stays(model, tmp_path, monkeypatch):
    async def stats(self: ComfyUI, _request: object) -> JSONResponse:
        said = json.loads((DATA / "system_stats.json").read_text())
        said["system"]["argv"] = ["main.py", "--output-directory", str(self.folders["output"])]
        return JSONResponse(said)

    monkeypatch.setattr(ComfyUI, "_stats", stats)
    async with server.running(tmp_path / "comfyui") as comfyui:
        provider = await ready(ComfyProvider(settings.Comfy(url=comfyui.url)))
        items = [item async for item in provider.generate(given.request(model=model))]
        assert isinstance(items[0], Checkpoint), "it comes before anything else"
        assert [item.seed for item in items if isinstance(item, Output)] == [7]
        await provider.close()
        assert list(comfyui.folders["output"].rglob("*")) == []
        assert comfyui.memory.history == {}


async def test_work_of_a_server_that_is_none_of_ours_any_more_is_not_known(tmp_path):
    async with server.running(tmp_path) as comfyui:
        provider = await ready(ComfyProvider(settings.Comfy(url=comfyui.url)))
        for token in (Job.new("http://elsewhere:8188", runs=1).token, "no token of ours"):
            with pytest.raises(ProviderError) as refusal:
                await provider.cancel(token)
            assert (refusal.value.code, refusal.value.retryable) == (WORK_UNKNOWN, False)
        await provider.cancel(Job.new(comfyui.url, runs=2).token)
        await provider.close()


def test_without_servers_it_offers_nothing_and_complains_of_nothing():
    capability = ComfyProvider(settings.Comfy(url=None)).capabilities()
    assert (capability.families, capability.concurrency, capability.problem) == ((), 0, None)
    assert "COMFYUI_URL" in capability.notes[0]

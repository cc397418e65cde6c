"""Videos on the first page: a tile with their first frame and length, a dialog that plays them."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from tests import videos
from tests.conftest import Servers
from tests.faults.ledger import until
from tests.processes import RunningStudio


@pytest.fixture(scope="module")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    async with videos.studio(servers, tmp_path_factory.mktemp("videos")) as running:
        yield running


async def test_a_video_appears_with_its_first_frame_and_plays_when_opened(studio, visitor):
    page = await visitor.open(studio)
    await videos.made(studio, prompt="a square that crosses", seed=0x20C830, width=128, frames=17, fps=8)
    tile = page.locator("#gallery .tile").filter(has=page.get_by_label("a square that crosses"))
    await expect(tile.locator("video")).to_have_attribute("preload", "none")
    assert "/thumbnail" in (await tile.locator("video").get_attribute("poster") or "")
    await expect(tile.locator(".length")).to_have_text("2 s")
    await tile.get_by_role("button").click()
    shown = page.locator("#viewer-video")
    await expect(shown).to_be_visible()
    await expect(page.locator("#viewer-picture")).to_be_hidden()
    await until(lambda: shown.evaluate("video => video.readyState >= 2"), "it can be played")
    size = await shown.evaluate("video => [video.videoWidth, video.videoHeight, video.duration]")
    assert size[:2] == [128, 64]
    assert size[2] == pytest.approx(17 / 8, abs=0.1)
    await shown.evaluate("async video => { video.muted = true; await video.play(); }")
    await until(lambda: shown.evaluate("video => video.currentTime > 0.3"), "it plays")
    await expect(page.locator("#viewer-facts")).to_contain_text("8 frames a second")
    await page.get_by_role("button", name="Run again").click()
    await expect(page.locator("#gallery .tile video")).to_have_count(2)


async def test_an_animation_is_shown_as_a_picture(studio, visitor):
    page = await visitor.open(studio)
    await videos.made(studio, prompt="an animated one", output_format="webp")
    image = page.locator("#gallery").get_by_alt_text("an animated one", exact=True)
    await image.click()
    await expect(page.locator("#viewer-picture")).to_be_visible()
    await expect(page.locator("#viewer-video")).to_be_hidden()

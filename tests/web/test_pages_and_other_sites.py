"""Pages in a real browser: the reference works without the internet, and other sites reach nothing."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Request, expect

PATIENCE_MS = 20_000


class Network:
    """Every address a page asks for."""

    def __init__(self, page: Page) -> None:
        self.asked: list[str] = []
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)

    def foreign(self, address: str) -> list[str]:
        """What went elsewhere than to `address`."""
        own = urlsplit(address).netloc
        return [
            url for url in self.asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
        ]


async def test_the_reference_is_drawn_and_tried_out_without_any_other_site(studio, visitor):
    page = await visitor.context.new_page()
    network = Network(page)
    visitor.watch(page)
    await page.goto(f"{studio.address}/docs")
    await expect(page.get_by_role("heading", name="Tintype")).to_be_visible(timeout=PATIENCE_MS)
    await page.locator("#operations-catalogue-list_models .opblock-summary-control").click()
    await page.get_by_role("button", name="Execute").click()
    live = page.locator("#operations-catalogue-list_models .live-responses-table")
    await expect(live).to_contain_text("scripted", timeout=PATIENCE_MS)
    await expect(live).to_contain_text("200")
    await page.locator("#operations-generations-create_image .opblock-summary-control").click()
    await expect(page.locator("#operations-generations-create_image")).to_contain_text("application/problem+json")
    await page.wait_for_timeout(300)
    assert network.foreign(studio.address) == []
    assert {urlsplit(url).path for url in network.asked} >= {"/docs", "/openapi.json", "/api/models"}


async def test_a_named_document_of_another_site_is_not_loaded_into_the_reference(studio, visitor):
    page = await visitor.context.new_page()
    network = Network(page)
    visitor.watch(page)
    await page.goto(f"{studio.address}/docs?url=http://evil.example/openapi.json&configUrl=http://evil.example/c.json")
    await expect(page.get_by_role("heading", name="Tintype")).to_be_visible(timeout=PATIENCE_MS)
    assert network.foreign(studio.address) == []


async def test_the_studio_itself_loads_nothing_from_elsewhere(studio, visitor):
    await studio.wait((await studio.generate("to be looked at"))["id"])
    page = await visitor.context.new_page()
    network = Network(page)
    visitor.watch(page)
    await page.goto(studio.address)
    await expect(page.get_by_alt_text("to be looked at", exact=True).first).to_have_class("shown", timeout=PATIENCE_MS)
    assert network.foreign(studio.address) == []


@pytest.fixture
async def other_site() -> AsyncIterator[str]:
    """The address of a page of somebody else's, on another port of this machine."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<!doctype html><title>another site</title><p>hello"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


ATTACKS = """
async (studio, picture) => {
  const outcome = {};
  const image = new Image();
  outcome.image = await new Promise((done) => {
    image.onload = () => done("loaded");
    image.onerror = () => done("refused");
    image.src = picture;
  });
  const script = document.createElement("script");
  outcome.script = await new Promise((done) => {
    script.onload = () => done("loaded");
    script.onerror = () => done("refused");
    script.src = `${studio}/static/api.js`;
    document.head.append(script);
  });
  const opaque = async (path, init) => {
    try { return (await fetch(studio + path, { mode: "no-cors", ...init })).type; } catch { return "refused"; }
  };
  outcome.read = await opaque("/api/generate");
  outcome.write = await opaque("/generate", { method: "POST", body: '{"prompt": "drawn by another site"}' });
  outcome.socket = await new Promise((done) => {
    const socket = new WebSocket(`${studio.replace("http", "ws")}/api/ws`);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
  return outcome;
}
"""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
async def test_a_page_of_another_site_gets_nothing_and_a_link_still_opens_the_studio(studio, visitor, other_site, name):
    done = await studio.wait((await studio.generate("not for other sites"))["id"])
    page = await visitor.context.new_page()
    await page.goto(other_site)
    address = studio.address.replace("127.0.0.1", name)
    attack = ATTACKS.strip()
    outcome = await page.evaluate(
        f"([studio, picture]) => ({attack})(studio, picture)", [address, address + done["output_paths"][0]]
    )
    assert {outcome[what] for what in ("image", "script", "read", "write", "socket")} == {"refused"}
    listed = (await studio.http.get("/api/generate", params={"q": "drawn by another site"})).json()["items"]
    assert listed == []
    await page.evaluate("studio => { location.href = studio }", address)
    await expect(page.locator("#health.ready, #health.idle")).to_be_visible(timeout=PATIENCE_MS)

"""A real browser (Debian's Chromium) on a real studio; whatever a page complains about fails its test."""

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.conftest import Servers
from tests.processes import RunningStudio

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI}`));
"""


class Visitor:
    """A person with a browser: tabs that share their storage, and all that these tabs complained about."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        self._expected: list[str] = []

    async def open(self, studio: RunningStudio) -> Page:
        """A tab with the studio's page, once it is connected."""
        page = await self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        self.watch(page)
        await page.goto(studio.address)
        await page.locator("#health.ready, #health.idle").wait_for()
        await page.locator("#composer select[name=model] option").first.wait_for(state="attached")
        return page

    def watch(self, page: Page) -> None:
        """Note what `page` complains about."""
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"{error}"))

    def expect_complaint(self, pattern: str) -> None:
        """The test provokes complaints that match; browsers write refused requests to the console."""
        self._expected.append(pattern)

    def unexpected(self) -> list[str]:
        """What no test asked for."""
        return [text for text in self.complaints if not any(re.search(known, text) for known in self._expected)]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, started once."""
    if not CHROMIUM:
        pytest.fail("Chromium is missing; `make test` installs it where it may, else install `chromium`")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        await launched.close()


@pytest.fixture
async def new_visitor(browser: Browser) -> AsyncIterator[Callable[..., Awaitable[Visitor]]]:
    """Visitors with a fresh browser profile each: `await new_visitor(viewport={...})`."""
    visitors: list[Visitor] = []

    async def arrive(**options: Any) -> Visitor:
        usual = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB"}
        context = await browser.new_context(**{**usual, **options})
        await context.add_init_script(REPORT_VIOLATIONS)
        visitors.append(Visitor(context))
        return visitors[-1]

    yield arrive
    for visitor in visitors:
        await visitor.context.close()
    assert [text for visitor in visitors for text in visitor.unexpected()] == []


@pytest.fixture
async def visitor(new_visitor: Callable[..., Awaitable[Visitor]]) -> Visitor:
    """One visitor with a desktop browser."""
    return await new_visitor()


@pytest.fixture(scope="session")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """A studio these tests share, each with prompts of its own."""
    shared = RunningStudio(home=tmp_path_factory.mktemp("web"), url=await servers.new_database())
    try:
        await shared.start()
        yield shared
    finally:
        await shared.stop()

"""Debian's Chromium, driven by Playwright, with the page signed in."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Page, Request, async_playwright

from tests.dashboard.scene import Scene

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 45_000
"""How long a test waits for something to be on the page."""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium")


@dataclass
class Opened:
    """A tab. `faults` has what the page's scripts and the browser complained about, `elsewhere`
    the requests to another host than the gateway.
    """

    page: Page
    base: str
    faults: list[str] = field(default_factory=list[str])
    elsewhere: list[str] = field(default_factory=list[str])

    async def go(self, view: str) -> None:
        await self.page.goto(f"{self.base}/_internal/#/{view}")

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def sees(self, selector: str, **more: Any) -> None:
        await self.page.wait_for_selector(selector, **more)

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true. Playwright's own way needs `eval`, which the
        page's policy forbids.
        """
        async with asyncio.timeout(WAIT_MS / 1000):
            while not await self.page.evaluate(expression):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(
    scene: Scene,
    *,
    width: int = 1280,
    height: int = 800,
    scheme: Any = "light",
    scale: float = 1,
    motion: Any = "reduce",
) -> AsyncGenerator[Opened]:
    async with async_playwright() as playwright:
        # Root may not use Chromium's sandbox; the pages are our own. Letters with coloured edges
        # make large pictures.
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-lcd-text"]
        )
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=scale,
            reduced_motion=motion,
            locale="en-GB",
            timezone_id="UTC",
        )
        page = await context.new_page()
        page.set_default_timeout(WAIT_MS)
        tab = Opened(page, scene.running.base)

        def requested(request: Request) -> None:
            if not request.url.startswith(tab.base):
                tab.elsewhere.append(request.url)

        page.on("request", requested)
        page.on("pageerror", lambda error: tab.faults.append(str(error)))
        page.on(
            "console",
            lambda message: (
                tab.faults.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        await page.goto(scene.url)
        await page.wait_for_selector("#nav a")
        try:
            yield tab
        finally:
            await browser.close()

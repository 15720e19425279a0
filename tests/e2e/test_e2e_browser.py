"""The page in a real Chromium, against real services: what a newcomer sees, and what they see when things break."""

import asyncio
import os
import random
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from haulyard_devstack import Stack
from haulyard_devstack.probes import http_ok
from support.browser import AXE, PAGE, NoBrowserError, running_browser
from support.client import ApiClient, members, sha256

MIB = 1024 * 1024
WIDE = (1200, 800)
PHONE = (360, 740)

expect.set_options(timeout=30_000)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{seed}:{size}").randbytes(size)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not PAGE.exists():
        pytest.skip("the page is not built (make web, which takes Node)")
    try:
        async with running_browser() as running:
            yield running
    except NoBrowserError as error:
        pytest.skip(str(error))


@dataclass
class Visitor:
    """One user's browser, with nothing kept from before."""

    context: BrowserContext
    page: Page
    home: str
    token: str
    faults: list[str] = field(default_factory=list)
    """What the page did wrong: exceptions, and what its security policy had to stop."""

    def hear(self, message: ConsoleMessage) -> None:
        """Take what the browser has to say."""
        if "Content Security Policy" in message.text:
            self.faults.append(message.text)

    async def sign_in(self) -> None:
        """Open the link that `make up` prints."""
        await self.page.goto(f"{self.home}/#token={self.token}")
        await expect(self.page.get_by_role("heading", name="Files")).to_be_visible()

    def job(self, name: str) -> Locator:
        return self.page.get_by_role("article", name=name)

    async def download(self, name: str, folder: Path) -> Path:
        """Press the job's button and return what lands on disk."""
        async with self.page.expect_download() as started:
            await self.job(name).get_by_role("button", name="Download").click()
        download = await started.value
        path = folder / download.suggested_filename
        await download.save_as(path)
        return path

    async def complaints(self) -> list[str]:
        """Return what axe finds wrong with the page as it is."""
        await self.page.evaluate(await asyncio.to_thread(AXE.read_text))
        found: dict[str, Any] = await self.page.evaluate("axe.run()")
        return [
            f"{violation['id']}: {node['html']}" for violation in found["violations"] for node in violation["nodes"]
        ]


@pytest.fixture
async def visitor(browser: Browser, stack: Stack, api: ApiClient) -> AsyncIterator[Visitor]:
    context = await browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, reduced_motion="reduce")
    page = await context.new_page()
    token = api.http.headers["Authorization"].removeprefix("Bearer ")
    visitor = Visitor(context, page, stack.api_url, token)
    page.on("pageerror", lambda error: visitor.faults.append(str(error)))
    page.on("console", visitor.hear)
    yield visitor
    await context.close()
    assert visitor.faults == []


async def test_a_newcomer_has_a_finished_download_after_three_clicks(visitor: Visitor, tmp_path: Path) -> None:
    await visitor.sign_in()
    assert visitor.page.url == f"{visitor.home}/", "the token must not stay in the address bar"
    await visitor.page.get_by_role("button", name="Add sample files").click()
    start = visitor.page.get_by_role("button", name="Download as ZIP")
    await expect(start).to_be_enabled()
    await start.click()
    await expect(visitor.job("samples.zip")).to_have_attribute("data-state", "completed")
    archive = await visitor.download("samples.zip", tmp_path)
    assert archive.name == "samples.zip"
    found = members(archive.read_bytes())
    assert sorted(found) == [
        "samples/measurements.csv",
        *(f"samples/noise/{number}.bin" for number in (1, 2, 3, 4)),
        "samples/read me.txt",
    ]
    if unzip := shutil.which("unzip"):
        await asyncio.to_thread(subprocess.run, [unzip, "-tq", str(archive)], check=True)
    assert visitor.page.url == f"{visitor.home}/", "the page has to stay where it is"


async def test_files_from_the_disk_come_back_as_they_were(visitor: Visitor, tmp_path: Path) -> None:
    contents = {"größe 1.bin": noise(3 * MIB), "empty.txt": b"", "b.txt": b"b"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    await visitor.sign_in()
    await visitor.page.get_by_label("Files to upload").set_input_files([tmp_path / name for name in contents])
    await expect(visitor.page.get_by_text("3 files · 3.15 MB")).to_be_visible()
    await visitor.page.get_by_role("searchbox").fill("GRÖSSE 1")
    await expect(visitor.page.get_by_role("checkbox", name="b.txt")).to_have_count(0)
    await visitor.page.get_by_role("searchbox").fill("")
    await visitor.page.get_by_label("Name of the archive").fill("quarter")
    await visitor.page.get_by_role("button", name="Download as ZIP").click()
    await expect(visitor.job("quarter.zip")).to_have_attribute("data-state", "completed")
    archive = await visitor.download("quarter.zip", tmp_path)
    assert members(archive.read_bytes()) == {name: sha256(data) for name, data in contents.items()}


async def test_the_bar_moves_and_only_forwards(visitor: Visitor, api: ApiClient, stack: Stack) -> None:
    data = noise(40 * MIB)
    ids = [await api.upload(f"{number}.bin", data) for number in range(10)]
    await visitor.sign_in()
    with stack.paused("archiver"):
        await api.initiate(*ids, filename="moving.zip")
        await visitor.page.reload()
        bar = visitor.job("moving.zip").get_by_role("progressbar")
        await expect(bar).to_have_attribute("aria-valuenow", "0")
        await bar.evaluate(
            """bar => {
              window.seen = [];
              new MutationObserver(() => seen.push(Number(bar.getAttribute("aria-valuenow"))))
                .observe(bar, { attributes: true, attributeFilter: ["aria-valuenow"] });
            }"""
        )
    await expect(bar).to_have_attribute("aria-valuenow", "100")
    seen = await visitor.page.evaluate("seen")
    assert seen == sorted(seen)
    assert [value for value in seen if 0 < value < 100], f"nothing between start and end: {seen}"
    await visitor.job("moving.zip").get_by_text("10 files: 10 done").click()
    await expect(visitor.job("moving.zip").get_by_role("listitem")).to_have_count(10)


async def test_the_page_survives_a_reload_and_a_network_that_is_cut_and_comes_back(
    visitor: Visitor, api: ApiClient, stack: Stack
) -> None:
    file_id = await api.upload("a.bin", noise(20 * MIB))
    await visitor.sign_in()
    with stack.paused("archiver"):
        job = await api.initiate(file_id, filename="cut.zip")
        await visitor.page.reload()
        card = visitor.job("cut.zip")
        await expect(card).to_have_attribute("data-connection", "websocket")
        await visitor.context.set_offline(True)
        await expect(visitor.page.get_by_text("You are offline.")).to_be_visible()
        await expect(card).to_have_attribute("data-connection", "offline")
    await api.watch(job["websocket_url"])
    await expect(card).to_have_attribute("data-state", re.compile("queued|processing"))
    await visitor.context.set_offline(False)
    await expect(card).to_have_attribute("data-state", "completed")
    await expect(visitor.page.get_by_text("You are offline.")).to_have_count(0)


async def test_where_websockets_are_blocked_server_sent_events_do(
    visitor: Visitor, api: ApiClient, stack: Stack
) -> None:
    await visitor.context.route_web_socket(re.compile("/ws/jobs/"), lambda socket: socket.close())
    file_id = await api.upload("a.bin", noise(MIB))
    with stack.paused("archiver"):
        await api.initiate(file_id, filename="events.zip")
        await visitor.sign_in()
        await expect(visitor.job("events.zip")).to_have_attribute("data-connection", "sse")
    await expect(visitor.job("events.zip")).to_have_attribute("data-state", "completed")


@pytest.mark.fault
async def test_where_nothing_live_gets_through_polling_does(visitor: Visitor, api: ApiClient, stack: Stack) -> None:
    file_id = await api.upload("a.bin", noise(MIB))
    notifier = stack.processes["notifier"]
    try:
        with stack.paused("archiver"):
            await api.initiate(file_id, filename="polled.zip")
            await visitor.sign_in()
            await expect(visitor.job("polled.zip")).to_have_attribute("data-connection", "websocket")
            await notifier.kill()
            await expect(visitor.job("polled.zip")).to_have_attribute("data-connection", "polling")
        await expect(visitor.job("polled.zip")).to_have_attribute("data-state", "completed")
    finally:
        await notifier.start(lambda: http_ok(f"{stack.notifier_url}/health/ready"), 60)


async def test_a_job_can_be_stopped_done_again_and_deleted(visitor: Visitor, api: ApiClient, stack: Stack) -> None:
    file_id = await api.upload("a.bin", noise(MIB))
    with stack.paused("archiver"):
        await api.initiate(file_id, filename="again.zip")
        await visitor.sign_in()
        await visitor.job("again.zip").get_by_role("button", name="Cancel").click()
        await expect(visitor.job("again.zip")).to_have_attribute("data-state", "cancelled")
    cards = visitor.page.get_by_role("article", name="again.zip")
    await cards.get_by_role("button", name="Retry").click()
    await expect(cards).to_have_count(2)
    await expect(cards.first).to_have_attribute("data-state", "completed")
    await cards.last.get_by_role("button", name="Delete").click()
    await expect(cards).to_have_count(1)
    await visitor.page.reload()
    await expect(cards).to_have_count(1)
    await expect(cards).to_have_attribute("data-state", "completed")


async def test_what_is_missing_in_an_archive_is_named(visitor: Visitor, api: ApiClient) -> None:
    file_id = await api.upload("here.txt", b"here")
    job = await api.initiate(file_id, 999_999_999, filename="partly.zip")
    await api.watch(job["websocket_url"])
    await visitor.sign_in()
    card = visitor.job("partly.zip")
    await card.locator("summary").click()
    failed = card.get_by_role("listitem").filter(has_text="failed")
    await expect(failed).to_contain_text("999999999")
    await expect(card.get_by_text("1 could not be packed")).to_be_visible()
    await expect(card.get_by_role("button", name="Retry")).to_be_visible()


async def test_one_signs_in_with_a_token_and_out_again(visitor: Visitor) -> None:
    page = visitor.page
    await page.goto(visitor.home)
    await page.get_by_label("Access token").fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await page.get_by_label("Access token").fill(visitor.token)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No files yet")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("No files yet")).to_be_visible()
    another_tab = await visitor.context.new_page()
    await another_tab.goto(visitor.home)
    await expect(another_tab.get_by_label("Access token")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await page.reload()
    await expect(page.get_by_label("Access token")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_is_for_everybody_on_every_screen(
    visitor: Visitor, api: ApiClient, stack: Stack, scheme: Any, tmp_path: Path
) -> None:
    """Checks with axe at two widths, and takes the pictures of `docs/screenshots` where `HAULYARD_SCREENSHOTS` says."""
    wanted = os.environ.get("HAULYARD_SCREENSHOTS")
    pictures = Path(wanted or tmp_path)
    # For a picture the other archiver does its share of the job; that is some of it, but nobody knows how much.
    frozen = "archiver-1" if wanted else "archiver"
    page = visitor.page
    await page.emulate_media(color_scheme=scheme)
    await page.goto(visitor.home)
    await expect(page.get_by_label("Access token")).to_be_visible()
    assert await visitor.complaints() == []
    await visitor.sign_in()
    await expect(page.get_by_text("No files yet")).to_be_visible()
    assert await visitor.complaints() == []
    ids = [
        await api.upload(name, noise(size))
        for name, size in (
            ("reports/2026 Q3/board pack.pdf", 2_400_000),
            ("reports/2026 Q3/figures.xlsx", 310_000),
            ("site visit/photos/harbour at dawn.jpg", 4_100_000),
            ("site visit/photos/crane 7.jpg", 3_700_000),
            ("site visit/walkthrough.mov", 140_000_000),
            ("contracts/signed.zip", 1_200_000),
        )
    ]
    await api.watch((await api.initiate(*ids[:2], 999_999_999, filename="board.zip"))["websocket_url"])
    await api.watch((await api.initiate(*ids[2:4], filename="photos.zip"))["websocket_url"])
    with stack.paused(frozen):
        await api.initiate(*ids, filename="everything.zip")
        for name, (width, height) in (("wide", WIDE), ("phone", PHONE)):
            await page.set_viewport_size({"width": width, "height": height})
            await page.reload()
            await expect(visitor.job("everything.zip")).to_have_attribute("data-connection", "websocket")
            await page.get_by_role("checkbox", name="Select all").check()
            await visitor.job("board.zip").locator("summary").click()
            await expect(visitor.job("board.zip").get_by_role("listitem")).to_have_count(3)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await visitor.complaints() == []
            picture = pictures / f"{name}-{scheme}.png"
            await page.screenshot(path=picture, full_page=name == "phone")

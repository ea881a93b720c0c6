"""The pages in a real Chromium: they log in, move, show names as text, obey their policy, and fit any screen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import chromium, hostile, our_server, process
from helpers.chromium import Chromium, Page
from helpers.our_server import OurServer

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib import hashing
from vserverlib.examples import demo

pytestmark = [pytest.mark.long, pytest.mark.skipif(chromium.MISSING is not None, reason=str(chromium.MISSING))]

PASSWORD = "Geheim-1234!"
HOSTILE = 3  # the collaboration with hostile names: the one after it is not seen by bram
LIVE = "document.getElementById('live').className == 'on'"
ROW = "document.querySelector('[data-key=task-{id}]')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium.running(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with a user `bram` of organization 1, a collaboration of hostile names, and one without him."""
    path = demo.create(tmp_path_factory.mktemp("data") / "vserver.db")
    with pytest.MonkeyPatch.context() as patched, contextlib.closing(models.connect(path)) as database:
        patched.setattr(hashing, "ROUNDS", 4)
        with database.rule_checks(False):
            for name, roles in (("anna", "Root"), ("bram", "Researcher")):
                User(username=name, roles=roles, organization=1, password=PASSWORD, email=f"{name}@x.example").save()
            together = Collaboration(name=hostile.NAMES[0], organizations=[Organization.by_id(1)])
            together.save()
            for name in hostile.NAMES:
                Node(name=name, organization=1, collaboration=together).save()
                task = Task(name=name, description=name, image=name, collaboration=together, initiator=1)
                task.save()
                Result(task=task, organization=1, log=name).save()
            hidden = Collaboration(name="Secret-collaboration", organizations=[Organization.by_id(4)])
            hidden.save()
            Node(name="Secret-node", organization=4, collaboration=hidden).save()
            secret = Task(name="Secret-task", image="i", collaboration=hidden, initiator=4)
            secret.save()
            Result(task=secret, organization=4).save()
    return path


@pytest.fixture(scope="module")
def served(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    folder = tmp_path_factory.mktemp("served")
    with our_server.running(data, folder, XDG_DATA_HOME=str(folder)) as server:
        yield server
        assert "Traceback" not in server.err


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    """A page without cookies. At its end nothing was complained of."""
    opened = browser.page()
    yield opened
    assert opened.complaints == []


def address(served: OurServer, path: str = "/") -> str:
    return f"http://127.0.0.1:{served.port}{path}"


def test_a_bar_moves_when_a_result_comes_in(page: Page, served: OurServer, data: Path) -> None:
    page.log_in(address(served), "anna", PASSWORD)
    page.wait(LIVE)
    row = ROW.format(id=19)
    assert "Interval between screenings" in page.ask(f"{row}.innerText") and "1/3" in page.ask(f"{row}.innerText")
    width = f"{row}.querySelector('.done').getBoundingClientRect().width"
    before = page.ask(width)
    page.ask(f"{row}.dataset.mine = 'kept'; {row}.querySelector('a').focus()")
    script = """
from datetime import datetime, UTC
result = next(each for each in db.Task.get(19).results if not each.complete)
result.started_at = result.finished_at = datetime.now(UTC)
result.save()
"""
    assert process.vserver("-d", data, "shell", "-c", script).status == 0
    page.wait(f"{row}.innerText.includes('2/3')")
    page.wait(f"{width} > {before} * 1.4")
    assert page.ask("document.activeElement.closest('tr').dataset.key") == "task-19"  # nothing was replaced
    page.press("Enter")
    page.wait(f"location.pathname == '/page/task/19' && {LIVE}")
    assert "1 awaited" in page.text and "✓ completed" in page.text.replace("\xa0", " ")
    page.ask("document.querySelector('header button').click()")
    page.wait("location.pathname == '/page/log-in'")


def test_hostile_names_are_text_and_what_is_not_seen_is_not_there(page: Page, served: OurServer) -> None:
    page.log_in(address(served), "bram", "wrong")
    assert "wrong name or password" in page.text
    assert all("401" in each for each in page.complaints)
    page.complaints.clear()
    page.log_in(address(served), "bram", PASSWORD)
    page.wait(LIVE)
    shown = page.ask("document.documentElement.outerHTML")
    assert "<script>document.title = 'taken'</script>" in page.text and "{{ 7 * 7 }}" in page.text
    assert "Secret" not in shown and page.ask("document.images.length") == 0
    links = page.ask("[...document.querySelectorAll('main a')].map(each => each.getAttribute('href'))")
    for link in links[:4]:
        page.go(address(served, link))
        page.wait(LIVE)
        assert page.ask("document.title") != "taken" and page.ask("document.images.length") == 0
    assert page.ask("document.querySelector('h1').textContent").startswith("task ")


def test_it_fits_every_screen_and_stands_without_its_script(page: Page, served: OurServer) -> None:
    page.log_in(address(served), "anna", PASSWORD)
    page.wait(LIVE)
    for path in ("/", "/page/task/19", "/?big"):
        page.go(address(served, path))
        for width in (320, 375, 1280, 1920):
            assert len(page.screen(width, 900)) > 5000
            wide = page.ask(
                "Math.max(...[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right))"
            )
            assert wide <= width + 1, (path, width, wide)
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.go(address(served))
    assert "Without JavaScript this page does not move" in page.text and "Interval between screenings" in page.text
    page.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_page_is_not_live_while_the_database_cannot_be_read(page: Page, served: OurServer, data: Path) -> None:
    page.log_in(address(served), "anna", PASSWORD)
    page.wait(LIVE)
    moved = data.rename(data.with_name("moved"))
    try:
        page.wait(LIVE.replace("'on'", "'off'"))
        assert "not connected" in page.text
    finally:
        moved.rename(data)
    page.wait(LIVE)


def test_a_link_of_another_site_leads_to_the_page(page: Page, served: OurServer) -> None:
    page.log_in(address(served), "anna", PASSWORD)
    page.go(address(served, "/page/log-in").replace("127.0.0.1", "localhost"))
    page.ask(f"location.href = '{address(served, '/page/task/19')}'")
    page.wait(f"location.host.startsWith('127') && {LIVE}")
    assert page.ask("location.pathname") == "/page/task/19"


def test_a_file_obeys_its_own_policy(page: Page, data: Path, tmp_path: Path) -> None:
    assert process.vserver("-d", data, "overview", "-o", "html", "page.html", cwd=tmp_path).status == 0
    page.go((tmp_path / "page.html").as_uri())
    assert "Secret-task" in page.text and page.ask("document.title").endswith("vserver.db")
    assert page.ask("getComputedStyle(document.querySelector('.columns')).display") == "grid"

"""Write docs/page.png: the page of `vserver start` in Chromium, while nodes are simulated.

    python docs/make_page.py

The picture differs each time, because `demo --live` is random.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from helpers import chromium, our_server  # noqa: E402  # of the tests
from helpers.process import PROGRAM  # noqa: E402
from helpers.terminal import environment  # noqa: E402

WIDTH, HEIGHT = 1280, 860
PASSWORD = "Demo-Anna-1"
USER = ("create", "user", "anna", "organization=1", "roles=Root", "email=anna@x.example", "--password-stdin")
AT_WORK = "document.querySelectorAll('.nodes .completed').length > 3"  # nodes are online


def picture(folder: Path) -> bytes:
    """Return the picture of a made-up consortium at work."""
    path, env = folder / "vserver.db", environment(folder)
    run = functools.partial(subprocess.run, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run([*PROGRAM, "-d", str(path), "demo", "--tasks", "40", "--organizations", "6"])
    run([*PROGRAM, "-d", str(path), *USER], input=f"{PASSWORD}\n".encode())
    with our_server.running(path, folder, HOME=str(folder)) as server, chromium.running(folder / "profile") as browser:
        page = browser.page()
        page.screen(WIDTH, HEIGHT)
        page.log_in(f"http://127.0.0.1:{server.port}/", "anna", PASSWORD)
        player = subprocess.Popen([*PROGRAM, "-d", str(path), "demo", "--live"], env=env, stderr=subprocess.DEVNULL)
        try:
            page.wait(AT_WORK)
            page.wait("document.getAnimations().length == 0")
            return page.screen(WIDTH, HEIGHT)
        finally:
            player.terminate()
            player.wait()


if __name__ == "__main__":
    if chromium.MISSING:
        sys.exit(f"docs/page.png is as it was: {chromium.MISSING}")
    with tempfile.TemporaryDirectory() as made:
        (HERE / "page.png").write_bytes(picture(Path(made)))
    print("written: docs/page.png")

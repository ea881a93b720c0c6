"""The door of the program, which `vserver` and `python -m vserverlib` go through.

A password among the arguments is hidden here, before the program is imported, which takes its time.
"""

from __future__ import annotations

from vserverlib import arguments


def main() -> None:
    """Be the program."""
    arguments.hide()
    import vserver

    vserver.main(prog_name="vserver")


if __name__ == "__main__":
    main()

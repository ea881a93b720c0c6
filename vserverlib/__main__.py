"""The door of the program, which `vserver` and `python -m vserverlib` go through.

Signals are handled, and a password among the arguments is hidden here, before the program is imported, which takes its
time.
"""

from __future__ import annotations

from vserverlib import signals


def main() -> None:
    """Be the program."""
    signals.watch()
    from vserverlib import arguments

    arguments.hide()
    import vserver

    vserver.main(prog_name="vserver")


if __name__ == "__main__":
    main()

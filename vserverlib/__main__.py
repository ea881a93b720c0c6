"""The entry point of `vserver` and `python -m vserverlib`.

It installs the signal handlers and hides a password among the arguments before it imports the program, which takes
longer.
"""

from __future__ import annotations

from vserverlib import signals


def main() -> None:
    """Run the command line."""
    signals.watch()
    from vserverlib import arguments

    arguments.hide()
    import vserver

    vserver.main(prog_name="vserver")


if __name__ == "__main__":
    main()

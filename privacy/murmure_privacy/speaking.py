"""Commands that say what they refuse in the steward's language. Importing it loads nothing of the kernel."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Handler = Callable[[argparse.Namespace], int]


def speaking(handler: Handler) -> Handler:
    """Returns a command that says what it refuses in the language that `--lang` or the machine names."""

    def spoken(args: argparse.Namespace) -> int:
        from murmure_privacy.errors import MurmureError

        try:
            return handler(args)
        except (MurmureError, OSError) as error:
            from murmure_privacy.french import Refused, refused
            from murmure_privacy.policy_words import language

            said = None if (args.lang or language()) == "en" else refused(error)
            if said is None:
                raise
            raise Refused(said, getattr(error, "exit_status", 1)) from error

    return spoken


def add_lang(command: argparse.ArgumentParser) -> None:
    """Adds the option that names the language."""
    command.add_argument("--lang", choices=("fr", "en"), help="the language (English where LANG says so, else fr)")

"""What the scripts beside this one share: where the daemon is, and a list of checks to run by name."""

import argparse
import pathlib
import sys
import traceback


def endpoint() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", help="path of openai.sock")
    parser.add_argument("--url", help="base URL of the loopback port, with /v1")
    parser.add_argument("--token-file", type=pathlib.Path)
    parser.add_argument("checks", nargs="+", metavar="CHECK")
    return parser


def token(arguments: argparse.Namespace) -> str:
    return arguments.token_file.read_text().strip() if arguments.token_file else "unused"


def run(known: dict, names: list, *given) -> int:
    """Runs the checks of these names; says of each whether it holds."""
    failed = 0
    for name in names:
        try:
            known[name](*given)
            print(f"ok {name}")
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
    return 1 if failed else 0


def raises(kind: type, call) -> Exception:
    """The exception of that kind that the call ends with."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")

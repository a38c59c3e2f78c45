"""Run harnesses: `python -m tests.soak [NAME …] [--n N] [--seed S] [--plant P] [--long]`.

Each ends in a line with N, the seed and what broke; the exit status is 1 where something did, or where a
planted bug went unnoticed.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

import tests.soak
from tests.soak.harness import Harness, soak


def harnesses() -> dict[str, Harness]:
    """Every module beside this one that has a `HARNESS`."""
    modules = (
        importlib.import_module(f"tests.soak.{info.name}")
        for info in pkgutil.iter_modules(tests.soak.__path__)
        if info.name != "__main__" and not info.name.startswith("test_")
    )
    found = [module.HARNESS for module in modules if hasattr(module, "HARNESS")]
    return {harness.name: harness for harness in found}


def main() -> int:
    known = harnesses()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--n", type=int, help="how many times, instead of the quick or the long number")
    parser.add_argument("--seed", type=int, help="the same seed does the same harm")
    parser.add_argument("--plant", help="only this planted bug")
    parser.add_argument("--no-plants", action="store_true", help="go to the matter at once")
    parser.add_argument("--long", action="store_true", help="the long number of each: hours in all")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no harness {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    good = True
    for name in options.names or known:
        harness = known[name]
        report = soak(
            harness,
            n=options.n or (harness.long if options.long else harness.quick),
            seed=options.seed,
            plant=options.plant,
            plants=not options.no_plants,
        )
        print(report, flush=True)
        good = good and report.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

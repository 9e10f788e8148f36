"""What `scripts/bench/issuer` runs."""

import argparse
import asyncio
from pathlib import Path

import issuer_issuing
import issuer_lists
from responder import Row, show


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench/issuer")
    parser.add_argument("--quick", action="store_true", help="lists of a million at most, issuing once")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    parser.add_argument("--plot", type=Path, help="draw the time of lists over their size, as SVG")
    parser.add_argument("--only", choices=["lists", "issuing"])
    given = parser.parse_args()
    rows: list[Row] = []
    if given.only != "issuing":
        measured = asyncio.run(issuer_lists.measure(quick=given.quick))
        rows += issuer_lists.rows(measured)
        if given.plot is not None:
            given.plot.write_text(issuer_lists.plot(measured))
    if given.only != "lists":
        rows += issuer_issuing.measure(quick=given.quick)
    show(rows, given.json)


if __name__ == "__main__":
    main()

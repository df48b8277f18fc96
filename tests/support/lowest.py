"""Prints a constraint for every dependency: the lowest version that pyproject.toml allows.

python tests/support/lowest.py > lowest.txt; pip install -c lowest.txt -e '.[test]'
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS = ("mpi", "feeders", "test")


def lowest(project: Path = PROJECT) -> Iterator[str]:
    """name==version for each dependency with a lower bound."""
    table = tomllib.loads(project.read_text())["project"]
    wanted = [*table["dependencies"], *(d for extra in EXTRAS for d in table["optional-dependencies"][extra])]
    for requirement in wanted:
        found = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
        if found:
            yield f"{found[1]}=={found[2]}"
        elif not requirement.startswith(table["name"]):
            raise ValueError(f"{requirement} has no lower bound")


if __name__ == "__main__":
    print("\n".join(lowest()))

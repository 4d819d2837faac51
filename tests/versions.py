"""`python -m tests.versions`: the release of every package of this environment, as constraints for pip and uv.

Public versions only: where a package came from, and for which device it was built, is the machine's own business.
"""

from collections.abc import Iterator
from importlib.metadata import distributions

LEFT_OUT = {"p2zoo", "pip", "setuptools"}


def constraints() -> Iterator[str]:
    """`name==version`, in order of their names."""
    installed = {package.name.lower().replace("_", "-"): package.version for package in distributions()}
    for name, version in sorted(installed.items()):
        if name not in LEFT_OUT:
            yield f"{name}=={version.partition('+')[0]}"


if __name__ == "__main__":
    print("# The versions that `make` installs and the tests ran with. Made by `make constraints`.")
    print(*constraints(), sep="\n")

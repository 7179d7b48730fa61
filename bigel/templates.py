"""The pages' templates, in the folders of the package that hold them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def templates_of(folder: str) -> "Environment":
    """Return the templates of a folder of the package.

    What they are given is escaped, and what they name and are not given is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("bigel", folder), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip

"""Addresses in the configuration: which can be read, and none that holds a secret."""

import re

from pydantic_core import PydanticCustomError

SECRET = re.compile(
    r"[?&](access_key|secret_key|session_token|x-amz-|\w*signature=)", re.IGNORECASE
)


def check_address(value: str) -> str:
    """Return ``data.path`` as it is, if it is a local path or an address without secrets.

    Raises:
        PydanticCustomError: of type "secret", if it holds credentials, or cannot be read and so
            may hold some in a way of its own; nothing of it is in the text.
    """
    scheme, address, rest = value.partition("://")
    if not address:
        return value
    if "@" in rest.partition("/")[0] or SECRET.search(rest):
        raise PydanticCustomError(
            "secret",
            "the address holds credentials; take them out (they are not shown here) and give "
            "them by the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        )
    if scheme != "s3":
        raise PydanticCustomError(
            "secret",
            "of addresses, only s3://BUCKET/… can be read (another was given, which is not shown "
            "here); fetch the files first",
        )
    return value


def check_variable(value: str) -> str:
    """Return the name of an environment variable; an address in its place is not shown.

    Raises:
        PydanticCustomError: of type "secret", if it is no name.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", value):
        raise PydanticCustomError(
            "secret",
            "wants the name of an environment variable that holds the address, not the address "
            "itself (what was given is not shown here)",
        )
    return value

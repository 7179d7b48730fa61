"""The templates of the Data Docs."""

import functools

import jinja2


def template(name: str) -> jinja2.Template:
    """Return a template; every value in it is escaped."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bigel", "contracts/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = lambda time: time.replace("T", " ").replace("+00:00", " UTC")
    return environment

"""What a list leaves out: ``recommend.exclude``, one policy for all behaviors or one for each."""

from collections.abc import Mapping, Sequence

Exclude = str | Mapping[str, str]
SAME, ANY, NONE = "same", "any", "none"
POLICIES = (SAME, ANY, NONE)  # items the user has under the same, any or no behavior


def policy_of(exclude: Exclude, behavior: str) -> str:
    """Return the policy of a behavior's lists; "same" where there is none of its own.

    >>> policy_of("any", "click"), policy_of({"buy": "none"}, "buy"), policy_of({}, "click")
    ('any', 'none', 'same')
    """
    return exclude if isinstance(exclude, str) else exclude.get(behavior, SAME)


def not_same(exclude: Exclude, behaviors: Sequence[str]) -> dict[str, str]:
    """Return the policies that are not "same", under which every figure is measured.

    >>> not_same({"buy": "none"}, ["click", "buy"]), not_same("same", ["click"])
    ({'buy': 'none'}, {})
    """
    policies = {name: policy_of(exclude, name) for name in behaviors}
    return {name: policy for name, policy in policies.items() if policy != SAME}


def hidden_under(exclude: Exclude, asked: Sequence[str], every: Sequence[str]) -> list[str]:
    """Return the behaviors of which something is left out of some lists.

    Args:
        exclude: the policy.
        asked: behaviors of the lists.
        every: all behaviors.

    >>> hidden_under({"buy": "none"}, ["click", "buy"], ["click", "cart", "buy"])
    ['click']
    """
    policies = {name: policy_of(exclude, name) for name in asked}
    if ANY in policies.values():
        return list(every)
    return [name for name in asked if policies[name] == SAME]


def repeated(exclude: Exclude, behaviors: Sequence[str]) -> list[str]:
    """Return the behaviors whose lists may hold what the user has already."""
    return [name for name in behaviors if policy_of(exclude, name) == NONE]

"""BiGEL and its four modules, one file each."""

from bigel.model.bigel import BiGEL

__all__ = ["BiGEL"]

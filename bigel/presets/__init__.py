"""Configurations that ship with bigel, as TOML."""

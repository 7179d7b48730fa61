"""Contracts, reviewed by people; the package data of bigel.contracts."""

"""Flows: Prefect around the stages of bigel, and the command line on top."""

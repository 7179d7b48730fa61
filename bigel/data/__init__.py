"""Pairs of users and items: read, split, filtered, and as CSR."""

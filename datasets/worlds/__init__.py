"""Procedural worlds with exact truth: each a pure function of its random generator."""

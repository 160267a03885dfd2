"""Command line and demos."""

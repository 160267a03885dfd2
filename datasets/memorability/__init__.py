"""Loaders of memorability datasets, one module per official dataset."""

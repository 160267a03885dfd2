"""Datasets of monocular depth estimation."""

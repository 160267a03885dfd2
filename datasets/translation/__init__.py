"""Datasets of image-to-image translation."""

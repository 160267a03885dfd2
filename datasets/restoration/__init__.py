"""Datasets of image restoration."""

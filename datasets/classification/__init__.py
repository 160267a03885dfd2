"""Datasets of image classification."""

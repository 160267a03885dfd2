"""Datasets of human pose estimation."""

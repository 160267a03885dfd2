"""Datasets of view synthesis: photos of scenes with their cameras."""

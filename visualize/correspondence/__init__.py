"""Receptive fields, and image patches that look alike to a network."""

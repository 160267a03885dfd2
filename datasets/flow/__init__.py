"""Datasets of optical flow."""

"""Plumbing of the datasets: geometry, augmentation, random numbers, files, splits and error messages."""

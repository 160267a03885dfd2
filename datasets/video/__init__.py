"""Datasets of clips: folders of videos or frames, lists of stacked JPEG files."""

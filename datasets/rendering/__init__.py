"""Procedural rendering for synthetic datasets with exact ground truth; pure functions of a random generator."""

"""File formats: read and write, nothing else."""

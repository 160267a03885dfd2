"""Depth images of hands, one module per official dataset."""

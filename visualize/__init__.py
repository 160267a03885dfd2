"""Visualization: attribution, feature visualization, correspondence and style transfer, for any PyTorch model."""

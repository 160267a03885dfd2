"""Live inference: frame sources, capture of the newest frames, models, layout, viewers and recording."""

"""Networks that answer while one looks: a source of frames, the newest of them, its answers, and who sees them."""

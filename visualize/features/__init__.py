"""What a network's features are: activations, filters, and images synthesized for them, also with another's style."""

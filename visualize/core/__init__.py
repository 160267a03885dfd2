"""What all methods share: the model and its inputs, targets, gradients and rendering."""

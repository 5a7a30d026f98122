"""The tables that a launch walks: chunks of tensors, expected gradients, the two passes of a step."""

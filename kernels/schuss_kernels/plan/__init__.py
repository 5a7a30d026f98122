"""The tables that a launch reads: chunks of tensors, the last gradients, the two passes of a step."""

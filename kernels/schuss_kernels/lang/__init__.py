"""What a rule is: one scalar update and the numbers it needs, as plain Python."""

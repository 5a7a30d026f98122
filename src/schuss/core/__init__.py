"""What an optimizer is made of: parameters, their states, step counts and scalars."""

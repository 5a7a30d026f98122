"""What the command ``schuss`` does: one module a command, and what they share. Not part of the API."""

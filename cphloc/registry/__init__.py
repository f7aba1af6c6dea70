"""What exists: cards of components and allow-listed names, by kind."""

"""What the book's models are trained on."""

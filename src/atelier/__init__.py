"""atelier: the workshop in which the book is made; its rooms bear the chapters' names."""

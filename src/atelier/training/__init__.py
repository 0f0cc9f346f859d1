"""Recipes, the one training loop, and a short file for each kind of network."""

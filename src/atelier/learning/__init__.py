"""How far the Gaussian carries."""

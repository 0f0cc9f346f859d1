"""GANs beside diffusion models: both are maps from noise to images."""

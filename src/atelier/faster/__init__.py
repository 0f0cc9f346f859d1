"""How few network calls an image needs: samplers, ours and those of diffusers, beside a converged reference."""

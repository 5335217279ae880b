"""Operators with an adjoint and no learned weights: projection, metal, sinogram inpainting, attenuation, noise."""

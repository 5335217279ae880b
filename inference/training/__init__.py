"""Recipes that make the weights this node ships: scenes, networks, losses; torch, numpy, scipy, safetensors only."""

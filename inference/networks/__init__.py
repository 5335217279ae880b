"""The networks of the learned rungs, and what runs them."""

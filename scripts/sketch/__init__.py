"""Train the built-in model: a picture grammar, its pictures, the networks that learn to draw them."""

"""How a model's answers change under corruptions, changes by cameras, and attacks."""

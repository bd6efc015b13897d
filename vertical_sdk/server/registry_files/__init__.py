"""What a served registry keeps besides the registry itself: uploads, their limits for each token, and whether its folder is there."""

"""Where records come from: databases, images, transforms, and the feed to a net."""

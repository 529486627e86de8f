"""What outline models learn from: made scenes, and pictures with phrases and polygons of one's own."""

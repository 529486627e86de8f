"""What outlines are measured by."""

"""Networks: encoders of speech, and what makes tokens of their frames."""

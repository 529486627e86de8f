"""BandControlNet: tracks of a score, decoded in parallel under controls for each bar and track."""

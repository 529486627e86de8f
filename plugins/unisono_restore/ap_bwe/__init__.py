"""AP-BWE: bandwidth extension of amplitude and phase."""

"""Pictures: learned codecs whose files another machine decodes to the same."""

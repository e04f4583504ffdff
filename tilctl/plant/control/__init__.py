"""Control modules: closed loops that follow a reading, one file each, bounded, behind the output gate."""

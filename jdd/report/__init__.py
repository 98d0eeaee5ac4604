"""What a run shows: pictures, tables, lines of progress."""

"""The command line that the scripts in bin/ share."""

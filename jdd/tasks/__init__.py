"""What a distilled set is for: each task measures it, and knows nothing of files and flags."""

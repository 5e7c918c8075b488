"""What a stranger sends, held against every rule."""

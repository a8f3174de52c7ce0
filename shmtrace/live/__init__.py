"""What happens in a channel just now: `look` reads its segment, `screen` shows it in a terminal."""

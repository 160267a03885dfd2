"""The keys, of the window and of the page alike."""

KEYS = {"n": "next task", "p": "pause", "s": "snapshot", "r": "record", "q": "quit"}
HINT = ", ".join(f"{key}: {what}" for key, what in KEYS.items())
